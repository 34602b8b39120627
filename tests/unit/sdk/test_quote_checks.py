"""The buyer pays only what holds together: every single change is refused, each with its own code."""

from __future__ import annotations

import dataclasses

import pytest
from unit.sdk.signed_facts import (
    ASKED,
    BROKER_NODE_KEY,
    BUYER,
    COMMITMENT,
    HASH,
    LISTING_ID,
    NOW,
    OTHER_HASH,
    PREIMAGE,
    STRANGER,
    TERMS,
    TOTAL,
    TRUSTED,
    hold_invoice,
    invoice,
    listing_view,
    quote_view,
)

from lightwork.errors import CheckCode, CheckFailed
from lightwork.verification import Asked, check_invoice, check_listing, check_proof, check_quote
from lightwork_contracts.bolt11 import Network
from lightwork_contracts.ids import ListingId
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.market import QuoteView

OTHER_LISTING = ListingId("lst_" + "1" * 26)
OTHER_INPUT_HASH = "00" * 32


def changed(quote: QuoteView, **changes: object) -> QuoteView:
    """What the broker shows differs from what it signed."""
    return quote.model_copy(update=changes)


def test_a_quote_that_holds_together_is_accepted() -> None:
    assert check_quote(quote_view(), asked=ASKED, broker=TRUSTED, now=NOW) == TERMS


QUOTES = {
    "signed by another broker": (CheckCode.BROKER_KEY, quote_view(broker=STRANGER)),
    "another node": (
        CheckCode.INVOICE_PAYEE,
        quote_view(TERMS.model_copy(update={"broker_node": "02" + "11" * 32})),
    ),
    "a cheaper price shown": (CheckCode.QUOTE_TERMS, changed(quote_view(), price_msat=Msat(1))),
    "a higher total shown": (CheckCode.QUOTE_TERMS, changed(quote_view(), total_msat=Msat(1))),
    "another hash shown": (CheckCode.QUOTE_TERMS, changed(quote_view(), payment_hash=OTHER_HASH)),
    "another acceptance shown": (CheckCode.QUOTE_TERMS, changed(quote_view(), acceptance=Acceptance.REVIEW)),
    "another id shown": (CheckCode.QUOTE_TERMS, changed(quote_view(), id="qt_" + "1" * 26)),
    "another buyer": (CheckCode.QUOTE_TERMS, quote_view(TERMS.model_copy(update={"buyer": STRANGER.public}))),
    "another task": (CheckCode.LISTING, quote_view(task="other")),
    "another input": (
        CheckCode.INPUT_HASH,
        quote_view(TERMS.model_copy(update={"input_hash": OTHER_INPUT_HASH})),
    ),
    "a commitment by a stranger": (CheckCode.PROVIDER_KEY, quote_view(provider=STRANGER)),
    "a commitment to another quote": (
        CheckCode.QUOTE_TERMS,
        quote_view(commitment=COMMITMENT.model_copy(update={"quote_id": "qt_" + "1" * 26})),
    ),
    "a commitment to another listing": (
        CheckCode.LISTING,
        quote_view(commitment=COMMITMENT.model_copy(update={"listing_id": OTHER_LISTING})),
    ),
    "a commitment to another version": (
        CheckCode.LISTING,
        quote_view(commitment=COMMITMENT.model_copy(update={"listing_version": 2})),
    ),
    "a commitment to another input": (
        CheckCode.INPUT_HASH,
        quote_view(commitment=COMMITMENT.model_copy(update={"input_hash": OTHER_INPUT_HASH})),
    ),
    "a price that the provider did not ask": (
        CheckCode.PRICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"price_msat": Msat(9_999)})),
    ),
    "a hash that the provider did not commit to": (
        CheckCode.INVOICE_HASH,
        quote_view(commitment=COMMITMENT.model_copy(update={"payment_hash": OTHER_HASH})),
    ),
    "an invoice of the provider with another hash": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": invoice(payment_hash=OTHER_HASH)})),
    ),
    "an invoice of the provider for another amount": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": invoice(Msat(9_999))})),
    ),
    "an invoice of the provider for another network": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": invoice(network=Network.MAINNET)})),
    ),
    "an invoice of the provider that pays the broker": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": invoice(node_key=BROKER_NODE_KEY)})),
    ),
    "a promise of the provider that has expired": (
        CheckCode.QUOTE_EXPIRED,
        quote_view(commitment=COMMITMENT.model_copy(update={"expires_at": NOW})),
    ),
    "an invoice of the provider that has expired": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": invoice(timestamp=NOW - 3_600)})),
    ),
    "an invoice of the provider that is none": (
        CheckCode.PROVIDER_INVOICE,
        quote_view(commitment=COMMITMENT.model_copy(update={"invoice": "lnbcrt1nonsense"})),
    ),
}


@pytest.mark.parametrize("what", QUOTES)
def test_a_quote_is_refused_for(what: str) -> None:
    code, quote = QUOTES[what]
    with pytest.raises(CheckFailed) as caught:
        check_quote(quote, asked=ASKED, broker=TRUSTED, now=NOW)
    assert caught.value.check is code


def test_a_quote_whose_signature_is_not_of_its_content_is_refused() -> None:
    quote = quote_view()
    forged = quote.model_copy(update={"event": quote.event.model_copy(update={"sig": "00" * 64})})
    with pytest.raises(CheckFailed) as caught:
        check_quote(forged, asked=ASKED, broker=TRUSTED, now=NOW)
    assert caught.value.check is CheckCode.QUOTE_SIGNATURE


def test_a_commitment_whose_signature_is_not_of_its_content_is_refused() -> None:
    quote = quote_view()
    forged = quote.model_copy(update={"commitment": quote.commitment.model_copy(update={"sig": "00" * 64})})
    with pytest.raises(CheckFailed) as caught:
        check_quote(forged, asked=ASKED, broker=TRUSTED, now=NOW)
    assert caught.value.check is CheckCode.COMMITMENT_SIGNATURE


def refusal(asked: Asked, *, now: int = NOW) -> CheckCode:
    with pytest.raises(CheckFailed) as caught:
        check_quote(quote_view(), asked=asked, broker=TRUSTED, now=now)
    return caught.value.check


def test_a_total_of_one_msat_above_the_maximum_is_refused_and_the_maximum_itself_is_not() -> None:
    assert refusal(dataclasses.replace(ASKED, max_price=Msat(TOTAL - 1))) is CheckCode.ABOVE_MAX
    check_quote(quote_view(), asked=dataclasses.replace(ASKED, max_price=TOTAL), broker=TRUSTED, now=NOW)


def test_a_quote_is_refused_from_the_second_of_its_expiry() -> None:
    assert refusal(ASKED, now=TERMS.expires_at) is CheckCode.QUOTE_EXPIRED


def test_a_quote_for_another_listing_than_asked_for_is_refused() -> None:
    assert refusal(dataclasses.replace(ASKED, listing_id=OTHER_LISTING)) is CheckCode.LISTING


def test_a_quote_for_another_version_than_the_one_read_is_refused() -> None:
    asked = dataclasses.replace(ASKED, listing_id=LISTING_ID, listing=listing_view(version=2))
    assert refusal(asked) is CheckCode.LISTING


def test_a_quote_by_another_provider_than_the_listings_is_refused() -> None:
    asked = dataclasses.replace(ASKED, listing=listing_view(key=STRANGER))
    assert refusal(asked) is CheckCode.PROVIDER_KEY


def test_a_quote_for_another_buyer_is_refused() -> None:
    assert refusal(dataclasses.replace(ASKED, buyer=STRANGER.public)) is CheckCode.QUOTE_TERMS
    assert ASKED.buyer == BUYER.public


INVOICES = {
    "being absent": (CheckCode.INVOICE_MISSING, None),
    "being no invoice": (CheckCode.INVOICE_MALFORMED, "lnbcrt1nonsense"),
    "another network": (CheckCode.INVOICE_NETWORK, hold_invoice(network=Network.MAINNET)),
    "no amount": (CheckCode.INVOICE_AMOUNT, hold_invoice(None)),
    "one msat too much": (CheckCode.INVOICE_AMOUNT, hold_invoice(Msat(TOTAL + 1))),
    "one msat too little": (CheckCode.INVOICE_AMOUNT, hold_invoice(Msat(TOTAL - 1))),
    "a hash of the broker's own": (CheckCode.INVOICE_HASH, hold_invoice(payment_hash=OTHER_HASH)),
    "another payee": (CheckCode.INVOICE_PAYEE, hold_invoice(node_key=bytes([9]) * 32)),
    "being expired": (CheckCode.INVOICE_EXPIRED, hold_invoice(timestamp=NOW - 3_600)),
    "more blocks than quoted": (CheckCode.INVOICE_CLTV, hold_invoice(final_cltv=301)),
}


@pytest.mark.parametrize("what", INVOICES)
def test_a_hold_invoice_is_refused_for(what: str) -> None:
    code, text = INVOICES[what]
    with pytest.raises(CheckFailed) as caught:
        check_invoice(text, terms=TERMS, broker=TRUSTED, now=NOW, max_final_cltv=576)
    assert caught.value.check is code


def test_a_hold_invoice_that_fits_the_quote_is_accepted() -> None:
    read = check_invoice(hold_invoice(), terms=TERMS, broker=TRUSTED, now=NOW, max_final_cltv=576)
    assert (read.amount_msat, read.payment_hash) == (TOTAL, HASH)


def test_a_hold_invoice_that_locks_longer_than_the_buyer_allows_is_refused() -> None:
    with pytest.raises(CheckFailed) as caught:
        check_invoice(hold_invoice(), terms=TERMS, broker=TRUSTED, now=NOW, max_final_cltv=199)
    assert caught.value.check is CheckCode.INVOICE_CLTV


def test_only_the_preimage_of_the_hash_is_a_proof() -> None:
    check_proof(PREIMAGE.hex(), payment_hash=HASH)
    for wrong in ("00" * 32, "", "zz" * 32, PREIMAGE.hex()[:-2]):
        with pytest.raises(CheckFailed) as caught:
            check_proof(wrong, payment_hash=HASH)
        assert caught.value.check is CheckCode.PREIMAGE
        assert not wrong or wrong not in str(caught.value)


def test_a_listing_shown_differently_from_how_it_was_signed_is_refused() -> None:
    honest = listing_view()
    check_listing(honest)
    cheaper = honest.model_copy(
        update={"content": honest.content.model_copy(update={"description": "Free!"})}
    )
    for forged in (cheaper, honest.model_copy(update={"agent": STRANGER.public})):
        with pytest.raises(CheckFailed) as caught:
            check_listing(forged)
        assert caught.value.check is CheckCode.LISTING_SIGNATURE
