"""Channels: who owns what in them, what waits in them, and on which terms they forward.

Amounts are msat, time locks blocks. Nothing here awaits, reads a clock or draws a random number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.ports import PayoutFailure
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

SLOTS: Final = 483
"""HTLCs that one channel holds in one direction (BOLT 2: max_accepted_htlcs)."""

RESERVE_PPM: Final = 10_000
"""What each side must keep of the capacity, so that it has something to lose (LND: 1 %)."""


FEE_BASE: Final = Msat(1_000)
MIN_HTLC: Final = Msat(1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """On which terms a node sends an HTLC out over a channel. The defaults are LND's."""

    fee_base_msat: Msat = FEE_BASE
    fee_ppm: int = 1
    cltv_delta: int = 80
    min_htlc_msat: Msat = MIN_HTLC

    def fee(self, amount: int) -> int:
        """Return what forwarding `amount` msat costs, in msat."""
        return self.fee_base_msat + amount * self.fee_ppm // 1_000_000


@dataclass(slots=True, eq=False, kw_only=True)
class Htlc:
    """Money on its way through one channel, from `sender` to `receiver`, until it is settled or fails.

    `ending` is what the receiver has decided and the sender has not heard yet, because one of them is away.
    `on_chain` is how it ended on the chain, None if it did not; `end` how it ended wherever.
    """

    number: int
    channel: Channel
    sender: str
    receiver: str
    payment_hash: PaymentHash
    amount_msat: int
    expiry_height: int
    upstream: Htlc | None = None
    ending: Ending | None = None
    on_chain: HtlcEnd | None = None
    end: HtlcEnd = HtlcEnd.WAITING


@dataclass(frozen=True, slots=True)
class Ending:
    """How an HTLC ends: with a preimage (hex), or with a failure that travels back to the payer."""

    preimage: str | None = field(default=None, repr=False)
    failure: PayoutFailure = PayoutFailure.INCORRECT_PAYMENT_DETAILS


@dataclass(slots=True, eq=False)
class Channel:
    """A channel between two nodes. What both own and what waits always adds up to the capacity."""

    number: int
    ends: tuple[str, str]
    capacity_msat: int
    balances: dict[str, int]
    policies: dict[str, Policy]
    announced: bool = True
    htlcs: dict[int, Htlc] = field(default_factory=dict[int, Htlc])
    on_chain: list[Htlc] = field(default_factory=list[Htlc])
    """Those that ended on the chain; a real channel would have been closed for the first of them."""
    closed_at: int | None = None

    def peer_of(self, node: str) -> str:
        return self.ends[1] if node == self.ends[0] else self.ends[0]

    @property
    def reserve_msat(self) -> int:
        return self.capacity_msat * RESERVE_PPM // 1_000_000

    @property
    def largest_msat(self) -> int:
        """The largest HTLC that the graph promises, whoever owns the money now."""
        return self.capacity_msat - self.reserve_msat

    def sent_by(self, node: str) -> int:
        """Return how many HTLCs of `node` wait in here."""
        return sum(htlc.sender == node for htlc in self.htlcs.values())

    def spendable_msat(self, node: str) -> int:
        """Return what `node` could send in one HTLC now: nothing when every slot is taken."""
        if self.sent_by(node) >= SLOTS:
            return 0
        return max(0, self.balances[node] - self.reserve_msat)

    def owned_msat(self, node: str) -> int:
        """Return what is the node's: its side, and what it has sent that is not settled."""
        waiting = sum(htlc.amount_msat for htlc in self.htlcs.values() if htlc.sender == node)
        return self.balances[node] + waiting

    def lock(self, htlc: Htlc) -> None:
        """Take the amount from the sender's side; it belongs to nobody until the HTLC ends."""
        if htlc.amount_msat > self.spendable_msat(htlc.sender):
            raise ValueError("an HTLC takes more than its sender can spend in this channel")
        self.balances[htlc.sender] -= htlc.amount_msat
        self.htlcs[htlc.number] = htlc

    def release(self, htlc: Htlc, *, to: str) -> None:
        """End the HTLC: the amount goes to `to`, one of the two ends."""
        htlc.end = HtlcEnd.TAKEN if to == htlc.receiver else HtlcEnd.RETURNED
        del self.htlcs[htlc.number]
        self.balances[to] += htlc.amount_msat

    def end_on_chain(self, htlc: Htlc, end: HtlcEnd, *, height: int) -> None:
        """Note that the chain decides this HTLC; who has its money then is for `release`."""
        htlc.on_chain = htlc.end = end
        self.on_chain.append(htlc)
        self.closed_at = height if self.closed_at is None else self.closed_at

    @property
    def is_whole(self) -> bool:
        """Whether no msat was made or lost: an invariant, for tests."""
        waiting = sum(htlc.amount_msat for htlc in self.htlcs.values())
        return sum(self.balances.values()) + waiting == self.capacity_msat
