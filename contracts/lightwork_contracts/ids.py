"""Typed identifiers. Ours are `<prefix>_<26 characters of Crockford base32>`, sortable by time."""

from __future__ import annotations

from typing import Annotated, NewType

from pydantic import Field

ListingId = NewType("ListingId", str)
QuoteId = NewType("QuoteId", str)
JobId = NewType("JobId", str)
WithdrawalId = NewType("WithdrawalId", str)
WebhookId = NewType("WebhookId", str)
Pubkey = NewType("Pubkey", str)
"""A BIP340 x-only public key, 64 lower-case hex characters."""
PaymentHash = NewType("PaymentHash", str)
"""SHA-256 of a preimage, 64 lower-case hex characters."""

HEX32 = r"^[0-9a-f]{64}$"
PubkeyField = Annotated[
    Pubkey,
    Field(pattern=HEX32, examples=["f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"]),
]
PaymentHashField = Annotated[PaymentHash, Field(pattern=HEX32)]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def sortable_id(prefix: str, *, now_ms: int, entropy: bytes) -> str:
    """Return an id of 48 bits of time and 80 bits of entropy (10 bytes), so that ids sort by age."""
    if len(entropy) != 10:
        raise ValueError("an id takes 10 bytes of entropy")
    number = ((now_ms & ((1 << 48) - 1)) << 80) | int.from_bytes(entropy, "big")
    digits = "".join(_ALPHABET[(number >> (5 * shift)) & 31] for shift in range(25, -1, -1))
    return f"{prefix}_{digits}"
