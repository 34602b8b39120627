"""Listings, commitments and quotes: signed whole, read whole, and refused after any change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from lightwork_contracts.errors import EventError
from lightwork_contracts.ids import ListingId, PaymentHash, QuoteId
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment, read_commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent, sign_event
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import (
    FixedPrice,
    ListingContent,
    QuotedPrice,
    content_hash,
    read_listing,
    sign_listing,
)
from lightwork_contracts.signed.quote import QuoteTerms, read_quote, sign_quote
from lightwork_contracts.status import Acceptance

KEY = SecretKey.generate(bytes([3]) * 32)
OTHER = SecretKey.generate(bytes([4]) * 32)
NOW = 1_700_000_000
ID26 = "01hf" + "0" * 22


def listing(**changes: Any) -> ListingContent:
    fields: dict[str, Any] = {
        "name": "echo",
        "description": "Return the text unchanged.\nÜnïcode 杯 and all.",
        "agent_name": "echo-agent",
        "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
        "output_schema": {"type": "string", "default": None},
        "price": FixedPrice(msat=Msat(10_000)),
        "acceptance": "auto",
        "work_seconds": 30,
        "tags": ("text", "test"),
    }
    return ListingContent.model_validate(fields | changes)


def commitment() -> Commitment:
    return Commitment(
        quote_id=QuoteId(f"quote_{ID26}"),
        listing_id=ListingId(f"list_{ID26}"),
        listing_version=1,
        input_hash="aa" * 32,
        price_msat=Msat(10_000),
        payment_hash=PaymentHash("bb" * 32),
        invoice="lnbcrt100n1qqq",
        expires_at=NOW + 60,
    )


def terms(**changes: Any) -> QuoteTerms:
    fields: dict[str, Any] = {
        "quote_id": f"quote_{ID26}",
        "listing_id": f"list_{ID26}",
        "listing_version": 1,
        "input_hash": "aa" * 32,
        "buyer": OTHER.public,
        "provider": KEY.public,
        "price_msat": 10_000,
        "fee_msat": 100,
        "routing_msat": 50,
        "total_msat": 10_150,
        "payment_hash": "bb" * 32,
        "pay_seconds": 60,
        "work_seconds": 30,
        "review_seconds": 0,
        "forward_seconds": 60,
        "hold_cltv_blocks": 200,
        "acceptance": "auto",
        "expires_at": NOW + 60,
        "created_at": NOW,
        "broker_node": "02" + "cc" * 32,
    }
    return QuoteTerms.model_validate(fields | changes)


def code(event: SignedEvent) -> str:
    with pytest.raises(EventError) as caught:
        read_listing(event)
    return caught.value.code


def resigned(content: str, *, tags: tuple[tuple[str, ...], ...], kind: int = 38400) -> SignedEvent:
    return sign_event(key=KEY, kind=kind, created_at=NOW, tags=tags, content=content)


TAGS = (("d", "echo"), ("t", "text"), ("t", "test"))


@pytest.mark.parametrize("price", [FixedPrice(msat=Msat(1)), QuotedPrice(), QuotedPrice(from_msat=Msat(5))])
def test_a_listing_reads_back_as_it_was_signed(price: FixedPrice | QuotedPrice) -> None:
    content = listing(price=price)
    event = sign_listing(content, key=KEY, created_at=NOW)
    assert (event.kind, event.tags) == (38400, TAGS)
    assert read_listing(SignedEvent.model_validate_json(event.model_dump_json())) == (KEY.public, content)


def test_a_commitment_and_a_quote_read_back_as_they_were_signed() -> None:
    assert read_commitment(sign_commitment(commitment(), key=KEY, created_at=NOW)) == (
        KEY.public,
        commitment(),
    )
    assert read_quote(sign_quote(terms(), key=OTHER)) == (OTHER.public, terms())


def test_one_kind_of_document_does_not_pass_for_another() -> None:
    event = sign_commitment(commitment(), key=KEY, created_at=NOW)
    assert code(event) == "event_kind"
    with pytest.raises(EventError):
        read_quote(event)
    with pytest.raises(EventError):
        read_commitment(sign_listing(listing(), key=KEY, created_at=NOW))


def test_the_hash_of_a_listing_changes_with_every_field() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"name": "echo2"},
        {"description": "Other."},
        {"agent_name": "b"},
        {"input_schema": {"type": "object"}},
        {"output_schema": {}},
        {"price": FixedPrice(msat=Msat(10_001))},
        {"acceptance": "review", "review_seconds": 60},
        {"work_seconds": 31},
        {"tags": ()},
    )
    assert len({content_hash(listing(**change)) for change in changes}) == len(changes)
    assert content_hash(listing()) == content_hash(listing())


def test_a_tampered_listing_is_refused() -> None:
    event = sign_listing(listing(), key=KEY, created_at=NOW)
    cheaper = event.content.replace("10000", "10001")
    assert cheaper != event.content
    assert code(event.model_copy(update={"content": cheaper})) == "event_id_mismatch"
    assert code(event.model_copy(update={"pubkey": OTHER.public})) == "event_id_mismatch"
    assert code(event.model_copy(update={"sig": "00" * 64})) == "event_signature"


@pytest.mark.parametrize(
    "tags", [(), TAGS[1:], (("d", "other"), *TAGS[1:]), (*TAGS, ("t", "more")), TAGS[:1]]
)
def test_a_listing_whose_tags_do_not_repeat_its_content_is_refused(tags: tuple[tuple[str, ...], ...]) -> None:
    assert code(resigned(sign_listing(listing(), key=KEY, created_at=NOW).content, tags=tags)) == "event_tags"


def test_a_listing_in_another_spelling_than_the_canonical_one_is_refused() -> None:
    content = sign_listing(listing(), key=KEY, created_at=NOW).content
    members = json.loads(content)
    spaced = json.dumps(members, sort_keys=True, ensure_ascii=False)
    short = json.dumps(
        {name: value for name, value in members.items() if name != "review_seconds"},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    twice = content.replace('"work_seconds":30', '"work_seconds":30,"work_seconds":30')
    for text in (spaced, short, twice, "", "null", "[]", "[" * 60_000, content + " ", '{"a":NaN}'):
        assert code(resigned(text, tags=TAGS)) == "event_content"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Echo"},
        {"name": "1echo"},
        {"name": "e" * 65},
        {"name": "echo\n"},
        {"agent_name": ""},
        {"description": ""},
        {"description": "  "},
        {"description": "x" * 2001},
        {"description": "zero\u200bwidth"},
        {"description": "turned \u202e round"},
        {"description": "bell \x07"},
        {"description": "escape \x1b[31m"},
        {"description": "return \r"},
        {"description": "line \u2028"},
        {"price": {"kind": "fixed", "msat": 0}},
        {"price": {"kind": "fixed", "msat": 1.0}},
        {"price": {"kind": "fixed", "msat": "1"}},
        {"price": {"kind": "free"}},
        {"work_seconds": 0},
        {"work_seconds": 3601},
        {"review_seconds": 1},
        {"acceptance": "review"},
        {"acceptance": "review", "review_seconds": 86_401},
        {"tags": ["a"] * 2},
        {"tags": [f"t{n}" for n in range(11)]},
        {"tags": ["has space"]},
        {"input_schema": {"type": "string"}},
        {"input_schema": {"type": "object", "description": "x" * 33_000}},
        {"output_schema": {"$ref": "https://example.org/schema"}},
        {"output_schema": {"items": [{"$dynamicRef": "other.json"}]}},
        {"output_schema": {"const": float("nan")}},
        {"surprise": 1},
    ],
    ids=lambda change: str(change)[:50],
)
def test_a_listing_outside_its_limits_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        listing(**change)


@pytest.mark.parametrize(
    "hidden", ["\u200b", "\u202e", "\u2066", "\ufeff", "\x1b", "\x00", "\u2028", "\U000e0041"]
)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "description": "do not @ ask"},
        {"type": "object", "title": "@"},
        {"type": "object", "properties": {"te@xt": {"type": "string"}}},
        {"type": "object", "properties": {"text": {"enum": ["a", "b@"]}}},
        {"type": "object", "properties": {"text": {"anyOf": [{"const": "@"}]}}},
        {"type": "object", "x-note": ["@"]},
    ],
    ids=["description", "title", "name", "enum", "const", "unknown"],
)
def test_a_text_of_a_schema_that_nobody_can_see_is_refused(schema: dict[str, Any], hidden: str) -> None:
    spoilt = json.loads(json.dumps(schema).replace("@", json.dumps(hidden)[1:-1]))
    for which in ("input_schema", "output_schema"):
        assert listing(**{which: schema}) is not None
        with pytest.raises(ValidationError, match="not visible"):
            listing(**{which: spoilt})


def test_a_schema_may_name_line_ends_and_tabs() -> None:
    schema = {
        "type": "object",
        "description": "One\nper line.",
        "properties": {"by": {"enum": ["\t", "\r\n"]}},
    }
    assert listing(input_schema=schema).input_schema == schema


def test_a_schema_nested_too_deeply_is_refused() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(40):
        schema = {"type": "object", "properties": schema}
    with pytest.raises(ValidationError, match="nested too deeply"):
        listing(input_schema=schema)


def test_a_listing_for_review_names_its_window() -> None:
    content = listing(acceptance="review", review_seconds=86_400)
    assert (content.acceptance, content.review_seconds) == (Acceptance.REVIEW, 86_400)


@pytest.mark.parametrize(
    "change",
    [
        {"total_msat": 10_151},
        {"fee_msat": -1, "total_msat": 10_049},
        {"price_msat": 0, "total_msat": 150},
        {"price_msat": 10_000.0},
        {"unspent_routing_to": "provider"},
        {"mode": "credit"},
        {"expires_at": NOW},
        {"review_seconds": 5},
        {"hold_cltv_blocks": 0},
        {"hold_cltv_blocks": 2017},
        {"broker_node": "04" + "cc" * 32},
        {"buyer": "xx"},
        {"quote_id": "quote"},
    ],
    ids=str,
)
def test_quote_terms_that_do_not_add_up_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        terms(**change)


def test_a_quote_with_a_changed_price_is_refused() -> None:
    event = sign_quote(terms(), key=OTHER)
    changed = event.content.replace('"fee_msat":100', '"fee_msat":101')
    assert changed != event.content
    with pytest.raises(EventError) as caught:
        read_quote(event.model_copy(update={"content": changed}))
    assert caught.value.code == "event_id_mismatch"
