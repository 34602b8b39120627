"""What a buyer checks before paying, and after: pure, and every refusal with a code of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lightwork.errors import CheckCode, CheckFailed
from lightwork_contracts.bolt11 import Invoice, InvoiceError, read_invoice
from lightwork_contracts.errors import EventError
from lightwork_contracts.ids import ListingId, PaymentHash, Pubkey
from lightwork_contracts.modes import TRUST, PaymentMode
from lightwork_contracts.money import Msat, format_msat
from lightwork_contracts.signed.commitment import Commitment, read_commitment
from lightwork_contracts.signed.listing import read_listing
from lightwork_contracts.signed.quote import QuoteTerms, read_quote
from lightwork_contracts.wire.market import ListingView, QuoteView


@dataclass(frozen=True, slots=True)
class TrustedBroker:
    """Who the buyer believes the broker to be: pinned in the profile, or told at the start."""

    pubkey: str
    node: str
    network: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the buyer asked for. Whatever is None was left to the broker."""

    buyer: Pubkey
    input_hash: str
    max_price: Msat
    task: str | None = None
    listing_id: ListingId | None = None
    listing: ListingView | None = None
    modes: tuple[PaymentMode, ...] = (PaymentMode.ESCROW,)


def check_listing(listing: ListingView) -> None:
    """Check that the agent itself signed the listing as the broker shows it.

    Raises:
        CheckFailed: LISTING_SIGNATURE.
    """
    try:
        signer, content = read_listing(listing.event)
    except EventError as error:
        raise CheckFailed(CheckCode.LISTING_SIGNATURE, f"listing {listing.id}: {error.message}") from None
    if signer != listing.agent or content != listing.content:
        raise CheckFailed(
            CheckCode.LISTING_SIGNATURE,
            f"listing {listing.id} is shown differently from how its agent signed it",
        )


def check_quote(quote: QuoteView, *, asked: Asked, broker: TrustedBroker, now: int) -> QuoteTerms:
    """Check a quote against what was asked, and both signatures; return its signed terms.

    Raises:
        CheckFailed: with the code of the first thing that does not hold.
    """
    terms = _signed_terms(quote, broker=broker)
    _check_asked(quote, terms, asked=asked)
    commitment = _provider_commitment(quote)
    _check_mode(terms, commitment, asked=asked)
    _check_agreement(terms, commitment)
    if terms.price_msat + terms.fee_msat + terms.routing_msat != terms.total_msat:
        raise CheckFailed(CheckCode.TOTAL, "the total is not the sum of price, fee and routing")
    if terms.total_msat > asked.max_price:
        raise CheckFailed(
            CheckCode.ABOVE_MAX,
            f"{format_msat(terms.total_msat)} is above the maximum of {format_msat(asked.max_price)}",
            hint="raise the maximum, if the task is worth it; nothing was paid",
        )
    if terms.expires_at <= now:
        raise CheckFailed(CheckCode.QUOTE_EXPIRED, "the quote has expired", hint="ask for a new one")
    if commitment.expires_at <= now:
        raise CheckFailed(
            CheckCode.QUOTE_EXPIRED, "the provider's promise has expired", hint="ask for a new one"
        )
    if commitment.invoice is not None:
        _check_provider_invoice(commitment, commitment.invoice, broker=broker, now=now)
    return terms


def check_invoice(
    text: str | None, *, terms: QuoteTerms, broker: TrustedBroker, now: int, max_final_cltv: int
) -> Invoice:
    """Check the hold invoice against the quote; return what it says.

    Raises:
        CheckFailed: with the code of the first thing that does not hold.
    """
    if text is None:
        raise CheckFailed(CheckCode.INVOICE_MISSING, "the broker sent no invoice")
    try:
        invoice = read_invoice(text)
    except InvoiceError as error:
        raise CheckFailed(
            CheckCode.INVOICE_MALFORMED, f"the invoice cannot be read: {error.message}"
        ) from None
    if invoice.network.value != broker.network:
        raise CheckFailed(
            CheckCode.INVOICE_NETWORK, f"the invoice is for {invoice.network.value}, not {broker.network}"
        )
    if invoice.amount_msat != terms.total_msat:
        asks = "no amount" if invoice.amount_msat is None else format_msat(invoice.amount_msat)
        raise CheckFailed(
            CheckCode.INVOICE_AMOUNT,
            f"the invoice asks for {asks}, the quote for {format_msat(terms.total_msat)}",
        )
    if invoice.payment_hash != terms.payment_hash:
        raise CheckFailed(
            CheckCode.INVOICE_HASH,
            "the invoice's hash is not the provider's: the broker could keep the money",
        )
    if invoice.payee != terms.broker_node:
        raise CheckFailed(CheckCode.INVOICE_PAYEE, "the invoice pays another node than the broker's")
    if invoice.is_expired(now):
        raise CheckFailed(CheckCode.INVOICE_EXPIRED, "the invoice has expired", hint="hire again")
    limit = min(max_final_cltv, terms.hold_cltv_blocks)
    if invoice.min_final_cltv > limit:
        raise CheckFailed(
            CheckCode.INVOICE_CLTV,
            f"the invoice could lock the money for {invoice.min_final_cltv} blocks; {limit} are allowed",
        )
    return invoice


def check_distance(quote: QuoteView, *, peers: frozenset[str]) -> None:
    """Check that the provider's node is neither the buyer's own nor next to it, as far as its invoice tells.

    The provider knows the preimage before it works, so a node of its own that lies on the buyer's route can
    take the payment there. `peers`: keys of the buyer's node and of those that it has channels with, in hex.

    Raises:
        CheckFailed: PROVIDER_NEARBY.
    """
    text = _provider_commitment(quote).invoice
    if text is not None and read_invoice(text).payee in peers:
        raise CheckFailed(
            CheckCode.PROVIDER_NEARBY,
            "the provider's node is your own or shares a channel with it: "
            "it could take the payment on the way without working",
            hint="choose another provider, or pay from another node; nothing was paid",
        )


def proves(preimage: str, *, payment_hash: PaymentHash) -> bool:
    """Return whether this is the preimage of the hash."""
    try:
        return len(preimage) == 64 and hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == payment_hash
    except ValueError:
        return False


def check_proof(preimage: str, *, payment_hash: PaymentHash) -> None:
    """Check that the preimage is that of the hash that the provider committed to.

    Raises:
        CheckFailed: PREIMAGE; the preimage itself is not in the message.
    """
    if not proves(preimage, payment_hash=payment_hash):
        raise CheckFailed(
            CheckCode.PREIMAGE,
            "the proof of payment does not fit the hash",
            hint="keep the job's id, and ask the broker",
        )


def _signed_terms(quote: QuoteView, *, broker: TrustedBroker) -> QuoteTerms:
    try:
        signer, terms = read_quote(quote.event)
    except EventError as error:
        raise CheckFailed(CheckCode.QUOTE_SIGNATURE, f"the quote: {error.message}") from None
    if signer != broker.pubkey:
        raise CheckFailed(CheckCode.BROKER_KEY, "the quote is signed by another key than the broker's")
    if terms.broker_node != broker.node:
        raise CheckFailed(CheckCode.INVOICE_PAYEE, "the quote names another node than the broker's")
    shown = quote.model_dump(mode="json")
    shown["quote_id"] = shown["id"]
    for name, value in terms.model_dump(mode="json").items():
        if name in shown and shown[name] != value:
            raise CheckFailed(CheckCode.QUOTE_TERMS, f"the quote shows another {name} than was signed")
    return terms


def _check_asked(quote: QuoteView, terms: QuoteTerms, *, asked: Asked) -> None:
    if terms.buyer != asked.buyer:
        raise CheckFailed(CheckCode.QUOTE_TERMS, "the quote is for another buyer")
    if terms.input_hash != asked.input_hash:
        raise CheckFailed(CheckCode.INPUT_HASH, "the quote is for another input than was sent")
    if asked.task is not None and quote.task != asked.task:
        raise CheckFailed(CheckCode.LISTING, f"the quote is for task '{quote.task}', not '{asked.task}'")
    if asked.listing_id is not None and terms.listing_id != asked.listing_id:
        raise CheckFailed(CheckCode.LISTING, "the quote is for another listing")
    if asked.listing is not None:
        if (terms.listing_id, terms.listing_version) != (asked.listing.id, asked.listing.version):
            raise CheckFailed(CheckCode.LISTING, "the quote is for another version of the listing")
        if terms.provider != asked.listing.agent:
            raise CheckFailed(CheckCode.PROVIDER_KEY, "the quote names another provider than the listing")


def _provider_commitment(quote: QuoteView) -> Commitment:
    try:
        signer, commitment = read_commitment(quote.commitment)
    except EventError as error:
        raise CheckFailed(CheckCode.COMMITMENT_SIGNATURE, f"the commitment: {error.message}") from None
    if signer != quote.provider:
        raise CheckFailed(
            CheckCode.PROVIDER_KEY, "the commitment is signed by another key than the provider's"
        )
    return commitment


def _check_mode(terms: QuoteTerms, commitment: Commitment, *, asked: Asked) -> None:
    """In credit mode the hash is the broker's: nobody but a buyer who said so hires that way."""
    if terms.mode not in asked.modes:
        raise CheckFailed(
            CheckCode.MODE,
            f"this job would be paid in {terms.mode} mode: {TRUST[terms.mode].meaning}",
            hint="choose another listing, or allow credit if you trust this broker; nothing was paid",
        )
    if commitment.mode is not terms.mode:
        raise CheckFailed(
            CheckCode.MODE, f"the provider agreed to {commitment.mode} mode, the quote is for {terms.mode}"
        )
    if asked.listing is not None and asked.listing.content.mode is not terms.mode:
        raise CheckFailed(
            CheckCode.MODE,
            f"the listing is for {asked.listing.content.mode} mode, the quote for {terms.mode}",
        )


def _check_agreement(terms: QuoteTerms, commitment: Commitment) -> None:
    if commitment.quote_id != terms.quote_id:
        raise CheckFailed(CheckCode.QUOTE_TERMS, "the commitment is to another quote")
    if (commitment.listing_id, commitment.listing_version) != (terms.listing_id, terms.listing_version):
        raise CheckFailed(CheckCode.LISTING, "provider and broker speak of different listings")
    if commitment.input_hash != terms.input_hash:
        raise CheckFailed(CheckCode.INPUT_HASH, "the provider committed to another input")
    if commitment.price_msat != terms.price_msat:
        raise CheckFailed(
            CheckCode.PRICE,
            f"the provider asks {format_msat(commitment.price_msat)}, not {format_msat(terms.price_msat)}",
        )
    if terms.mode is PaymentMode.ESCROW and commitment.payment_hash != terms.payment_hash:
        raise CheckFailed(
            CheckCode.INVOICE_HASH, "the quote's hash is not the one that the provider committed to"
        )


def _check_provider_invoice(commitment: Commitment, text: str, *, broker: TrustedBroker, now: int) -> None:
    """The provider's own invoice must be able to be paid, or the work could never be released."""
    try:
        invoice = read_invoice(text)
    except InvoiceError as error:
        raise CheckFailed(CheckCode.PROVIDER_INVOICE, f"the provider's invoice: {error.message}") from None
    fits = (
        invoice.payment_hash == commitment.payment_hash
        and invoice.amount_msat == commitment.price_msat
        and invoice.network.value == broker.network
    )
    if not fits:
        raise CheckFailed(
            CheckCode.PROVIDER_INVOICE, "the provider's invoice is not what the provider signed"
        )
    if invoice.payee == broker.node:
        raise CheckFailed(CheckCode.PROVIDER_INVOICE, "the provider's invoice pays the broker itself")
    if invoice.is_expired(now):
        raise CheckFailed(CheckCode.PROVIDER_INVOICE, "the provider's invoice has expired")
