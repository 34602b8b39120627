"""The broker's quote: what the buyer will pay, to whom it goes, and every limit of the job."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from lightwork_contracts.ids import ListingId, PaymentHashField, Pubkey, PubkeyField, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import AmountMsat, PriceMsat
from lightwork_contracts.signed.document import (
    ID_PATTERN,
    Document,
    Hash,
    Seconds,
    UnixSecond,
    read_document,
    require_tags,
    sign_document,
)
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.kinds import QUOTE
from lightwork_contracts.status import Acceptance

MAX_HOLD_BLOCKS = 2016


class QuoteTerms(Document):
    """A price for one input and one buyer. Amounts in msat, durations in seconds, dates in Unix seconds."""

    quote_id: QuoteId = Field(pattern=ID_PATTERN)
    listing_id: ListingId = Field(pattern=ID_PATTERN)
    listing_version: int = Field(ge=1, strict=True)
    input_hash: Hash = Field(description="SHA-256 of the input in canonical JSON")
    buyer: PubkeyField
    provider: PubkeyField
    price_msat: PriceMsat = Field(description="what the provider receives")
    fee_msat: AmountMsat = Field(description="what the broker earns")
    routing_msat: AmountMsat = Field(description="the most that routing the payout may cost")
    total_msat: PriceMsat = Field(description="what the buyer pays: price + fee + routing")
    unspent_routing_to: Literal["broker"] = "broker"
    payment_hash: PaymentHashField
    pay_seconds: Seconds = Field(description="how long the hold invoice can be paid")
    work_seconds: Seconds
    review_seconds: Seconds
    forward_seconds: Seconds = Field(description="how long the broker has to pay or credit the provider")
    hold_cltv_blocks: int = Field(ge=1, le=MAX_HOLD_BLOCKS, strict=True)
    acceptance: Acceptance
    mode: PaymentMode = PaymentMode.ESCROW
    expires_at: UnixSecond
    created_at: UnixSecond
    broker_node: str = Field(pattern=r"^0[23][0-9a-f]{64}$", description="the node of the hold invoice")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.total_msat != self.price_msat + self.fee_msat + self.routing_msat:
            raise ValueError("total_msat is not price_msat + fee_msat + routing_msat")
        if self.mode is PaymentMode.CREDIT and self.routing_msat:
            raise ValueError("nothing is routed in credit mode, so routing_msat is 0")
        if self.expires_at <= self.created_at:
            raise ValueError("expires_at is not after created_at")
        if (self.acceptance is Acceptance.REVIEW) != (self.review_seconds > 0):
            raise ValueError("review_seconds is 0 for acceptance auto, and at least 1 for review")
        return self


def _tags(terms: QuoteTerms) -> list[list[str]]:
    return [["quote", terms.quote_id], ["p", terms.buyer], ["p", terms.provider]]


def sign_quote(terms: QuoteTerms, *, key: SecretKey) -> SignedEvent:
    """Return the quote as an event of the broker (kind 8401), dated as the terms are."""
    return sign_document(terms, key=key, kind=QUOTE, created_at=terms.created_at, tags=_tags(terms))


def read_quote(event: SignedEvent) -> tuple[Pubkey, QuoteTerms]:
    """Return which broker signed and what, after checking kind, signature and content.

    Raises:
        EventError: with the code of the first thing that is wrong.
    """
    signer, terms = read_document(event, kind=QUOTE, model=QuoteTerms)
    require_tags(event, _tags(terms))
    return signer, terms
