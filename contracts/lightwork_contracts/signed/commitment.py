"""The provider's commitment: this invoice is my price for this input."""

from __future__ import annotations

from pydantic import Field

from lightwork_contracts.bolt11.bech32 import MAX_INVOICE_CHARACTERS
from lightwork_contracts.ids import ListingId, PaymentHashField, Pubkey, QuoteId
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
    payment_hash: PaymentHashField
    invoice: str = Field(
        min_length=1,
        max_length=MAX_INVOICE_CHARACTERS,
        pattern=r"^[0-9a-z]+$",
        description="BOLT11, lower case",
    )
    expires_at: UnixSecond = Field(description="until when the price holds, in Unix seconds")


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
