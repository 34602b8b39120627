"""The tagged fields of a BOLT11 invoice, read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coincurve import PublicKey

from lightwork_contracts.bolt11.bech32 import to_bytes, to_number
from lightwork_contracts.bolt11.invoice import HOP_BYTES, MAX_NUMBER_WORDS, Hop, RouteHint
from lightwork_contracts.errors import InvoiceCode, InvoiceError
from lightwork_contracts.money import Msat

PAYMENT_HASH, ROUTE_HINT, FEATURES, EXPIRY, FALLBACK = 1, 3, 5, 6, 9
DESCRIPTION, PAYMENT_SECRET, PAYEE, DESCRIPTION_HASH, MIN_FINAL_CLTV, METADATA = 13, 16, 19, 23, 24, 27

_REPEATABLE = frozenset({ROUTE_HINT, FALLBACK})
_KNOWN = {
    PAYMENT_HASH: "p",
    ROUTE_HINT: "r",
    FEATURES: "9",
    EXPIRY: "x",
    FALLBACK: "f",
    DESCRIPTION: "d",
    PAYMENT_SECRET: "s",
    PAYEE: "n",
    DESCRIPTION_HASH: "h",
    MIN_FINAL_CLTV: "c",
    METADATA: "m",
}
_FIXED_WORDS = {PAYMENT_HASH: 52, PAYMENT_SECRET: 52, DESCRIPTION_HASH: 52, PAYEE: 53}
_LAST_FALLBACK_VERSION = 18


def _refuse(message: str) -> InvoiceError:
    return InvoiceError(InvoiceCode.FIELD, message)


class TaggedFields:
    """The fields of one invoice by type; unknown types are skipped.

    A second field of a type that may stand once is refused. LND takes the first, others may take the last: an
    invoice that two programs read differently must not carry an escrow. A field of fixed length with another
    length is refused too, as BOLT 11 has it since June 2025 (before, readers skipped it).
    """

    def __init__(self, words: Sequence[int]) -> None:
        self._single: dict[int, Sequence[int]] = {}
        self._repeated: dict[int, list[Sequence[int]]] = {kind: [] for kind in _REPEATABLE}
        for kind, data in _split(words):
            if kind not in _KNOWN:
                continue
            if len(data) != _FIXED_WORDS.get(kind, len(data)):
                raise _refuse(f"field {_KNOWN[kind]} has {len(data)} words, not {_FIXED_WORDS[kind]}")
            if kind in _REPEATABLE:
                self._repeated[kind].append(data)
            elif kind in self._single:
                raise _refuse(f"field {_KNOWN[kind]} stands twice")
            else:
                self._single[kind] = data

    def content(self, kind: int) -> bytes | None:
        """Return the bytes of a field that may stand once, or None."""
        data = self._single.get(kind)
        return None if data is None else to_bytes(data)

    def number(self, kind: int, *, default: int) -> int:
        """Return the number that a field holds, of at most 35 bits."""
        data = self._single.get(kind)
        if data is None:
            return default
        if len(data) > MAX_NUMBER_WORDS:
            raise _refuse(f"the number in field {_KNOWN[kind]} is too large")
        _require_minimal(kind, data)
        return to_number(data)

    def features(self) -> frozenset[int]:
        """Return the numbers of the feature bits that are set."""
        data = self._single.get(FEATURES, ())
        _require_minimal(FEATURES, data)
        return frozenset(
            5 * place + bit
            for place, word in enumerate(reversed(data))
            for bit in range(5)
            if word >> bit & 1
        )

    def route_hints(self) -> tuple[RouteHint, ...]:
        return tuple(_route_hint(to_bytes(data)) for data in self._repeated[ROUTE_HINT])

    def fallbacks(self) -> tuple[tuple[int, bytes], ...]:
        """Return version and program of each fallback address; unknown versions are skipped."""
        found: list[tuple[int, bytes]] = []
        for data in self._repeated[FALLBACK]:
            if not data:
                raise _refuse("a fallback address has no version")
            if data[0] <= _LAST_FALLBACK_VERSION:
                found.append((data[0], to_bytes(data[1:])))
        return tuple(found)


def _split(words: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    place = 0
    while place < len(words):
        if len(words) - place < 3:
            raise _refuse("the last field is cut off")
        start = place + 3
        end = start + (words[place + 1] << 5 | words[place + 2])
        if end > len(words):
            raise _refuse("a field is longer than the invoice")
        yield words[place], words[start:end]
        place = end


def _require_minimal(kind: int, data: Sequence[int]) -> None:
    if data and data[0] == 0:
        raise _refuse(f"field {_KNOWN[kind]} begins with a zero word")


def _route_hint(data: bytes) -> RouteHint:
    if not data or len(data) % HOP_BYTES:
        raise _refuse("a route hint is not a whole number of hops")
    return tuple(_hop(data[start : start + HOP_BYTES]) for start in range(0, len(data), HOP_BYTES))


def _hop(data: bytes) -> Hop:
    return Hop(
        node=node_key(data[:33]),
        short_channel_id=int.from_bytes(data[33:41], "big"),
        fee_base_msat=Msat(int.from_bytes(data[41:45], "big")),
        fee_proportional_millionths=int.from_bytes(data[45:49], "big"),
        cltv_expiry_delta=int.from_bytes(data[49:51], "big"),
    )


def node_key(data: bytes) -> str:
    """Return the hex of a compressed public key after checking that it is a point of the curve."""
    try:
        PublicKey(data)
    except ValueError:
        raise _refuse("a node's key is not a point of the curve") from None
    return data.hex()
