"""Deadlines in blocks, counted from the lowest accepted HTLC expiry. Pure.

LND cancels an accepted hold invoice by itself, silently, `hold_expiry_delta` blocks before its HTLC expires.
The guardian acts before that: first there is no time left to pay the provider safely (`release_by`), later the
HTLC must be given back (`refund_by`).
"""

from __future__ import annotations

from dataclasses import dataclass

SPARE_BLOCKS = 3
"""How many blocks may come between the guardian's decision to release and the dispatch of the payout."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Block heights. At `release_by` the last safe payout may start; at `refund_by` the HTLC goes back."""

    release_by: int
    refund_by: int


def deadlines(
    *, min_expiry_height: int, hold_expiry_delta: int, margin_blocks: int, outgoing_cltv_blocks: int
) -> Deadlines:
    """Return the heights at which the guardian acts for one accepted escrow (W7)."""
    refund_by = min_expiry_height - hold_expiry_delta - margin_blocks
    return Deadlines(release_by=refund_by - outgoing_cltv_blocks - SPARE_BLOCKS, refund_by=refund_by)


def outgoing_cltv_limit(
    *, min_expiry_height: int, height: int, hold_expiry_delta: int, margin_blocks: int, max_blocks: int
) -> int:
    """Return how many blocks the payout may be locked for: it must end well before the incoming HTLC does.

    Zero or less means that a payout is no longer safe.
    """
    return min(min_expiry_height - hold_expiry_delta - margin_blocks - height, max_blocks)
