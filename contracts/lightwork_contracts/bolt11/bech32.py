"""BIP 173 Bech32 for invoices: no 90-character limit, but a limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lightwork_contracts.errors import InvoiceCode, InvoiceError

MAX_INVOICE_CHARACTERS = 7089
"""The longest invoice that LND reads (zpay32 maxInvoiceLength): the most that fits in one QR code."""

CHECKSUM_WORDS = 6
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _reduction(top: int) -> int:
    reduced = 0
    for bit, term in enumerate(_GENERATOR):
        if top >> bit & 1:
            reduced ^= term
    return reduced


_REDUCTIONS = tuple(_reduction(top) for top in range(32))


def _checksum(prefix: str, words: Iterable[int]) -> int:
    state = 1
    reductions = _REDUCTIONS
    for part in ((ord(c) >> 5 for c in prefix), (0,), (ord(c) & 31 for c in prefix), words):
        for value in part:
            state = (state & 0x1FFFFFF) << 5 ^ value ^ reductions[state >> 25]
    return state


def decode(text: str) -> tuple[str, list[int]]:
    """Return the human-readable part in lower case and the 5-bit words without their checksum.

    Raises:
        InvoiceError: too long (before any other work), not Bech32, or the checksum is wrong.
    """
    if len(text) > MAX_INVOICE_CHARACTERS:
        raise InvoiceError(
            InvoiceCode.TOO_LONG,
            f"an invoice has at most {MAX_INVOICE_CHARACTERS} characters, not {len(text)}",
        )
    if not text.isascii():
        raise InvoiceError(InvoiceCode.MALFORMED, "an invoice is plain ASCII")
    if text != text.lower() and text != text.upper():
        raise InvoiceError(InvoiceCode.MALFORMED, "an invoice is in lower or in upper case, not in both")
    prefix, separator, body = text.lower().rpartition("1")
    if not separator or not prefix:
        raise InvoiceError(InvoiceCode.MALFORMED, "an invoice has a prefix, the separator 1, and data")
    words = [_VALUES.get(letter, -1) for letter in body]
    if -1 in words:
        raise InvoiceError(
            InvoiceCode.MALFORMED, "the data part holds a character outside the Bech32 alphabet"
        )
    if len(words) < CHECKSUM_WORDS:
        raise InvoiceError(InvoiceCode.MALFORMED, "the data part is too short for a checksum")
    if _checksum(prefix, words) != 1:
        raise InvoiceError(InvoiceCode.CHECKSUM, "the checksum is wrong: the invoice was damaged or cut")
    return prefix, words[:-CHECKSUM_WORDS]


def encode(prefix: str, words: Sequence[int]) -> str:
    """Return the Bech32 text of a lower-case human-readable part and 5-bit words."""
    residue = _checksum(prefix, [*words, *[0] * CHECKSUM_WORDS]) ^ 1
    checksum = [residue >> 5 * (CHECKSUM_WORDS - 1 - place) & 31 for place in range(CHECKSUM_WORDS)]
    return f"{prefix}1{''.join(_ALPHABET[word] for word in (*words, *checksum))}"


def to_words(data: bytes) -> list[int]:
    """Return bytes as 5-bit words, padded with zero bits."""
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << count * 5 - len(data) * 8
    return [number >> 5 * place & 31 for place in range(count - 1, -1, -1)]


def to_number(words: Sequence[int]) -> int:
    """Return 5-bit words as one big-endian number."""
    number = 0
    for word in words:
        number = number << 5 | word
    return number


def to_bytes(words: Sequence[int]) -> bytes:
    """Return the bytes that 5-bit words hold.

    Raises:
        InvoiceError: the padding is five bits or more, or not zero (BOLT 11 pads fields with zeros).
    """
    spare = len(words) * 5 % 8
    number = to_number(words)
    if spare >= 5 or number & (1 << spare) - 1:
        raise InvoiceError(InvoiceCode.FIELD, "a field is not padded with fewer than five zero bits")
    return (number >> spare).to_bytes(len(words) * 5 // 8, "big")


def to_padded_bytes(words: Sequence[int]) -> bytes:
    """Return all bits of the words, followed by zero bits up to a whole byte (what is signed)."""
    spare = -len(words) * 5 % 8
    return (to_number(words) << spare).to_bytes((len(words) * 5 + spare) // 8, "big")
