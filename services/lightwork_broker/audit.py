"""Comparing the ledger with itself and with the node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.chain_audit import OnChain
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import store as escrows
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.orphans import find_orphans, is_ours
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, withdrawal_account
from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState, LightningNode, Payout, PayoutStatus
from lightwork_contracts.bolt11 import InvoiceError, read_invoice
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.wire.accounts import WithdrawalStatus

AT_ONCE = 16
"""Questions to the node at the same time."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books say, in msat, and what is wrong with them. No breaches: the books are sound."""

    balances: dict[str, int]
    unfinished: int
    unknown: int
    breaches: tuple[str, ...]
    withdrawals_stopped: str | None = None
    """Why no withdrawal is taken on, until the operator acknowledges it."""
    node: NodeMoney | None = None
    doubts: tuple[str, ...] = ()
    """What the node does not say clearly enough to be a breach."""


@dataclass(frozen=True, slots=True)
class NodeMoney:
    """What the node has, against the books. Msat.

    `outside_msat` is by how much the channels, with what is on its way out of them on the chain, differ from what they
    held at the start and the books explain since: channels that were opened or closed, and payments that are not the
    broker's. None if the start was not recorded. `limbo_msat` is what is on its way on the chain out of `closing`
    channels; None if we may not ask.
    """

    channels_msat: int
    limbo_msat: int | None
    closing: int
    outside_msat: int | None
    owed_msat: int
    held_msat: int
    holds: int


async def audit(database: Database) -> Audit:
    """Recompute every balance; accounts of jobs and withdrawals that are over must be zero."""
    async with database.scan() as tx:
        balances = await ledger.balances(tx)
        counts = await escrows.count(tx)
        reserved = {withdrawal_account(one.id) for one in await withdrawals.under_way(tx)}
        between = {f"escrow:{job}" for job in await escrows.paid_out_not_settled(tx)}
        stopped = await withdrawals.stopped(tx)
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
    return Audit(balances, counts.unfinished, counts.unknown, tuple(breaches), withdrawals_stopped=stopped)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where the node says otherwise than the books, and of how many payments it did not say anything."""

    breaches: tuple[str, ...]
    unanswered: int


async def compare_with_node(database: Database, node: LightningNode, *, since: float = 0) -> Comparison:
    """Ask the node about every escrow and withdrawal that has ended since then.

    Raises:
        LightningError: the node gave no answer, so nothing is known.
    """
    async with database.scan() as tx:
        ended = await escrows.ended(tx, since=since)
        paid = await withdrawals.ended(tx, since=since)
    gate = asyncio.Semaphore(AT_ONCE)

    unanswered = 0

    def count(payout: Payout | None) -> None:
        nonlocal unanswered
        unanswered += payout is not None and payout.status is PayoutStatus.UNKNOWN

    async def escrow(one: Escrow) -> list[str]:
        async with gate:
            hold = await node.lookup(one.payment_hash)
            payout = await node.track(one.payment_hash) if one.mode is PaymentMode.ESCROW else None
        count(payout)
        return _escrow_breaches(one, hold, payout)

    async def withdrawal(one: Withdrawal) -> list[str]:
        async with gate:
            payout = await node.track(one.payment_hash)
        count(payout)
        return _withdrawal_breaches(one, payout)

    found = await asyncio.gather(*map(escrow, ended), *map(withdrawal, paid))
    return Comparison(tuple(breach for breaches in found for breach in breaches), unanswered)


async def compare_money(
    database: Database, node: LightningNode, *, owner: Pubkey, chain: OnChain
) -> tuple[NodeMoney, list[str]]:
    """Compare the channels and the payments that wait with the books; return both, and what is wrong.

    `chain` is what is on its way on the chain: a channel that is being closed is no hole.

    While jobs are under way the figures are of slightly different moments; at rest they are exact.

    Raises:
        LightningError: the node gave no answer, or may not be asked.
    """
    orphans = await find_orphans(database, node, owner=owner)
    holds = [hold for hold in await node.pending_holds() if is_ours(hold, owner)]
    channels = await node.local_balance_msat()
    async with database.scan() as tx:
        balances, opening = await ledger.balances(tx), await ledger.opening_msat(tx)
    owed = -sum(
        amount for account, amount in balances.items() if account.startswith(("balance:", "withdrawal:"))
    )
    ours = channels + (chain.limbo_msat or 0)
    money = NodeMoney(
        channels_msat=channels,
        limbo_msat=chain.limbo_msat,
        closing=chain.channels,
        outside_msat=None if opening is None else ours - opening - balances.get(NODE, 0),
        owed_msat=owed,
        held_msat=sum(hold.accepted_msat for hold in holds),
        holds=len(holds),
    )
    breaches = [
        f"the node holds {hold.accepted_msat} msat for {hold.memo!r} ({hold.state}), of which the books know nothing"
        for hold in orphans
    ]
    if owed > ours:
        breaches.append(f"agents are owed {owed} msat, and the node's channels hold {ours} msat")
    return money, breaches


def _escrow_breaches(escrow: Escrow, hold: HoldInvoice | None, payout: Payout | None) -> list[str]:
    if hold is not None and _is_foreign(escrow, hold):
        return []  # nor is what was paid under its hash
    breaches: list[str] = []
    settled = hold is not None and hold.state is InvoiceState.SETTLED
    waits = hold is not None and not hold.state.is_final
    if escrow.state is EscrowState.SETTLED and not settled:
        breaches.append(f"{escrow.id} is settled, the node says {None if hold is None else hold.state}")
    if hold is not None and settled and escrow.state is not EscrowState.SETTLED:
        breaches.append(f"{escrow.id} is {escrow.state}, but the node has settled its invoice")
    # More is no breach: whoever knows the preimage may send it along once more, and LND takes that.
    if hold is not None and settled and hold.accepted_msat < (escrow.accepted_msat or 0):
        breaches.append(f"{escrow.id} took {hold.accepted_msat} msat, the books say {escrow.accepted_msat}")
    if waits:
        breaches.append(f"{escrow.id} is {escrow.state}, but the node still has its invoice open")
    cost = max(escrow.routing_paid_msat or 0, (payout and payout.fee_msat) or 0)
    if cost > escrow.routing_msat:
        breaches.append(
            f"{escrow.id} cost {cost} msat of routing, more than the {escrow.routing_msat} msat that were allowed"
        )
    if payout is None or payout.status is PayoutStatus.UNKNOWN:
        return breaches
    should = escrow.state in (EscrowState.SETTLED, EscrowState.LOST)
    if should != (payout.status is PayoutStatus.SUCCEEDED):
        breaches.append(f"{escrow.id} is {escrow.state}, the node says its payout has {payout.status}")
    elif should and cost <= escrow.routing_msat and payout.fee_msat != escrow.routing_paid_msat:
        breaches.append(
            f"{escrow.id} cost {payout.fee_msat} msat of routing, the books say {escrow.routing_paid_msat}"
        )
    return breaches


def _is_foreign(escrow: Escrow, hold: HoldInvoice) -> bool:
    """Tell whether an invoice under an escrow's hash is not the escrow's: a provider may have chosen that hash."""
    if escrow.hold_invoice is not None or escrow.state is not EscrowState.CANCELED:
        return False
    try:
        return read_invoice(hold.payment_request).description != escrow.memo
    except InvoiceError:
        return True  # a spontaneous payment leaves an invoice without a text


def _withdrawal_breaches(withdrawal: Withdrawal, payout: Payout) -> list[str]:
    cost = max(withdrawal.fee_paid_msat or 0, payout.fee_msat or 0)
    if cost > withdrawal.max_fee_msat:
        return [
            f"{withdrawal.id} cost {cost} msat, more than the {withdrawal.max_fee_msat} msat that were allowed"
        ]
    if payout.status is PayoutStatus.UNKNOWN:
        return []
    paid = withdrawal.status is WithdrawalStatus.PAID
    if paid != (payout.status is PayoutStatus.SUCCEEDED):
        return [f"{withdrawal.id} is {withdrawal.status}, the node says its payment has {payout.status}"]
    if paid and payout.fee_msat != withdrawal.fee_paid_msat:
        return [f"{withdrawal.id} cost {payout.fee_msat} msat, the books say {withdrawal.fee_paid_msat}"]
    return []
