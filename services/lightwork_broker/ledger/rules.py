"""Double entry in msat: which accounts exist, and what a balanced posting is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lightwork_contracts.ids import JobId, Pubkey, WithdrawalId
from lightwork_contracts.money import MAX_MSAT

NODE = "assets:node"
"""What the broker's own Lightning node has gained (positive) or spent (negative) through jobs."""
FEES = "income:fees"
ROUTING_UNSPENT = "income:routing-unspent"
LOSSES = "expenses:losses"


def escrow_account(job_id: JobId) -> str:
    """Return the account of one job; it is zero before the payout and after the settlement."""
    return f"escrow:{job_id}"


BALANCES = "balance:"
"""How the accounts of what is owed to agents begin."""


def balance_account(agent: Pubkey) -> str:
    """Return the account of what the broker owes an agent; a credit, so its balance is zero or negative."""
    return f"{BALANCES}{agent}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a posting: positive debits the account, negative credits it. Msat."""

    account: str
    amount_msat: int


@dataclass(frozen=True, slots=True)
class Posting:
    """A balanced set of entries with a key that makes it idempotent and a cause that explains it."""

    key: str
    cause: str
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        if not self.key.strip() or not self.cause.strip():
            raise ValueError(f"a posting has a key and a cause: {self.key!r}, {self.cause!r}")
        for entry in self.entries:
            if type(entry.amount_msat) is not int or not 0 < abs(entry.amount_msat) <= MAX_MSAT:
                raise ValueError(f"an entry needs a whole amount within 21 million BTC: {entry}")
        if len(self.entries) < 2 or sum(entry.amount_msat for entry in self.entries) != 0:
            raise ValueError(f"the posting {self.key} does not balance: {self.entries}")


def payout_posting(job_id: JobId, *, price_msat: int, routing_msat: int) -> Posting:
    """The provider was paid: the node is poorer by price and routing, which the job's escrow owes it."""
    spent = price_msat + routing_msat
    return Posting(
        key=f"payout:{job_id}",
        cause=f"provider paid for {job_id}",
        entries=(Entry(escrow_account(job_id), spent), Entry(NODE, -spent)),
    )


def settlement_posting(
    job_id: JobId, *, received_msat: int, price_msat: int, routing_msat: int, fee_msat: int
) -> Posting:
    """The buyer's HTLC settled: the escrow account closes into the fee and the unspent routing budget."""
    unspent = received_msat - price_msat - routing_msat - fee_msat
    entries = [
        Entry(NODE, received_msat),
        Entry(escrow_account(job_id), -(price_msat + routing_msat)),
    ]
    if fee_msat:
        entries.append(Entry(FEES, -fee_msat))
    if unspent:
        entries.append(Entry(ROUTING_UNSPENT, -unspent))
    return Posting(key=f"settle:{job_id}", cause=f"buyer's payment for {job_id}", entries=tuple(entries))


def credit_posting(
    job_id: JobId, *, provider: Pubkey, received_msat: int, price_msat: int, fee_msat: int
) -> Posting:
    """The buyer's HTLC of a job in credit mode settled: the price is owed to the provider from now on."""
    unspent = received_msat - price_msat - fee_msat
    entries = [Entry(NODE, received_msat), Entry(balance_account(provider), -price_msat)]
    if fee_msat:
        entries.append(Entry(FEES, -fee_msat))
    if unspent:
        entries.append(Entry(ROUTING_UNSPENT, -unspent))
    return Posting(key=f"settle:{job_id}", cause=f"buyer's payment for {job_id}", entries=tuple(entries))


def withdrawal_account(withdrawal_id: WithdrawalId) -> str:
    """Return the account of one withdrawal; it is zero unless the withdrawal is under way."""
    return f"withdrawal:{withdrawal_id}"


def reserve_posting(withdrawal_id: WithdrawalId, *, agent: Pubkey, reserved_msat: int) -> Posting:
    """A withdrawal was asked for: amount and routing budget leave the balance until the outcome is known."""
    return Posting(
        key=f"withdraw:{withdrawal_id}",
        cause=f"withdrawal {withdrawal_id}",
        entries=(
            Entry(balance_account(agent), reserved_msat),
            Entry(withdrawal_account(withdrawal_id), -reserved_msat),
        ),
    )


def withdrawn_posting(
    withdrawal_id: WithdrawalId, *, agent: Pubkey, amount_msat: int, max_fee_msat: int, fee_msat: int
) -> Posting:
    """A withdrawal was paid: the node is poorer by amount and fee, and unused budget goes back to the balance."""
    entries = [
        Entry(withdrawal_account(withdrawal_id), amount_msat + max_fee_msat),
        Entry(NODE, -(amount_msat + fee_msat)),
    ]
    if fee_msat < max_fee_msat:
        entries.append(Entry(balance_account(agent), fee_msat - max_fee_msat))
    if fee_msat > max_fee_msat:
        entries.append(Entry(LOSSES, fee_msat - max_fee_msat))
    return Posting(
        key=f"withdrawn:{withdrawal_id}", cause=f"withdrawal {withdrawal_id} paid", entries=tuple(entries)
    )


def unreserve_posting(withdrawal_id: WithdrawalId, *, agent: Pubkey, reserved_msat: int) -> Posting:
    """A withdrawal failed for good: what was reserved is owed again."""
    return Posting(
        key=f"withdraw-failed:{withdrawal_id}",
        cause=f"withdrawal {withdrawal_id} failed",
        entries=(
            Entry(withdrawal_account(withdrawal_id), reserved_msat),
            Entry(balance_account(agent), -reserved_msat),
        ),
    )


def loss_posting(job_id: JobId, *, spent_msat: int) -> Posting:
    """The provider was paid but the buyer's HTLC was gone: the broker bears it, visibly."""
    return Posting(
        key=f"loss:{job_id}",
        cause=f"the buyer's HTLC for {job_id} was gone before it could be settled",
        entries=(Entry(LOSSES, spent_msat), Entry(escrow_account(job_id), -spent_msat)),
    )


ON_CHAIN = "chain:"
"""How the keys of postings begin that follow the chain where it says otherwise than a settled or cancelled invoice."""


def chain_posting(subject: str, *, lost_msat: int, booked_msat: int) -> Posting:
    """The chain gave back what was booked as taken; below zero the reverse. `booked_msat` was booked of it before."""
    return Posting(
        key=f"{ON_CHAIN}{subject}={booked_msat + lost_msat}",
        cause=f"what became of the HTLCs of {subject}",
        entries=(Entry(LOSSES, lost_msat), Entry(NODE, -lost_msat)),
    )
