"""Listings and quotes on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, computed_field

from lightwork_contracts.ids import ListingId, PaymentHashField, PubkeyField, QuoteId
from lightwork_contracts.modes import TRUST, PaymentMode
from lightwork_contracts.money import AmountMsat, PriceMsat
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.listing import ListingContent
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.base import Answer, JsonInput, Page, UnixTime, Wire


class PublishListing(Wire):
    """Publish or change a listing. `event` is signed by the agent's key; a change makes a new version."""

    event: SignedEvent


class ListingView(Answer):
    """One version of a listing. `event` is what the agent signed: the broker cannot forge it."""

    id: ListingId
    version: int = Field(ge=1)
    agent: PubkeyField
    content: ListingContent
    content_hash: str
    event: SignedEvent
    online: bool = Field(description="the provider has asked for work within the last liveness window")
    retired: bool
    published_at: UnixTime
    updated_at: UnixTime

    @computed_field(description="what the listing's mode of payment does not protect from, in words")
    @property
    def who_could_cheat(self) -> str:
        return TRUST[self.content.mode].who_could_cheat


class ListingPage(Page):
    listings: tuple[ListingView, ...]


class RequestQuote(Wire):
    """Ask for a price for one input, of a listing by `listing_id` or of the best online one named `task`."""

    listing_id: ListingId | None = None
    task: str | None = Field(default=None, max_length=64, examples=["echo"])
    version: int | None = Field(default=None, ge=1, description="refuse unless this is the current version")
    input: JsonInput
    modes: tuple[PaymentMode, ...] = Field(
        default=(PaymentMode.ESCROW,),
        min_length=1,
        max_length=len(PaymentMode),
        description="how the buyer is willing to pay; name `credit` only if you trust this broker with the price",
    )
    max_price_msat: PriceMsat | None = Field(
        default=None,
        description="refuse a total above this, before the provider is bothered where that is possible",
    )


class QuoteView(Answer):
    """A signed price. `event` is signed by the broker and holds the same terms; `commitment` by the provider."""

    id: QuoteId
    listing_id: ListingId
    listing_version: int
    task: str
    provider: PubkeyField
    price_msat: PriceMsat = Field(description="what the provider receives")
    fee_msat: AmountMsat = Field(description="what the broker earns")
    routing_msat: AmountMsat = Field(description="budget for routing the payout; an upper limit")
    total_msat: PriceMsat = Field(description="what the buyer pays: price + fee + routing")
    unspent_routing_to: Literal["broker"] = "broker"
    payment_hash: PaymentHashField
    mode: PaymentMode = PaymentMode.ESCROW
    acceptance: Acceptance
    pay_seconds: int
    work_seconds: int
    review_seconds: int
    forward_seconds: int
    hold_cltv_blocks: int
    expires_at: UnixTime
    event: SignedEvent
    commitment: SignedEvent

    @computed_field(description="what this mode of payment does not protect from, in words")
    @property
    def who_could_cheat(self) -> str:
        return TRUST[self.mode].who_could_cheat


class QuoteWork(Answer):
    """A provider is asked to price one input: answer with a commitment (see `AnswerQuote`) or refuse."""

    kind: Literal["quote"] = "quote"
    quote_id: QuoteId
    listing_id: ListingId
    listing_version: int
    task: str
    input: JsonInput
    input_hash: str
    answer_by: UnixTime
    mode: PaymentMode = Field(
        default=PaymentMode.ESCROW, description="escrow: answer with an invoice; credit: without"
    )
    invoice_expiry_seconds: int = Field(description="the invoice must be payable for at least this long")
    max_final_cltv: int = Field(
        description="the largest final CLTV delta that the broker will accept, in blocks"
    )
    deadline_seconds: int = Field(description="how long one run of the task may take")


class AnswerQuote(Wire):
    """The provider's price: its signed commitment, with an invoice of its own unless the mode is credit."""

    commitment: SignedEvent


class RefuseQuote(Wire):
    """The provider will not do this. The reason reaches the buyer."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
