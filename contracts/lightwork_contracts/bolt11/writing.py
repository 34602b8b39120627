"""Write a BOLT11 invoice, for a node or a wallet of our own (tests, the simulated network)."""

from __future__ import annotations

from typing import Protocol

from coincurve import PrivateKey

from lightwork_contracts.bolt11 import bech32, fields
from lightwork_contracts.bolt11.invoice import (
    DEFAULT_EXPIRY_SECONDS,
    MAX_NUMBER_WORDS,
    PREFIXES,
    Network,
    RouteHint,
)
from lightwork_contracts.bolt11.reading import PICO_BTC, TIMESTAMP_WORDS
from lightwork_contracts.money import MAX_MSAT, Msat

MAX_FIELD_WORDS = 1023
MIN_FINAL_CLTV = 18


class _Signer(Protocol):
    def sign_recoverable(self, message: bytes, /) -> bytes: ...


_PREFIX_OF = {network: prefix for prefix, network in PREFIXES.items()}


def write_invoice(
    *,
    network: Network,
    amount_msat: Msat | None,
    timestamp: int,
    payment_hash: str,
    payment_secret: str,
    private_key: bytes,
    description: str | None = None,
    description_hash: str | None = None,
    expiry_seconds: int = DEFAULT_EXPIRY_SECONDS,
    min_final_cltv: int = MIN_FINAL_CLTV,
    features: frozenset[int] = frozenset({8, 14}),
    route_hints: tuple[RouteHint, ...] = (),
    metadata: bytes | None = None,
    names_payee: bool = False,
) -> str:
    """Return the text of an invoice signed by `private_key` (32 bytes); `names_payee` adds the field `n`.

    Amount in msat; times in seconds; hashes, secret and node keys in hex.

    Raises:
        ValueError: a value does not fit where BOLT 11 puts it, or not exactly one description is given.
    """
    if (description is None) == (description_hash is None):
        raise ValueError("an invoice has a description or the hash of one, and not both")
    key = PrivateKey(private_key)
    words = _number_words(timestamp)
    words = [0] * (TIMESTAMP_WORDS - len(words)) + words
    words += _bytes_field(fields.PAYMENT_HASH, _hex32(payment_hash))
    words += _bytes_field(fields.PAYMENT_SECRET, _hex32(payment_secret))
    if description is not None:
        words += _bytes_field(fields.DESCRIPTION, description.encode())
    if description_hash is not None:
        words += _bytes_field(fields.DESCRIPTION_HASH, _hex32(description_hash))
    if metadata is not None:
        words += _bytes_field(fields.METADATA, metadata)
    if names_payee:
        words += _bytes_field(fields.PAYEE, key.public_key.format())
    if expiry_seconds != DEFAULT_EXPIRY_SECONDS:
        words += _field(fields.EXPIRY, _number_words(expiry_seconds))
    words += _field(fields.MIN_FINAL_CLTV, _number_words(min_final_cltv))
    for hint in route_hints:
        words += _bytes_field(fields.ROUTE_HINT, _hint_bytes(hint))
    if features:
        words += _field(fields.FEATURES, _feature_words(features))
    prefix = f"ln{_PREFIX_OF[network]}{_amount(amount_msat)}"
    signature = _sign(key, prefix.encode() + bech32.to_padded_bytes(words))
    text = bech32.encode(prefix, words + bech32.to_words(signature))
    if len(text) > bech32.MAX_INVOICE_CHARACTERS:
        raise ValueError(f"the invoice would have {len(text)} characters")
    return text


def _sign(signer: _Signer, message: bytes) -> bytes:
    return signer.sign_recoverable(message)


def _amount(amount_msat: Msat | None) -> str:
    """Return the shortest form of an amount in msat."""
    if amount_msat is None:
        return ""
    if not 1 <= amount_msat <= MAX_MSAT:
        raise ValueError("an amount is between 1 msat and 21 million BTC")
    for letter, pico in PICO_BTC.items():
        if amount_msat * 10 % pico == 0:
            return f"{amount_msat * 10 // pico}{letter}"
    raise AssertionError("every whole number of msat is a whole number of pico-bitcoin")


def _hex32(text: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != 32:
        raise ValueError("a hash or secret has 32 bytes")
    return data


def _number_words(number: int) -> list[int]:
    if not 0 <= number < 1 << 5 * MAX_NUMBER_WORDS:
        raise ValueError(f"{number} does not fit in 35 bits")
    count = -(-number.bit_length() // 5)
    return [number >> 5 * place & 31 for place in range(count - 1, -1, -1)]


def _feature_words(features: frozenset[int]) -> list[int]:
    words = [0] * (max(features) // 5 + 1)
    for bit in features:
        words[-1 - bit // 5] |= 1 << bit % 5
    return words


def _hint_bytes(hint: RouteHint) -> bytes:
    return b"".join(
        bytes.fromhex(hop.node)
        + hop.short_channel_id.to_bytes(8, "big")
        + hop.fee_base_msat.to_bytes(4, "big")
        + hop.fee_proportional_millionths.to_bytes(4, "big")
        + hop.cltv_expiry_delta.to_bytes(2, "big")
        for hop in hint
    )


def _bytes_field(kind: int, data: bytes) -> list[int]:
    return _field(kind, bech32.to_words(data))


def _field(kind: int, data: list[int]) -> list[int]:
    if len(data) > MAX_FIELD_WORDS:
        raise ValueError(f"a field holds at most {MAX_FIELD_WORDS * 5 // 8} bytes")
    return [kind, len(data) >> 5, len(data) & 31, *data]
