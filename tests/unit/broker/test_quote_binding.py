"""A job is what its quote says: nothing else is committed to, hired on, or delivered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
from databases import Look, Template
from escrow_story import BUYER, PROVIDER
from escrow_world import (
    BUYER_KEY,
    LIMITS,
    PRICE,
    PROVIDER_KEY,
    PROVIDER_NODE_KEY,
    START,
    WORK_SECONDS,
    World,
    open_world,
)
from fast_folder import fast_folder
from pydantic import JsonValue

from lightwork_broker.errors import (
    CommitmentInvalid,
    IdempotencyConflict,
    InvoiceRefused,
    NotFound,
    PriceAboveMax,
    QuoteExpired,
)
from lightwork_broker.escrow.wrap import invoice_seconds
from lightwork_broker.ledger import store as ledger
from lightwork_broker.market.quote_store import Quote
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import ListingId, Pubkey, QuoteId
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import ListingContent, QuotedPrice, sign_listing
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.jobs import PollWork
from lightwork_contracts.wire.market import RequestQuote
from lightwork_contracts.wire.problems import ProblemCode

PATIENCE_SECONDS = 5
INPUT: dict[str, JsonValue] = {"text": "hello"}
STRANGER = Pubkey("ab" * 32)


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=2) as opened:
            yield opened


async def _still_there() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Promise:
    """What a provider commits to for one quote; by default what it was asked for."""

    listing_id: ListingId
    price: Msat = PRICE
    version: int = 1
    input_hash: str = input_hash(INPUT)
    quote_id: QuoteId | None = None
    key: SecretKey = PROVIDER_KEY
    seed: str = "the provider's preimage"

    def sign(self, world: World, quote_id: QuoteId) -> SignedEvent:
        now = int(world.clock.now())
        payment_hash = world.node.provider_hash(self.seed)
        invoice = write_invoice(
            network=Network.REGTEST,
            amount_msat=self.price,
            timestamp=now,
            payment_hash=payment_hash,
            payment_secret=hashlib.sha256(payment_hash.encode()).hexdigest(),
            private_key=PROVIDER_NODE_KEY,
            description="a job",
            expiry_seconds=invoice_seconds(LIMITS, work_seconds=WORK_SECONDS, review_seconds=0),
            min_final_cltv=24,
        )
        commitment = Commitment(
            quote_id=self.quote_id or quote_id,
            listing_id=self.listing_id,
            listing_version=self.version,
            input_hash=self.input_hash,
            price_msat=self.price,
            payment_hash=payment_hash,
            invoice=invoice,
            expires_at=now + 60,
        )
        return sign_commitment(commitment, key=self.key, created_at=now)


async def _ask(
    world: World,
    listing_id: ListingId,
    *,
    task_input: dict[str, JsonValue] | None = None,
    most: Msat | None = None,
    key: str | None = None,
) -> tuple[asyncio.Task[Quote], QuoteId]:
    """Ask for a quote, and hand it to its provider."""
    broker = world.serving()
    await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0), gone=_still_there)
    request = RequestQuote(listing_id=listing_id, input=task_input or INPUT, max_price_msat=most)
    asking = asyncio.create_task(broker.quotes.request(BUYER, request, key=key))
    await world.activity.calm()
    work = await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_quotes=1), gone=_still_there)
    (item,) = work.work
    assert item.kind == "quote"
    return asking, item.quote_id


async def _end(asking: asyncio.Task[Quote]) -> BaseException | Quote:
    (ended,) = await asyncio.wait_for(asyncio.gather(asking, return_exceptions=True), PATIENCE_SECONDS)
    return ended


def _rows(world: World, sql: str) -> list[dict[str, Any]]:
    look = Look(world.place)
    try:
        return look.rows(sql)
    finally:
        look.close()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"input_hash": input_hash({"text": "something cheaper"})}, id="another input"),
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"key": BUYER_KEY}, id="another key"),
        pytest.param({"price": Msat(PRICE + 1)}, id="a higher price"),
        pytest.param({"listing_id": ListingId("lst_" + "1" * 26)}, id="another listing"),
        pytest.param({"quote_id": QuoteId("qte_" + "1" * 26)}, id="another quote"),
    ],
)
async def test_a_commitment_to_something_else_is_refused(world: World, changed: dict[str, Any]) -> None:
    listing_id = world.listings[Acceptance.AUTO]
    asking, quote_id = await _ask(world, listing_id)
    promise = Promise(**{"listing_id": listing_id, **changed})
    with pytest.raises(CommitmentInvalid):
        await world.serving().quotes.answer(PROVIDER, quote_id, promise.sign(world, quote_id))
    assert isinstance(await _end(asking), Exception)
    assert _rows(world, "SELECT price_msat, event FROM quote") == [{"price_msat": None, "event": None}]


async def test_a_commitment_to_what_was_asked_is_quoted_as_it_was_asked(world: World) -> None:
    listing_id = world.listings[Acceptance.AUTO]
    asking, quote_id = await _ask(world, listing_id)
    await world.serving().quotes.answer(PROVIDER, quote_id, Promise(listing_id).sign(world, quote_id))
    quote = await _end(asking)
    assert isinstance(quote, Quote)
    assert (quote.price_msat, quote.listing_version, quote.input_hash) == (PRICE, 1, input_hash(INPUT))


def _advert(**changed: Any) -> SignedEvent:
    said: dict[str, Any] = {
        "name": "negotiable",
        "description": "Return the text unchanged.",
        "agent_name": "echo",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "string"},
        "price": QuotedPrice(),
        "work_seconds": WORK_SECONDS,
        **changed,
    }
    return sign_listing(ListingContent(**said), key=PROVIDER_KEY, created_at=int(START) + len(changed))


async def test_a_total_above_the_buyers_maximum_is_not_quoted(world: World) -> None:
    listing = await world.serving().market.publish(PROVIDER, _advert())
    asking, quote_id = await _ask(world, listing.id, most=Msat(PRICE + 500))
    await world.serving().quotes.answer(PROVIDER, quote_id, Promise(listing.id).sign(world, quote_id))
    assert isinstance(await _end(asking), PriceAboveMax)


async def test_a_quote_that_has_expired_cannot_be_hired_on(world: World) -> None:
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    world.clock.time += 61
    with pytest.raises(QuoteExpired):
        await broker.jobs.hire(BUYER, quote)
    assert _rows(world, "SELECT id FROM job") == []


async def test_a_result_is_held_against_the_version_that_was_quoted(world: World) -> None:
    broker = world.serving()
    listing = await broker.market.publish(PROVIDER, _advert())
    asking, quote_id = await _ask(world, listing.id)
    await broker.quotes.answer(PROVIDER, quote_id, Promise(listing.id).sign(world, quote_id))
    quote = await _end(asking)
    assert isinstance(quote, Quote)
    job = await broker.jobs.hire(BUYER, quote)
    world.node.buyer_pays(job.payment_hash, world.node.holds[job.payment_hash].value_msat)
    await world.calm()
    await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_jobs=1), gone=_still_there)
    newer = await broker.market.publish(PROVIDER, _advert(output_schema={"type": "number"}))
    assert (newer.id, newer.version) == (listing.id, 2)
    await broker.queue.deliver(PROVIDER, job.id, epoch=1, result="hello")
    await world.calm()
    assert _rows(world, "SELECT status, listing_version FROM job") == [
        {"status": "settled", "listing_version": 1}
    ]


async def test_a_quote_hired_many_times_at_once_is_one_job(world: World) -> None:
    quote = await world.add_quote(world.serving(), acceptance=Acceptance.AUTO)
    jobs = await asyncio.gather(*(world.serving(number).jobs.hire(BUYER, quote) for number in range(6)))
    assert len({job.id for job in jobs}) == 1
    assert len(_rows(world, "SELECT id FROM job")) == len(_rows(world, "SELECT id FROM escrow")) == 1
    assert len(world.node.holds) == 1


async def test_another_request_under_a_used_key_is_refused(world: World) -> None:
    listing_id = world.listings[Acceptance.AUTO]
    asking, quote_id = await _ask(world, listing_id, key="one key")
    await world.serving().quotes.answer(PROVIDER, quote_id, Promise(listing_id).sign(world, quote_id))
    first = await _end(asking)
    assert isinstance(first, Quote)
    same = RequestQuote(listing_id=listing_id, input=INPUT)
    assert (await world.serving().quotes.request(BUYER, same, key="one key")).id == first.id
    other = RequestQuote(listing_id=listing_id, input={"text": "something else"})
    with pytest.raises(IdempotencyConflict):
        await world.serving().quotes.request(BUYER, other, key="one key")
    assert len(_rows(world, "SELECT id FROM quote")) == 1


async def test_a_hash_that_was_withdrawn_to_is_not_quoted(world: World) -> None:
    listing_id, broker = world.listings[Acceptance.AUTO], world.serving()
    asking, quote_id = await _ask(world, listing_id)
    event = Promise(listing_id).sign(world, quote_id)
    payment_hash = Commitment.model_validate_json(event.content).payment_hash
    assert payment_hash is not None
    async with broker.database.write() as tx:
        assert await ledger.claim(tx, payment_hash, purpose="withdrawal:wdr_1")
    with pytest.raises(InvoiceRefused) as caught:
        await broker.quotes.answer(PROVIDER, quote_id, event)
    assert caught.value.invoice_code is ProblemCode.INVOICE_HASH_USED
    assert isinstance(await _end(asking), Exception)


async def test_nobody_else_can_hire_on_a_quote(world: World) -> None:
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    for other in (STRANGER, PROVIDER):
        with pytest.raises(NotFound):
            await broker.jobs.hire(other, quote)
    assert _rows(world, "SELECT id FROM job") == []
