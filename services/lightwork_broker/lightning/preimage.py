"""The secret that settles a hold invoice, in a box that does not print."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from lightwork_contracts.ids import PaymentHash

PREIMAGE_BYTES: Final = 32


class Preimage:
    """Thirty-two secret bytes. `repr`, `str`, `format` and tracebacks show only the word `Preimage`."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Take the 32 bytes; the error for any other length does not show them."""
        if len(secret) != PREIMAGE_BYTES:
            raise ValueError(f"a preimage is {PREIMAGE_BYTES} bytes, not {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def from_hex(cls, text: str) -> Preimage:
        """Read 64 hex characters; the error for anything else does not show them."""
        try:
            secret = bytes.fromhex(text)
        except ValueError:
            raise ValueError("a preimage is 64 hex characters") from None
        return cls(secret)

    @property
    def payment_hash(self) -> PaymentHash:
        """SHA-256 of the secret: the hash that this preimage opens."""
        return PaymentHash(hashlib.sha256(self._secret).hexdigest())

    def matches(self, payment_hash: PaymentHash) -> bool:
        """Say whether this preimage opens `payment_hash`."""
        return hmac.compare_digest(self.payment_hash, payment_hash)

    def hex(self) -> str:
        """Return the secret as 64 hex characters. Only for the node and for encrypted storage."""
        return self._secret.hex()

    def reveal(self) -> bytes:
        """Return the 32 secret bytes. Only for the node and for encrypted storage."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Preimage):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.payment_hash)

    def __repr__(self) -> str:
        return "Preimage(...)"

    def __reduce__(self) -> str:
        raise TypeError("a preimage is not pickled: store it encrypted, through hex()")


def boxed(text: str | None) -> Preimage | None:
    """Return what a row holds in its box; the error for what is no preimage does not show it."""
    return None if text is None else Preimage.from_hex(text)


def stored(value: object) -> object:
    """Return what a row is to hold: a preimage as hex, anything else as it is."""
    return value.hex() if isinstance(value, Preimage) else value
