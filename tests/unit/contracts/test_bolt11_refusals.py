"""What a BOLT11 text may not do, one rule at a time. Bad invoices are built from words and signed rightly."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from coincurve import PrivateKey

from lightwork_contracts.bolt11 import (
    Invoice,
    InvoiceError,
    Network,
    bech32,
    fields,
    read_invoice,
    write_invoice,
)

KEY = bytes([7]) * 32
HIGH_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

HASH = (fields.PAYMENT_HASH, bech32.to_words(bytes(range(32))))
SECRET = (fields.PAYMENT_SECRET, bech32.to_words(bytes([17]) * 32))
TEXT = (fields.DESCRIPTION, bech32.to_words(b"coffee"))
FEATURES = (fields.FEATURES, [16, 8, 0])
PAYEE = (fields.PAYEE, bech32.to_words(PrivateKey(KEY).public_key.format()))
BASE = (HASH, SECRET, TEXT, FEATURES)

Field = tuple[int, Sequence[int]]


def build(
    *tagged: Field,
    prefix: str = "lnbcrt10n",
    high_s: bool = False,
    key: bytes = KEY,
    tail: Sequence[int] = (),
    recovery: int | None = None,
) -> str:
    words = [0, 1, 12, 21, 3, 0, 1]
    for kind, data in tagged:
        words += [kind, len(data) >> 5, len(data) & 31, *data]
    words += tail
    signature = PrivateKey(key).sign_recoverable(prefix.encode() + bech32.to_padded_bytes(words))
    if high_s:
        negated = HIGH_ORDER - int.from_bytes(signature[32:64], "big")
        signature = signature[:32] + negated.to_bytes(32, "big") + bytes([signature[64] ^ 1])
    if recovery is not None:
        signature = signature[:64] + bytes([recovery])
    return bech32.encode(prefix, words + bech32.to_words(signature))


def refused(text: str) -> str:
    with pytest.raises(InvoiceError) as caught:
        read_invoice(text)
    return caught.value.code


def test_the_invoice_that_the_refusals_start_from_is_read() -> None:
    invoice = read_invoice(build(*BASE))
    assert invoice.payee == PrivateKey(KEY).public_key.format().hex()
    assert (invoice.amount_msat, invoice.features) == (1_000, frozenset({8, 14}))


@pytest.mark.parametrize(
    ("amount", "msat"),
    [
        ("1", 10**11),
        ("1m", 10**8),
        ("1u", 10**5),
        ("1n", 100),
        ("10p", 1),
        ("21000000", 21 * 10**17),
        ("2500000000p", 250_000_000),
        ("21000000000000000000p", 21 * 10**17),
    ],
)
def test_an_amount_is_read_in_msat_exactly(amount: str, msat: int) -> None:
    assert read_invoice(build(*BASE, prefix=f"lnbcrt{amount}")).amount_msat == msat


@pytest.mark.parametrize(
    "amount",
    [
        "0",
        "0m",
        "01u",
        "1p",
        "15p",
        "1x",
        "m",
        "1mm",
        "1 m",
        "-1m",
        "1.5m",
        "21000001",
        "9" * 19,
        "21000000000000000010p",
        "9" * 60,
    ],
)
def test_an_amount_that_is_not_a_whole_number_of_msat_in_range_is_refused(amount: str) -> None:
    assert refused(build(*BASE, prefix=f"lnbcrt{amount}")) in ("invoice_amount_malformed", "invoice_network")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("lnbc", Network.MAINNET),
        ("lntb", Network.TESTNET),
        ("lntbs", Network.SIGNET),
        ("lnbcrt", Network.REGTEST),
    ],
)
def test_each_network_is_told_by_its_prefix(prefix: str, expected: Network) -> None:
    assert read_invoice(build(*BASE, prefix=prefix)).network is expected
    assert read_invoice(build(*BASE, prefix=f"{prefix}25m")).network is expected


@pytest.mark.parametrize("prefix", ["lnltc10n", "lnb", "ln", "bc10n", "xlnbc10n", "lntbx"])
def test_another_network_is_refused(prefix: str) -> None:
    assert refused(build(*BASE, prefix=prefix)) == "invoice_network"


@pytest.mark.parametrize(
    "again",
    [
        HASH,
        SECRET,
        TEXT,
        FEATURES,
        (fields.EXPIRY, [1]),
        (fields.MIN_FINAL_CLTV, [18]),
        (fields.METADATA, bech32.to_words(b"m")),
    ],
)
def test_a_field_that_may_stand_once_is_refused_twice(again: Field) -> None:
    others = [field for field in BASE if field[0] != again[0]]
    read_invoice(build(*others, again))
    assert refused(build(*others, again, again)) == "invoice_field"


@pytest.mark.parametrize("left_out", [HASH, SECRET, TEXT])
def test_a_missing_hash_secret_or_description_is_refused(left_out: Field) -> None:
    assert refused(build(*[field for field in BASE if field != left_out])) == "invoice_field"


def test_a_description_beside_a_description_hash_is_refused() -> None:
    assert refused(build(*BASE, (fields.DESCRIPTION_HASH, HASH[1]))) == "invoice_field"


@pytest.mark.parametrize(
    "kind", [fields.PAYMENT_HASH, fields.PAYMENT_SECRET, fields.DESCRIPTION_HASH, fields.PAYEE]
)
@pytest.mark.parametrize("count", [0, 51, 54])
def test_a_fixed_field_of_another_length_is_refused(kind: int, count: int) -> None:
    assert refused(build(*BASE, (kind, [0] * count))) == "invoice_field"


@pytest.mark.parametrize("kind", [fields.EXPIRY, fields.MIN_FINAL_CLTV, fields.FEATURES])
def test_a_number_that_begins_with_a_zero_word_is_refused(kind: int) -> None:
    assert refused(build(HASH, SECRET, TEXT, (kind, [0, 16, 8, 0]))) == "invoice_field"


@pytest.mark.parametrize("kind", [fields.EXPIRY, fields.MIN_FINAL_CLTV])
def test_a_number_above_35_bits_is_refused(kind: int) -> None:
    read_invoice(build(*BASE, (kind, [31] * 7)))
    assert refused(build(*BASE, (kind, [1] * 8))) == "invoice_field"


@pytest.mark.parametrize(
    "field",
    [
        (fields.DESCRIPTION, bech32.to_words(b"\xff\xfe")),
        (fields.DESCRIPTION, [1]),
        (fields.DESCRIPTION, [3, 1]),
    ],
)
def test_a_description_that_is_not_padded_utf8_is_refused(field: Field) -> None:
    assert refused(build(HASH, SECRET, field)) == "invoice_field"


@pytest.mark.parametrize("size", [0, 50, 52])
def test_a_route_hint_that_is_not_whole_hops_is_refused(size: int) -> None:
    assert refused(build(*BASE, (fields.ROUTE_HINT, bech32.to_words(bytes(size))))) == "invoice_field"


def test_a_route_hint_through_a_node_off_the_curve_is_refused() -> None:
    hop = b"\x02" + b"\xff" * 32 + bytes(18)
    assert refused(build(*BASE, (fields.ROUTE_HINT, bech32.to_words(hop)))) == "invoice_field"


@pytest.mark.parametrize("tail", [[2], [2, 0], [2, 0, 2, 1], [2, 31, 31]])
def test_a_field_that_runs_over_the_end_is_refused(tail: list[int]) -> None:
    assert refused(build(*BASE, tail=tail)) == "invoice_field"


def test_unknown_fields_and_unknown_fallback_versions_are_skipped() -> None:
    invoice = read_invoice(build((2, [1, 2, 3]), *BASE, (31, []), (fields.FALLBACK, [19, 31])))
    assert invoice.fallbacks == ()


@pytest.mark.parametrize("bit", [0, 2, 10, 30, 100, 262, 1000])
def test_an_unknown_required_feature_is_refused_and_its_optional_twin_is_not(bit: int) -> None:
    def with_bit(number: int) -> str:
        return _written(features=frozenset({8, 14, number}))

    assert refused(with_bit(bit)) == "invoice_features"
    assert bit + 1 in read_invoice(with_bit(bit + 1)).features


@pytest.mark.parametrize("features", [{16}, {17, 8}, {14}])
def test_a_feature_without_the_one_it_needs_is_refused(features: set[int]) -> None:
    assert refused(_written(features=frozenset(features))) == "invoice_features"


def test_the_signature_of_another_key_than_the_named_one_is_refused() -> None:
    assert read_invoice(build(*BASE, PAYEE)).payee == bytes(_payee()).hex()
    assert refused(build(*BASE, PAYEE, key=bytes([9]) * 32)) == "invoice_signature"


def test_a_high_s_signature_is_refused_beside_a_named_payee_and_taken_for_recovery() -> None:
    assert refused(build(*BASE, PAYEE, high_s=True)) == "invoice_signature"
    assert read_invoice(build(*BASE, high_s=True)).payee == bytes(_payee()).hex()


@pytest.mark.parametrize("recovery", [4, 27, 255])
@pytest.mark.parametrize("named", [(), (PAYEE,)])
def test_a_recovery_id_above_three_is_refused(recovery: int, named: tuple[Field, ...]) -> None:
    assert refused(build(*BASE, *named, recovery=recovery)) == "invoice_signature"


@pytest.mark.parametrize(
    "text", ["", "1", "lnbc1", "lnbcrt", " ", "lnbc1é", "lightning:lnbc1qqqq", "\x00" * 10, "\u0661"]
)
def test_a_text_that_is_no_bech32_is_refused(text: str) -> None:
    assert refused(text) in ("invoice_malformed", "invoice_checksum")


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "lightning:{}"])
def test_nothing_may_stand_around_an_invoice(around: str) -> None:
    assert refused(around.format(build(*BASE))).startswith("invoice_")


def test_a_huge_text_is_refused_at_once() -> None:
    text = "lnbc1" + "q" * 20_000_000
    started = time.perf_counter()
    assert refused(text) == "invoice_too_long"
    assert time.perf_counter() - started < 0.05


def test_the_longest_text_that_is_looked_at_takes_little_time() -> None:
    text = "lnbcrt1" + "q" * (bech32.MAX_INVOICE_CHARACTERS - 7)
    started = time.perf_counter()
    assert refused(text) == "invoice_checksum"
    assert time.perf_counter() - started < 0.5


def test_an_invoice_expires_at_the_second_it_names() -> None:
    invoice = _read(expiry_seconds=60)
    assert invoice.expires_at == invoice.timestamp + 60
    assert not invoice.is_expired(invoice.expires_at - 1)
    assert invoice.is_expired(invoice.expires_at)


def _payee() -> bytes:
    return PrivateKey(KEY).public_key.format()


def _written(*, features: frozenset[int] = frozenset({8, 14}), expiry_seconds: int = 3600) -> str:
    return write_invoice(
        network=Network.REGTEST,
        amount_msat=None,
        timestamp=1_700_000_000,
        payment_hash="11" * 32,
        payment_secret="22" * 32,
        private_key=KEY,
        description="",
        features=features,
        expiry_seconds=expiry_seconds,
    )


def _read(*, expiry_seconds: int) -> Invoice:
    return read_invoice(_written(expiry_seconds=expiry_seconds))
