"""Listings: the signed advert of one task."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from lightwork_contracts.errors import CanonicalError
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import PriceMsat
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.signed.document import (
    Document,
    document_hash,
    read_document,
    require_tags,
    sign_document,
)
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.kinds import LISTING
from lightwork_contracts.status import Acceptance

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,63}$"
MAX_SCHEMA_BYTES = 32 * 1024
MAX_SCHEMA_DEPTH = 32
MAX_TAGS = 10
MAX_REVIEW_SECONDS = 86_400
MAX_WORK_SECONDS = 3_600

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _check_characters(text: str, *, besides: str) -> None:
    """Refuse what a reader cannot see or what turns text around: an advert must read as it is stored."""
    for character in text:
        if character not in besides and unicodedata.category(character) in _HIDDEN_CATEGORIES:
            raise ValueError(f"the character U+{ord(character):04X} is not visible")


def _check_visible(text: str) -> str:
    _check_characters(text, besides="\n")
    if not text.strip():
        raise ValueError("the text is blank")
    return text


def _check_schema(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        canonical_json(schema, max_depth=MAX_SCHEMA_DEPTH, max_bytes=MAX_SCHEMA_BYTES)
    except CanonicalError as error:
        raise ValueError(error.message) from None
    _check_references(schema)
    _check_texts(schema)
    return schema


def _check_texts(value: JsonValue) -> None:
    """Look at every text of a schema: buyers, and the models that they run, read them all."""
    if isinstance(value, str):
        _check_characters(value, besides="\n\r\t")
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_characters(name, besides="")
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_references(value: JsonValue) -> None:
    """Refuse a schema that points outside itself: checking with it would mean fetching from a stranger."""
    if isinstance(value, dict):
        for name in ("$ref", "$dynamicRef"):
            target = value.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                raise ValueError(f"{name} points outside the schema")
        for item in value.values():
            _check_references(item)
    elif isinstance(value, list):
        for item in value:
            _check_references(item)


TaskName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Description = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_check_visible)]
JsonSchema = Annotated[dict[str, JsonValue], AfterValidator(_check_schema)]


class FixedPrice(Document):
    """One price for every input, in msat."""

    kind: Literal["fixed"] = "fixed"
    msat: PriceMsat


class QuotedPrice(Document):
    """A price per input, told in the quote; `from_msat` is the lowest, if the provider says so."""

    kind: Literal["quoted"] = "quoted"
    from_msat: PriceMsat | None = None


Price = Annotated[FixedPrice | QuotedPrice, Field(discriminator="kind")]


class ListingContent(Document):
    """What a provider promises about one task. Prices in msat, times in seconds."""

    name: TaskName = Field(examples=["echo"])
    description: Description = Field(examples=["Return the text unchanged."])
    agent_name: TaskName = Field(examples=["echo"])
    input_schema: JsonSchema = Field(description="JSON Schema of the input, an object")
    output_schema: JsonSchema = Field(description="JSON Schema of the result")
    price: Price
    acceptance: Acceptance = Acceptance.AUTO
    work_seconds: int = Field(ge=1, le=MAX_WORK_SECONDS, strict=True)
    review_seconds: int = Field(
        default=0, ge=0, le=MAX_REVIEW_SECONDS, strict=True, description="0 for auto, at least 1 for review"
    )
    mode: PaymentMode = Field(
        default=PaymentMode.ESCROW,
        description="credit: the provider is owed by the broker until it withdraws",
    )
    tags: tuple[TaskName, ...] = Field(default=(), max_length=MAX_TAGS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.acceptance is Acceptance.REVIEW) != (self.review_seconds > 0):
            raise ValueError("review_seconds is 0 for acceptance auto, and at least 1 for review")
        if len(set(self.tags)) != len(self.tags):
            raise ValueError("a tag stands twice")
        if self.input_schema.get("type") != "object":
            raise ValueError(
                "the input_schema has type object: a task's input is an object of its parameters"
            )
        return self


def _tags(content: ListingContent) -> list[list[str]]:
    return [["d", content.name], *(["t", tag] for tag in content.tags)]


def content_hash(content: ListingContent) -> str:
    """Return the SHA-256 of the listing's canonical JSON, as hex: equal exactly when nothing changed."""
    return document_hash(content)


def sign_listing(content: ListingContent, *, key: SecretKey, created_at: int) -> SignedEvent:
    """Return the listing as an event (kind 38400, tag `d` is the task's name). `created_at` in Unix seconds.

    Raises:
        EventError: the listing is larger than an event may be.
    """
    return sign_document(content, key=key, kind=LISTING, created_at=created_at, tags=_tags(content))


def read_listing(event: SignedEvent) -> tuple[Pubkey, ListingContent]:
    """Return the provider's key and the listing, after checking kind, signature, content and tags.

    Raises:
        EventError: with the code of the first thing that is wrong.
    """
    signer, content = read_document(event, kind=LISTING, model=ListingContent)
    require_tags(event, _tags(content))
    return signer, content
