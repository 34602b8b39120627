"""How much the broker lets itself owe one agent in credit mode: what it could run away with."""

from __future__ import annotations

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.db.engine import Transaction
from lightwork_broker.errors import CreditCeiling
from lightwork_broker.escrow import store
from lightwork_broker.escrow.wrap import Limits
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import BALANCES, balance_account
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.money import Msat


async def require_below_ceiling(
    tx: Transaction, provider: Pubkey, *, price_msat: Msat, limits: Limits
) -> None:
    """Refuse a job in credit mode after which the broker might owe more than a ceiling: to its provider, or to all.

    What is owed and what is under way count together, so that no order of settlements goes above it.

    Raises:
        CreditCeiling
    """
    # What is being withdrawn is owed until it is paid: it comes back if it fails.
    leaving = await withdrawals.under_way(tx)
    withdrawing = sum(one.reserved_msat for one in leaving if one.agent == provider)
    owed = withdrawing - await ledger.balance(tx, balance_account(provider))
    under_way = await store.credit_under_way(tx, provider)
    _require("one agent", price_msat, owed=owed, under_way=under_way, ceiling=limits.credit_ceiling_msat)
    if limits.credit_ceiling_msat_of_all:
        withdrawing_all = sum(one.reserved_msat for one in leaving)
        _require(
            "all agents together",
            price_msat,
            owed=withdrawing_all - await ledger.balance_of_all(tx, BALANCES),
            under_way=await store.credit_under_way(tx),
            ceiling=limits.credit_ceiling_msat_of_all,
        )


def _require(whom: str, price_msat: Msat, *, owed: int, under_way: int, ceiling: Msat) -> None:
    if owed + under_way + price_msat > ceiling:
        # In the detail, not in a hint: at a quote, this is what the buyer gets to read.
        raise CreditCeiling(
            f"this broker lets itself owe {whom} {ceiling} msat; {owed} msat are owed, "
            f"{under_way} msat are under way, and this job is for {price_msat} msat: "
            "the provider must withdraw first",
            context={"ceiling_msat": int(ceiling), "owed_msat": owed, "under_way_msat": under_way},
        )
