"""The provider's commitment: this is my price for this input, and this invoice, or your credit, is how I take it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lightwork_contracts.bolt11.bech32 import MAX_INVOICE_CHARACTERS
from lightwork_contracts.ids import ListingId, PaymentHashField, Pubkey, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import PriceMsat
from lightwork_contracts.signed.document import (
    ID_PATTERN,
    Document,
    Hash,
    UnixSecond,
    read_document,
    require_tags,
    sign_document,
)
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.kinds import COMMITMENT


class Commitment(Document):
    """What the provider signs for one quote. Whether the invoice says the same is for its reader to check."""

    quote_id: QuoteId = Field(pattern=ID_PATTERN)
    listing_id: ListingId = Field(pattern=ID_PATTERN)
    listing_version: int = Field(ge=1, strict=True)
    input_hash: Hash = Field(description="SHA-256 of the input in canonical JSON")
    price_msat: PriceMsat
    mode: PaymentMode = PaymentMode.ESCROW
    payment_hash: PaymentHashField | None = Field(description="that of the invoice; null in credit mode")
    invoice: str | None = Field(
        min_length=1,
        max_length=MAX_INVOICE_CHARACTERS,
        pattern=r"^[0-9a-z]+$",
        description="BOLT11, lower case; null in credit mode",
    )
    expires_at: UnixSecond = Field(description="until when the price holds, in Unix seconds")

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = self.mode is PaymentMode.ESCROW
        if (self.invoice is not None) != own or (self.payment_hash is not None) != own:
            raise ValueError("an escrow takes an invoice and its payment hash, credit neither")
        return self


def _tags(commitment: Commitment) -> list[list[str]]:
    return [["quote", commitment.quote_id]]


def sign_commitment(commitment: Commitment, *, key: SecretKey, created_at: int) -> SignedEvent:
    """Return the commitment as an event of the provider (kind 8400). `created_at` in Unix seconds."""
    return sign_document(commitment, key=key, kind=COMMITMENT, created_at=created_at, tags=_tags(commitment))


def read_commitment(event: SignedEvent) -> tuple[Pubkey, Commitment]:
    """Return who committed and to what, after checking kind, signature and content.

    Raises:
        EventError: with the code of the first thing that is wrong.
    """
    signer, commitment = read_document(event, kind=COMMITMENT, model=Commitment)
    require_tags(event, _tags(commitment))
    return signer, commitment
