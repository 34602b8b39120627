"""Whoever waits is answered when it asked to be, whatever somebody does to the broker's clock meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
from databases import Template
from escrow_story import BUYER, PROVIDER, Op, Story, open_story
from escrow_world import BROKER_KEY, LEASE_SECONDS, Broker
from faulty_node import OWN_NODE
from withdrawal_world import AGENT, WrongBy, open_withdrawals

from lightwork_broker.clock import Ids
from lightwork_broker.errors import ProviderUnresponsive
from lightwork_broker.jobs.events import PING_SECONDS, JobReader
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.market.quotes import ANSWER_SECONDS, Quotes
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import sats
from lightwork_contracts.wire.accounts import WithdrawalStatus
from lightwork_contracts.wire.jobs import PollWork
from lightwork_contracts.wire.market import RequestQuote

pytestmark = pytest.mark.parametrize("template", ["sqlite"], indirect=True, scope="session")

HOUR = 3_600.0
WAIT = 20


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    async with open_story(template, brokers=1) as opened:
        assert await opened.play(Op("hire")) == []
        yield opened


async def _still_there() -> bool:
    return False


def _queue(story: Story, broker: Broker, signals: Signals) -> WorkQueue:
    return WorkQueue(
        database=broker.database,
        clock=story.world.brokers_clock,
        steady=story.world.clock.now,
        signals=signals,
        market=broker.market,
        quotes=broker.quotes,
        jobs=broker.jobs,
        lease_seconds=LEASE_SECONDS,
    )


def _reader(story: Story, broker: Broker, signals: Signals) -> JobReader:
    return JobReader(
        database=broker.database,
        steady=story.world.clock.now,
        signals=signals,
        jobs=broker.jobs,
        quotes=broker.quotes,
    )


def _poll(story: Story, broker: Broker, signals: Signals) -> Awaitable[object]:
    request = PollWork(wait_seconds=WAIT)
    return _queue(story, broker, signals).poll(PROVIDER, request, gone=_still_there)


def _wait(story: Story, broker: Broker, signals: Signals) -> Awaitable[object]:
    return _reader(story, broker, signals).wait(BUYER, _job(story), after_event=1_000, seconds=WAIT)


def _result(story: Story, broker: Broker, signals: Signals) -> Awaitable[object]:
    return _reader(story, broker, signals).wait_for_result(BUYER, _job(story), seconds=WAIT)


def _job(story: Story) -> JobId:
    (row,) = story.books.rows("SELECT id FROM job")
    return JobId(row["id"])


@pytest.mark.parametrize("jumps", [-HOUR, HOUR], ids=["put back", "put forward"])
@pytest.mark.parametrize("call", [_poll, _wait, _result], ids=["work", "event", "result"])
async def test_a_poll_lasts_as_long_as_it_asked_for_although_the_clock_jumps(
    story: Story, call: Callable[[Story, Broker, Signals], Awaitable[object]], jumps: float
) -> None:
    signals = Signals()
    waiting = asyncio.ensure_future(call(story, story.world.serving(), signals))
    await story.world.calm()
    story.world.brokers_clock.wrong_by = jumps
    signals.stir()
    await story.world.calm()
    assert not waiting.done()
    story.world.clock.time += WAIT
    signals.stir()
    async with asyncio.timeout(5):
        await waiting


async def test_a_stream_gives_signs_of_life_although_the_clock_is_put_back(story: Story) -> None:
    signals = Signals()
    stream = _reader(story, story.world.serving(), signals).stream(_job(story), after_event=1_000)
    waiting = asyncio.ensure_future(anext(stream))
    await story.world.calm()
    story.world.brokers_clock.wrong_by = -HOUR
    story.world.clock.time += PING_SECONDS
    signals.stir()
    async with asyncio.timeout(5):
        assert await waiting is None
    await stream.aclose()


async def test_a_buyer_waits_ten_seconds_for_a_price_although_the_clock_is_put_back(story: Story) -> None:
    broker, signals, world = story.world.serving(), Signals(), story.world
    quotes = Quotes(
        database=broker.database,
        clock=world.brokers_clock,
        steady=world.clock.now,
        ids=Ids(world.clock),
        signals=signals,
        market=broker.market,
        underwriter=broker.quotes._underwriter,
        key=BROKER_KEY,
        node=OWN_NODE,
    )
    await broker.market.seen(PROVIDER)
    listing = next(iter(world.listings.values()))
    request = RequestQuote(listing_id=listing, input={"text": "hello"}, max_price_msat=sats(1_000))
    waiting = asyncio.ensure_future(quotes.request(BUYER, request, key=None))
    await world.calm()
    assert not waiting.done()
    world.brokers_clock.wrong_by = -HOUR
    world.clock.time += ANSWER_SECONDS
    signals.stir()
    with pytest.raises(ProviderUnresponsive):
        async with asyncio.timeout(5):
            await waiting


async def test_who_waits_for_a_withdrawal_is_answered_in_time_although_the_clock_is_put_back(
    template: Template, tmp_path: Path
) -> None:
    async with open_withdrawals(tmp_path, template) as world:
        wrong_by = WrongBy()
        accounts = world.start(wrong_by=wrong_by)
        world.network.stall("router")
        invoice = await world.invoice(sats(10))
        asked = await accounts.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key=None)
        await world.settle_down()
        waiting = asyncio.ensure_future(accounts.get(AGENT, asked.id, wait_seconds=WAIT))
        await world.settle_down()
        assert not waiting.done()
        wrong_by.seconds = -HOUR
        world.clock.advance(WAIT)
        async with asyncio.timeout(5):
            assert (await waiting).status is WithdrawalStatus.PAYING
