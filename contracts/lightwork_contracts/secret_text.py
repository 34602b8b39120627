"""A secret text or secret bytes in a box that does not print."""

from __future__ import annotations

import hmac
from typing import Generic, NoReturn, TypeVar, cast

S = TypeVar("S", str, bytes)


class Secret(Generic[S]):
    """Something secret. `repr`, `str`, `format`, tracebacks, pickles and copies show nothing of it."""

    __slots__ = ("_secret",)

    def __init__(self, secret: S) -> None:
        self._secret = secret

    def reveal(self) -> S:
        """Return what is secret. Only for whoever must have it: a node, a signature, a store."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        theirs = cast("Secret[str] | Secret[bytes]", other).reveal()
        return type(theirs) is type(self._secret) and hmac.compare_digest(
            _bytes(self._secret), _bytes(theirs)
        )

    def __hash__(self) -> int:
        return hash(self._secret)

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not copied or pickled")


def _bytes(secret: str | bytes) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret
