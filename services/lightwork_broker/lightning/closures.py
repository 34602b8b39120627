"""What became of HTLCs that came in, and of channels that were closed by force: one more narrow view of a node.

An invoice that the node calls settled says what the node has decided, not what its channels have: the HTLC may go back
to the other end all the same, mostly on the chain, and it may be claimed although the invoice was never settled.
Amounts are msat, but those that the chain shows, which are whole satoshis.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

ChannelNumber = int
"""A short channel id (BOLT 7) as one number: block, transaction and output where the channel was opened."""


NOTHING = Msat(0)


class HtlcEnd(StrEnum):
    """What became of an HTLC that came in for us. Only TAKEN and RETURNED are final."""

    TAKEN = "taken"
    """We have its money, whether the channel or the chain gave it."""
    RETURNED = "returned"
    """Its sender has the money back, or nobody but its sender can take it any more."""
    WAITING = "waiting"
    """The node knows of no end yet: it is in its channel, or was before the node began to keep a record."""
    UNTOLD = "untold"
    """The node keeps no record of single HTLCs (LND: store-final-htlc-resolutions), or kept none then."""
    UNASKED = "unasked"
    """We may not ask (LND: a macaroon without LookupHtlcResolution); with a better one, the answer may still be had."""

    @property
    def is_final(self) -> bool:
        return self in (HtlcEnd.TAKEN, HtlcEnd.RETURNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingHtlc:
    """One HTLC that paid an invoice of ours.

    `is_settled` is what the invoice says of it, `end` what the channel or the chain says.
    """

    channel: ChannelNumber
    amount_msat: Msat
    is_settled: bool
    end: HtlcEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """A channel that was closed by one end alone, or is being closed in any way.

    `channel` and `height` are None until nothing of it is on its way any more: LND does not tell them sooner.
    `taken_sat` and `returned_sat` are the amounts of the HTLCs that came in and ended on the chain; those too small
    for an output of their own are not among them (BOLT 3: trimmed).
    """

    point: str
    channel: ChannelNumber | None = None
    height: int | None = None
    limbo_msat: Msat = NOTHING
    taken_sat: tuple[int, ...] = ()
    returned_sat: tuple[int, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing of ours is on its way on the chain any more."""
        return self.height is not None


class Closures(Protocol):
    """What the chain says, compared with what the channels and invoices say."""

    async def closures(self) -> tuple[Closure, ...]:
        """Return every channel that was closed by force, and every one whose money is on its way on the chain.

        Raises: PermissionMissing, when the node does not let us ask.
        """
        ...

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        """Return the HTLCs of our invoice, through whichever channel each came; none of an invoice that is not there.

        Raises: PermissionMissing, when the node does not let us ask.
        """
        ...
