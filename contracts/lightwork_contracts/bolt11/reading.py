"""Read a BOLT11 invoice, refusing everything that two programs could read differently.

Source: BOLT 11 (11-payment-encoding.md of the Lightning specification), reader requirements.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from coincurve import PublicKey

from lightwork_contracts.bolt11 import bech32, fields
from lightwork_contracts.bolt11.invoice import (
    DEFAULT_EXPIRY_SECONDS,
    DEFAULT_MIN_FINAL_CLTV,
    FEATURE_DEPENDENCIES,
    KNOWN_REQUIRED_FEATURES,
    PREFIXES,
    Invoice,
    Network,
)
from lightwork_contracts.errors import InvoiceCode, InvoiceError
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MAX_MSAT, Msat

TIMESTAMP_WORDS = 7
SIGNATURE_WORDS = 104
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

PICO_BTC = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
"""A multiplier letter in pico-bitcoin; one msat is ten of them."""

_PREFIX = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([1-9][0-9]{0,19})([munp]?))?")
_NETWORK = re.compile(r"ln(bcrt|bc|tbs|tb)([0-9].*)?")


def read_invoice(text: str) -> Invoice:
    """Return what an invoice says, after checking its checksum and its signature. Amounts are msat.

    Raises:
        InvoiceError: with the code of what is wrong; nothing else is ever raised for any text.
    """
    prefix, words = bech32.decode(text)
    network, amount = _read_prefix(prefix)
    if len(words) < TIMESTAMP_WORDS + SIGNATURE_WORDS:
        raise InvoiceError(InvoiceCode.MALFORMED, "the invoice is too short for a timestamp and a signature")
    data, signature = words[:-SIGNATURE_WORDS], words[-SIGNATURE_WORDS:]
    tagged = fields.TaggedFields(data[TIMESTAMP_WORDS:])

    payment_hash = tagged.content(fields.PAYMENT_HASH)
    payment_secret = tagged.content(fields.PAYMENT_SECRET)
    if payment_hash is None:
        raise InvoiceError(InvoiceCode.FIELD, "the invoice has no payment hash")
    if payment_secret is None:
        raise InvoiceError(InvoiceCode.FIELD, "the invoice has no payment secret")
    description, description_hash = _read_descriptions(tagged)
    features = tagged.features()
    _check_features(features)
    return Invoice(
        text=text,
        network=network,
        amount_msat=amount,
        timestamp=bech32.to_number(data[:TIMESTAMP_WORDS]),
        expiry_seconds=tagged.number(fields.EXPIRY, default=DEFAULT_EXPIRY_SECONDS),
        payment_hash=PaymentHash(payment_hash.hex()),
        payment_secret=payment_secret.hex(),
        description=description,
        description_hash=description_hash,
        payee=_read_payee(prefix, data, signature=signature, stated=tagged.content(fields.PAYEE)),
        min_final_cltv=tagged.number(fields.MIN_FINAL_CLTV, default=DEFAULT_MIN_FINAL_CLTV),
        features=features,
        route_hints=tagged.route_hints(),
        fallbacks=tagged.fallbacks(),
        metadata=tagged.content(fields.METADATA),
    )


def _read_prefix(prefix: str) -> tuple[Network, Msat | None]:
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        if _NETWORK.fullmatch(prefix):
            raise InvoiceError(
                InvoiceCode.AMOUNT, "an amount is a whole number above zero, and one of m, u, n, p or nothing"
            )
        raise InvoiceError(InvoiceCode.NETWORK, "the prefix names no network of Bitcoin")
    network = PREFIXES[match[1]]
    if match[2] is None:
        return network, None
    amount, rest = divmod(int(match[2]) * PICO_BTC[match[3]], 10)
    if rest:
        raise InvoiceError(InvoiceCode.AMOUNT, "the amount is not a whole number of msat")
    if amount > MAX_MSAT:
        raise InvoiceError(InvoiceCode.AMOUNT, "the amount is above 21 million BTC")
    return network, Msat(amount)


def _read_descriptions(tagged: fields.TaggedFields) -> tuple[str | None, str | None]:
    raw, hashed = tagged.content(fields.DESCRIPTION), tagged.content(fields.DESCRIPTION_HASH)
    if (raw is None) == (hashed is None):
        raise InvoiceError(InvoiceCode.FIELD, "an invoice has a description or the hash of one, and not both")
    if hashed is not None:
        return None, hashed.hex()
    try:
        return (raw or b"").decode(), None
    except UnicodeDecodeError:
        raise InvoiceError(InvoiceCode.FIELD, "the description is not UTF-8") from None


def _check_features(features: frozenset[int]) -> None:
    unknown = sorted(bit for bit in features if bit % 2 == 0 and bit not in KNOWN_REQUIRED_FEATURES)
    if unknown:
        raise InvoiceError(InvoiceCode.FEATURES, f"the invoice requires unknown features: {unknown}")
    for feature, needed in FEATURE_DEPENDENCIES:
        if features & {feature, feature + 1} and not features & {needed, needed + 1}:
            raise InvoiceError(InvoiceCode.FEATURES, f"feature {feature} needs feature {needed}")


def _read_payee(prefix: str, data: Sequence[int], *, signature: Sequence[int], stated: bytes | None) -> str:
    """Return the key that signed: the one stated in `n` if there is one, else the one recovered."""
    message = prefix.encode() + bech32.to_padded_bytes(data)
    compact = bech32.to_bytes(signature)
    if compact[64] > 3:
        raise InvoiceError(InvoiceCode.SIGNATURE, "the signature's recovery id is not 0, 1, 2 or 3")
    if stated is None:
        try:
            return PublicKey.from_signature_and_message(compact, message).format().hex()
        except ValueError:
            raise InvoiceError(InvoiceCode.SIGNATURE, "no key can be recovered from the signature") from None
    payee = fields.node_key(stated)
    # BOLT 11: with `n`, a high-S signature is refused; only recovery accepts both forms.
    low = int.from_bytes(compact[32:64], "big") <= HALF_ORDER
    if not low or not _is_signed_by(stated, compact[:64], message):
        raise InvoiceError(InvoiceCode.SIGNATURE, "the signature is not that of the named payee")
    return payee


def _is_signed_by(key: bytes, compact: bytes, message: bytes) -> bool:
    try:
        return PublicKey(key).verify(_der(compact), message)
    except ValueError:
        return False


def _der(compact: bytes) -> bytes:
    """Return the DER form of a compact signature, the only one that the curve library verifies."""
    numbers = b"".join(_der_number(half) for half in (compact[:32], compact[32:]))
    return b"\x30" + len(numbers).to_bytes(1, "big") + numbers


def _der_number(half: bytes) -> bytes:
    digits = half.lstrip(b"\0") or b"\0"
    if digits[0] & 0x80:
        digits = b"\0" + digits
    return b"\x02" + len(digits).to_bytes(1, "big") + digits
