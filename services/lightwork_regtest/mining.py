"""How many blocks may be mined while HTLCs are held: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

HOLD_EXPIRY_DELTA = 18
"""LND 0.21 cancels a held invoice once height + 18 reaches the lowest expiry of its accepted HTLCs."""


def highest_safe_blocks(height: int, expiry_heights: Iterable[int]) -> int | None:
    """Return how many blocks can be mined before LND would act on a held HTLC; None when none is held.

    Source: invoices.holdexpirydelta, whose default is 18 blocks in LND 0.21.
    """
    lowest = min(expiry_heights, default=None)
    if lowest is None:
        return None
    return max(0, lowest - HOLD_EXPIRY_DELTA - 1 - height)
