"""The Nostr event kinds that Lightwork signs. Stable: a number is never reused."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """NIP-01: 1000-9999 are regular events, 20000-29999 are never stored, 30000-39999 are addressable."""

    LISTING = 38400
    COMMITMENT = 8400
    QUOTE = 8401
    HTTP_AUTH = 27235


LISTING = Kind.LISTING
"""A task's advert; addressable, so the newest one of a key and a `d` tag (the task's name) stands for it."""
COMMITMENT = Kind.COMMITMENT
"""The provider's promise that one invoice is its price for one input."""
QUOTE = Kind.QUOTE
"""The broker's price for one input, with every limit of the job."""
HTTP_AUTH = Kind.HTTP_AUTH
"""A signed HTTP request (NIP-98)."""
