"""Quoting: a buyer asks, the provider answers with its own invoice, the broker adds its price and signs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, assert_never

from lightwork_broker.clock import Clock, Ids, Steady
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import (
    BrokerError,
    CommitmentInvalid,
    IdempotencyConflict,
    InputInvalid,
    InvoiceRefused,
    NotFound,
    PriceAboveMax,
    ProviderRefused,
    ProviderUnresponsive,
    QuoteExpired,
    RequestInvalid,
    WrongStatus,
    code_of,
)
from lightwork_broker.market import quote_store as store
from lightwork_broker.market.quote_store import Quote, QuoteStatus
from lightwork_broker.market.schema import fit
from lightwork_broker.market.service import Market
from lightwork_broker.market.store import Listing
from lightwork_broker.signals import Listener, Signals
from lightwork_contracts.errors import CanonicalError, ContractError
from lightwork_contracts.ids import PaymentHash, Pubkey, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, read_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice
from lightwork_contracts.signed.quote import QuoteTerms, read_quote, sign_quote
from lightwork_contracts.wire.market import QuoteView, QuoteWork, RequestQuote
from lightwork_contracts.wire.problems import ProblemCode

ANSWER_SECONDS = 10
HAND_AGAIN_SECONDS = 4
RECHECK_SECONDS = 2.0
EXPIRY_SECONDS = 60
"""A quote may be hired on for this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Underwriting:
    """What guarding one job costs and how long it may take. Msat, seconds, blocks.

    `payment_hash` is the provider's, or in credit mode the broker's own.
    """

    payment_hash: PaymentHash
    fee_msat: Msat
    routing_msat: Msat
    pay_seconds: int
    forward_seconds: int
    hold_cltv_blocks: int
    outgoing_cltv_blocks: int


class Underwriter(Protocol):
    """Who decides whether a provider's invoice can be guarded, and at what price."""

    def invoice_terms(self, listing: Listing) -> tuple[int, int]:
        """Return for how many seconds the invoice must be payable, and its largest final CLTV delta."""
        ...

    def least_total(self, price_msat: Msat, *, mode: PaymentMode) -> Msat: ...

    async def require_room(self) -> None: ...

    async def underwrite(self, commitment: Commitment, listing: Listing) -> Underwriting: ...


class Quotes:
    """The quotes of this broker."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        signals: Signals,
        market: Market,
        underwriter: Underwriter,
        key: SecretKey,
        node: str,
        steady: Steady | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._steady = steady or clock.now
        self._ids = ids
        self._signals = signals
        self._market = market
        self._underwriter = underwriter
        self._key = key
        self._node = node

    async def request(self, buyer: Pubkey, request: RequestQuote, *, key: str | None) -> Quote:
        """Ask the provider for a price and wait for it, up to ten seconds.

        Raises:
            InputInvalid, PriceAboveMax, ProviderOffline, ProviderRefused, ProviderUnresponsive,
            IdempotencyConflict, TooManyJobs, NotFound and what `Market.choose` raises.
        """
        if (request.listing_id is None) == (request.task is None):
            raise RequestInvalid("name the listing by either listing_id or task")
        try:
            hashed, request_hash = input_hash(dict(request.input)), input_hash(request.model_dump())
        except CanonicalError as error:
            raise InputInvalid(f"the input cannot be signed: {error.message}") from error
        if key is not None:
            async with self._database.read() as tx:
                known = await store.by_key(tx, buyer, key)
            if known is not None:
                if known.request_hash != request_hash:
                    raise IdempotencyConflict("this Idempotency-Key was used for another request")
                return await self._wait_for(known)
        listing = await self._market.choose(
            listing_id=request.listing_id, task=request.task, version=request.version, modes=request.modes
        )
        if errors := await fit(dict(request.input), listing.content.input_schema):
            raise InputInvalid(f"the input does not fit what {listing.name!r} takes", errors=errors)
        if isinstance(listing.content.price, FixedPrice):
            self._check_max(
                self._underwriter.least_total(listing.content.price.msat, mode=listing.content.mode),
                request.max_price_msat,
            )
        await self._underwriter.require_room()
        now = self._clock.now()
        quote = Quote(
            id=QuoteId(self._ids.new("qte")),
            status=QuoteStatus.REQUESTED,
            buyer=buyer,
            provider=listing.agent,
            listing_id=listing.id,
            listing_version=listing.version,
            task=listing.name,
            input=json.dumps(request.input, ensure_ascii=False, separators=(",", ":")),
            input_hash=hashed,
            max_price_msat=request.max_price_msat,
            idempotency_key=key,
            request_hash=request_hash,
            answer_by=now + ANSWER_SECONDS,
            created_at=now,
        )
        with self._signals.listen(f"quote:{quote.id}") as listener:
            async with self._database.write() as tx:
                if key is not None and await store.by_key(tx, buyer, key) is not None:
                    raise IdempotencyConflict("a request with this Idempotency-Key is under way")
                await store.insert(tx, quote)
                tx.after_commit(lambda: self._signals.notify(f"work:{listing.agent}"))
            return await self._wait_for(quote, listener)

    async def _wait_for(self, quote: Quote, listener: Listener | None = None) -> Quote:
        """Wait until a quote is answered, refused, or too late; though the clock is put back, no longer than that."""
        latest = self._steady() + min(quote.answer_by - self._clock.now(), ANSWER_SECONDS)
        with nullcontext(listener) if listener else self._signals.listen(f"quote:{quote.id}") as heard:
            fresh = await self.get(quote.id)
            while fresh.status is QuoteStatus.REQUESTED:
                left = min(quote.answer_by - self._clock.now(), latest - self._steady())
                if left <= 0 or heard.closing:
                    break
                await heard.wait(min(left, RECHECK_SECONDS))
                fresh = await self.get(quote.id)
        if fresh.status is QuoteStatus.REQUESTED:
            async with self._database.write() as tx:
                await store.finish(tx, quote.id, QuoteStatus.EXPIRED)
            fresh = await self.get(quote.id)
        return await self._answered(fresh)

    async def get(self, quote_id: str) -> Quote:
        async with self._database.read() as tx:
            quote = await store.get(tx, quote_id)
        if quote is None:
            raise NotFound(f"there is no quote {quote_id}")
        return quote

    async def of_buyer(self, quote_id: str, buyer: Pubkey) -> Quote:
        """Return a buyer's own quote; somebody else's is not found."""
        quote = await self.get(quote_id)
        if quote.buyer != buyer:
            raise NotFound(f"there is no quote {quote_id}")
        return await self._answered(quote)

    async def waiting(self, provider: Pubkey, *, most: int) -> list[Quote]:
        """Return the quotes that an agent is to be asked now."""
        now = self._clock.now()
        async with self._database.read() as tx:
            found = await store.waiting(tx, provider, now=now, again_before=now - HAND_AGAIN_SECONDS)
        return found[:most]

    async def work(self, quote: Quote) -> QuoteWork:
        """Return a quote as its provider is asked for it."""
        listing = await self._market.get(quote.listing_id, version=quote.listing_version)
        seconds, max_cltv = self._underwriter.invoice_terms(listing)
        return QuoteWork(
            quote_id=quote.id,
            listing_id=quote.listing_id,
            listing_version=quote.listing_version,
            task=quote.task,
            input=json.loads(quote.input),
            input_hash=quote.input_hash,
            answer_by=int(quote.answer_by),
            mode=listing.content.mode,
            invoice_expiry_seconds=seconds,
            max_final_cltv=max_cltv,
            deadline_seconds=listing.content.work_seconds,
        )

    async def refuse(self, provider: Pubkey, quote_id: str, *, reason: str) -> None:
        """The provider declines; the buyer is told why."""
        quote = await self._asked(provider, quote_id)
        await self._finish(quote, code=ProblemCode.PROVIDER_REFUSED, reason=reason)

    async def answer(self, provider: Pubkey, quote_id: str, event: SignedEvent) -> None:
        """Take the provider's commitment, price the job, and sign the quote.

        Raises:
            CommitmentInvalid, InvoiceRefused, NotFound, WrongStatus. The buyer is told too.
        """
        quote = await self._asked(provider, quote_id)
        try:
            await self._take(quote, event)
        except PriceAboveMax as error:
            await self._finish(quote, code=ProblemCode.PRICE_ABOVE_MAX, reason=error.detail)
        except BrokerError as error:
            await self._finish(quote, code=code_of(error), reason=error.detail)
            raise

    async def _take(self, quote: Quote, event: SignedEvent) -> None:
        listing = await self._market.get(quote.listing_id, version=quote.listing_version)
        commitment = self._read_commitment(quote, event, listing)
        terms = await self._underwriter.underwrite(commitment, listing)
        total = Msat(commitment.price_msat + terms.fee_msat + terms.routing_msat)
        self._check_max(total, quote.max_price_msat)
        now = int(self._clock.now())
        signed = sign_quote(
            QuoteTerms(
                quote_id=quote.id,
                listing_id=quote.listing_id,
                listing_version=quote.listing_version,
                input_hash=quote.input_hash,
                buyer=quote.buyer,
                provider=quote.provider,
                price_msat=commitment.price_msat,
                fee_msat=terms.fee_msat,
                routing_msat=terms.routing_msat,
                total_msat=total,
                unspent_routing_to="broker",
                payment_hash=terms.payment_hash,
                pay_seconds=terms.pay_seconds,
                work_seconds=listing.content.work_seconds,
                review_seconds=listing.content.review_seconds,
                forward_seconds=terms.forward_seconds,
                hold_cltv_blocks=terms.hold_cltv_blocks,
                acceptance=listing.content.acceptance,
                mode=listing.content.mode,
                created_at=now,
                expires_at=now + EXPIRY_SECONDS,
                broker_node=self._node,
            ),
            key=self._key,
        )
        async with self._database.write() as tx:
            if await store.hash_is_quoted(tx, terms.payment_hash):
                raise InvoiceRefused(
                    "this payment hash was committed to before",
                    invoice_code=ProblemCode.INVOICE_HASH_USED,
                    hint="make a fresh invoice",
                )
            taken = await store.finish(
                tx,
                quote.id,
                QuoteStatus.ANSWERED,
                price_msat=commitment.price_msat,
                fee_msat=terms.fee_msat,
                routing_msat=terms.routing_msat,
                payment_hash=terms.payment_hash,
                provider_invoice=commitment.invoice,
                outgoing_cltv_blocks=terms.outgoing_cltv_blocks,
                event=signed.model_dump_json(),
                commitment=event.model_dump_json(),
                expires_at=now + EXPIRY_SECONDS,
            )
            if not taken:
                raise WrongStatus("this quote is not waiting for an answer any more")
            tx.after_commit(lambda: self._signals.notify(f"quote:{quote.id}"))

    def _read_commitment(self, quote: Quote, event: SignedEvent, listing: Listing) -> Commitment:
        try:
            signer, commitment = read_commitment(event)
        except ContractError as error:
            raise CommitmentInvalid(f"the commitment is not valid: {error}") from error
        asked = (quote.provider, quote.id, quote.listing_id, quote.listing_version, quote.input_hash)
        given = (
            signer,
            commitment.quote_id,
            commitment.listing_id,
            commitment.listing_version,
            commitment.input_hash,
        )
        if asked != given:
            raise CommitmentInvalid("the commitment is for another quote, listing, input or key")
        if commitment.mode is not listing.content.mode:
            raise CommitmentInvalid(
                f"the listing is paid in {listing.content.mode} mode, the commitment is for {commitment.mode}"
            )
        price = listing.content.price
        if isinstance(price, FixedPrice) and commitment.price_msat != price.msat:
            raise CommitmentInvalid(
                f"the listing's price is {price.msat} msat, the commitment says {commitment.price_msat} msat"
            )
        return commitment

    async def _asked(self, provider: Pubkey, quote_id: str) -> Quote:
        quote = await self.get(quote_id)
        if quote.provider != provider:
            raise NotFound(f"there is no quote {quote_id}")
        if quote.status is not QuoteStatus.REQUESTED or self._clock.now() > quote.answer_by:
            raise WrongStatus("this quote is not waiting for an answer any more")
        return quote

    async def _finish(self, quote: Quote, *, code: ProblemCode, reason: str) -> None:
        async with self._database.write() as tx:
            await store.finish(
                tx, quote.id, QuoteStatus.REFUSED, refusal_code=code.value, refusal=reason[:500]
            )
            tx.after_commit(lambda: self._signals.notify(f"quote:{quote.id}"))

    async def _answered(self, quote: Quote) -> Quote:
        match quote.status:
            case QuoteStatus.ANSWERED:
                return quote
            case QuoteStatus.REFUSED if quote.refusal_code == ProblemCode.PRICE_ABOVE_MAX:
                raise PriceAboveMax(quote.refusal or "the price is above your maximum")
            case QuoteStatus.REFUSED:
                raise ProviderRefused(
                    f"the provider could not quote this: {quote.refusal}",
                    context={"cause": quote.refusal_code},
                )
            case QuoteStatus.REQUESTED:
                raise ProviderUnresponsive("the provider has not answered yet", hint="try again in a moment")
            case QuoteStatus.EXPIRED:
                raise ProviderUnresponsive(
                    f"the provider did not answer within {ANSWER_SECONDS} s", hint="try another listing"
                )
            case _:
                assert_never(quote.status)

    @staticmethod
    def _check_max(total: Msat, maximum: Msat | int | None) -> None:
        if maximum is not None and total > maximum:
            raise PriceAboveMax(
                f"the total of {total} msat is above your maximum of {maximum} msat",
                hint="raise max_price_msat or choose a cheaper listing",
                context={"total_msat": int(total), "max_price_msat": int(maximum)},
            )


def hireable(quote: Quote, *, now: float) -> None:
    """Refuse a quote that has expired.

    Raises:
        QuoteExpired
    """
    if quote.expires_at is None or now > quote.expires_at:
        raise QuoteExpired("the quote has expired", hint="ask for a new one")


def quote_view(quote: Quote) -> QuoteView:
    """Return an answered quote as its buyer sees it."""
    if quote.event is None or quote.commitment is None:
        raise WrongStatus("the quote was not answered")
    event, terms = signed_terms(quote.event)
    return QuoteView(
        id=quote.id,
        listing_id=quote.listing_id,
        listing_version=quote.listing_version,
        task=quote.task,
        provider=quote.provider,
        price_msat=terms.price_msat,
        fee_msat=terms.fee_msat,
        routing_msat=terms.routing_msat,
        total_msat=terms.total_msat,
        payment_hash=terms.payment_hash,
        mode=terms.mode,
        acceptance=terms.acceptance,
        pay_seconds=terms.pay_seconds,
        work_seconds=terms.work_seconds,
        review_seconds=terms.review_seconds,
        forward_seconds=terms.forward_seconds,
        hold_cltv_blocks=terms.hold_cltv_blocks,
        expires_at=terms.expires_at,
        event=event,
        commitment=_signed_event(quote.commitment),
    )


@lru_cache(maxsize=2_048)
def signed_terms(event: str) -> tuple[SignedEvent, QuoteTerms]:
    """Return the event and the terms of a quote as it is stored; one text is read and verified once."""
    signed = SignedEvent.model_validate_json(event)
    return signed, read_quote(signed)[1]


@lru_cache(maxsize=2_048)
def _signed_event(event: str) -> SignedEvent:
    return SignedEvent.model_validate_json(event)
