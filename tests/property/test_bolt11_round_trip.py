"""What is written is read back; what is damaged is refused; nothing else ever escapes."""

from __future__ import annotations

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lightwork_contracts.bolt11 import (
    Hop,
    Invoice,
    InvoiceError,
    Network,
    RouteHint,
    bech32,
    read_invoice,
    write_invoice,
)
from lightwork_contracts.money import MAX_MSAT, Msat

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
PRINTABLE = "".join(map(chr, range(33, 127)))

keys = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
hex32 = st.binary(min_size=32, max_size=32).map(bytes.hex)
node_keys = keys.map(lambda key: PrivateKey(key).public_key.format().hex())
hops = st.builds(
    Hop,
    node=node_keys,
    short_channel_id=st.integers(0, 2**64 - 1),
    fee_base_msat=st.integers(0, 2**32 - 1).map(Msat),
    fee_proportional_millionths=st.integers(0, 2**32 - 1),
    cltv_expiry_delta=st.integers(0, 2**16 - 1),
)
hints: st.SearchStrategy[RouteHint] = st.lists(hops, min_size=1, max_size=3).map(tuple)
odd_features = st.frozensets(st.integers(0, 300).map(lambda number: 2 * number + 1), max_size=5)

KEY = bytes([7]) * 32
TEXT = write_invoice(
    network=Network.REGTEST,
    amount_msat=Msat(12_345),
    timestamp=1_700_000_000,
    payment_hash="11" * 32,
    payment_secret="22" * 32,
    private_key=KEY,
    description="a cup of coffee",
    names_payee=True,
)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_invoice_that_can_be_written_reads_back_the_same(data: st.DataObject) -> None:
    key = data.draw(keys)
    description = data.draw(st.none() | st.text(max_size=150))
    description_hash = data.draw(hex32) if description is None else None
    wanted = Invoice(
        text="",
        network=data.draw(st.sampled_from(Network)),
        amount_msat=data.draw(st.none() | st.integers(1, MAX_MSAT).map(Msat)),
        timestamp=data.draw(st.integers(0, 2**35 - 1)),
        expiry_seconds=data.draw(st.integers(0, 2**35 - 1)),
        payment_hash=data.draw(hex32),
        payment_secret=data.draw(hex32),
        description=description,
        description_hash=description_hash,
        payee=PrivateKey(key).public_key.format().hex(),
        min_final_cltv=data.draw(st.integers(0, 2**35 - 1)),
        features=data.draw(odd_features) | {8, 14},
        route_hints=tuple(data.draw(st.lists(hints, max_size=3))),
        metadata=data.draw(st.none() | st.binary(max_size=100)),
    )
    text = write_invoice(
        network=wanted.network,
        amount_msat=wanted.amount_msat,
        timestamp=wanted.timestamp,
        payment_hash=wanted.payment_hash,
        payment_secret=wanted.payment_secret,
        private_key=key,
        description=description,
        description_hash=description_hash,
        expiry_seconds=wanted.expiry_seconds,
        min_final_cltv=wanted.min_final_cltv,
        features=wanted.features,
        route_hints=wanted.route_hints,
        metadata=wanted.metadata,
        names_payee=data.draw(st.booleans()),
    )

    read = read_invoice(text)

    assert read.text == text
    for name in Invoice.__slots__:
        if name != "text":
            assert getattr(read, name) == getattr(wanted, name), name
    assert read_invoice(text.upper()).payment_hash == wanted.payment_hash


def test_one_changed_character_is_refused_at_every_place() -> None:
    read_invoice(TEXT)
    for place, letter in enumerate(TEXT):
        other = ALPHABET[(ALPHABET.index(letter) + 1) % 32] if letter in ALPHABET else "q"
        with pytest.raises(InvoiceError):
            read_invoice(TEXT[:place] + other + TEXT[place + 1 :])


@given(place=st.integers(0, len(TEXT) - 1), other=st.sampled_from(PRINTABLE))
@settings(max_examples=400, deadline=None)
def test_any_other_character_at_any_place_is_refused(place: int, other: str) -> None:
    if other == TEXT[place]:
        return
    with pytest.raises(InvoiceError):
        read_invoice(TEXT[:place] + other + TEXT[place + 1 :])


@given(start=st.integers(0, len(TEXT) - 1), length=st.integers(1, len(TEXT)))
@settings(max_examples=200, deadline=None)
def test_an_invoice_with_a_part_cut_out_is_refused(start: int, length: int) -> None:
    with pytest.raises(InvoiceError):
        read_invoice(TEXT[:start] + TEXT[start + length :])


@given(text=st.text(max_size=300) | st.text(alphabet=ALPHABET + "1", max_size=300).map("lnbcrt1".__add__))
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused_with_a_code_and_nothing_else(text: str) -> None:
    with pytest.raises(InvoiceError) as caught:
        read_invoice(text)
    assert caught.value.code.startswith("invoice_")


@given(
    words=st.lists(st.integers(0, 31), max_size=400), prefix=st.sampled_from(["lnbcrt", "lnbc10u", "lntbs1"])
)
@settings(max_examples=400, deadline=None)
def test_garbage_with_a_right_checksum_is_refused(words: list[int], prefix: str) -> None:
    with pytest.raises(InvoiceError):
        read_invoice(bech32.encode(prefix, words))


@given(fields=st.lists(st.integers(0, 31), max_size=60))
@settings(max_examples=400, deadline=None)
def test_signed_garbage_is_read_or_refused_and_nothing_else(fields: list[int]) -> None:
    prefix, words = bech32.decode(TEXT)
    data = words[:-104] + fields
    signature = PrivateKey(KEY).sign_recoverable(prefix.encode() + bech32.to_padded_bytes(data))
    try:
        invoice = read_invoice(bech32.encode(prefix, data + bech32.to_words(signature)))
    except InvoiceError:
        return
    assert invoice.payment_hash == "11" * 32
    assert invoice.amount_msat == 12_345
