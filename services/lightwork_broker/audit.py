"""Comparing the ledger with itself and with the node."""

from __future__ import annotations

from dataclasses import dataclass

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import store as escrows
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import withdrawal_account


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books say, in msat, and what is wrong with them. No breaches: the books are sound."""

    balances: dict[str, int]
    unfinished: int
    unknown: int
    breaches: tuple[str, ...]


async def audit(database: Database) -> Audit:
    """Recompute every balance; accounts of jobs and withdrawals that are over must be zero."""
    async with database.scan() as tx:
        balances = await ledger.balances(tx)
        counts = await escrows.count(tx)
        reserved = {withdrawal_account(one.id) for one in await withdrawals.under_way(tx)}
        between = {f"escrow:{job}" for job in await escrows.paid_out_not_settled(tx)}
    breaches: list[str] = []
    if (total := sum(balances.values())) != 0:
        breaches.append(f"all accounts together are {total} msat, not zero")
    breaches += [
        f"{account} holds {amount} msat although its job is over"
        for account, amount in balances.items()
        if account.startswith("escrow:") and account not in between
    ]
    breaches += [
        f"{account} holds {amount} msat although its withdrawal is over"
        for account, amount in balances.items()
        if account.startswith("withdrawal:") and account not in reserved
    ]
    breaches += [
        f"{account} was overdrawn by {amount} msat"
        for account, amount in balances.items()
        if account.startswith("balance:") and amount > 0
    ]
    return Audit(balances, counts.unfinished, counts.unknown, tuple(breaches))
