"""What strangers leave behind without paying for anything is bounded, or forgotten in time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from databases import Look, Template
from escrow_story import BUYER, PROVIDER
from escrow_world import BUYER_KEY, WORK_SECONDS, World, open_world
from fast_folder import fast_folder

from lightwork_broker.errors import ListingLimit
from lightwork_broker.market import quote_store
from lightwork_broker.market.forgetting import PAGE, PRESENCE_SECONDS, Forgetting
from lightwork_broker.market.quotes import EXPIRY_SECONDS
from lightwork_broker.market.service import AdvertCaps, Market
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.money import sats
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, sign_listing
from lightwork_contracts.status import Acceptance

KEPT_SECONDS = 3_600.0


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


def _rows(world: World, sql: str) -> list[dict[str, Any]]:
    look = Look(world.place)
    try:
        return look.rows(sql)
    finally:
        look.close()


def _forgetting(world: World) -> Forgetting:
    return Forgetting(database=world.serving().database, clock=world.clock, quotes_seconds=KEPT_SECONDS)


async def test_a_quote_that_nobody_hired_on_is_forgotten_and_one_with_a_job_stays(world: World) -> None:
    broker = world.serving()
    hired = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    await broker.jobs.hire(BUYER, hired)
    await world.calm()
    for _ in range(PAGE + 3):
        await world.add_quote(broker, acceptance=Acceptance.AUTO)
    world.clock.time += KEPT_SECONDS + 1
    assert await _forgetting(world).forget() == PAGE + 3
    assert _rows(world, "SELECT id FROM quote") == [{"id": hired.id}]
    assert await _forgetting(world).forget() == 0


async def test_a_quote_is_kept_while_it_can_be_hired_on_and_for_long_after(world: World) -> None:
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    for seconds in (EXPIRY_SECONDS - 1, KEPT_SECONDS - EXPIRY_SECONDS):
        world.clock.time += seconds
        assert await _forgetting(world).forget() == 0
    assert _rows(world, "SELECT id FROM quote") == [{"id": quote.id}]


async def test_a_job_that_is_hired_while_quotes_are_forgotten_keeps_its_quote(world: World) -> None:
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    # Another broker's clock is far ahead: to it this quote is old, and it was still free when it looked.
    await broker.jobs.hire(BUYER, quote)
    await world.calm()
    async with broker.database.write() as tx:
        assert await quote_store.forget(tx, [quote.id]) == 0
    assert _rows(world, "SELECT id FROM quote") == [{"id": quote.id}]


def _market(world: World, caps: AdvertCaps) -> Market:
    return Market(
        database=world.serving().database,
        clock=world.clock,
        ids=world.ids,
        max_price_msat=sats(1_000),
        caps=caps,
    )


def _advert(world: World, name: str, description: str = "Return the text.") -> SignedEvent:
    content = ListingContent(
        name=name,
        description=description,
        agent_name="many",
        input_schema={"type": "object"},
        output_schema={"type": "string"},
        price=FixedPrice(msat=sats(10)),
        work_seconds=WORK_SECONDS,
    )
    return sign_listing(content, key=BUYER_KEY, created_at=int(world.clock.now()))


async def test_one_agent_has_only_so_many_listings_and_retired_ones_count(world: World) -> None:
    market = _market(world, AdvertCaps(listings=2, versions_a_day=99))
    first = await market.publish(BUYER, _advert(world, "one"))
    await market.publish(BUYER, _advert(world, "two"))
    await market.retire(BUYER, first.id)
    with pytest.raises(ListingLimit):
        await market.publish(BUYER, _advert(world, "three"))
    # What is there can be changed, and published again unchanged.
    assert (await market.publish(BUYER, _advert(world, "two", "Return it."))).version == 2
    assert (await market.publish(BUYER, _advert(world, "two", "Return it."))).version == 2


async def test_one_agent_publishes_only_so_many_versions_in_a_day(world: World) -> None:
    market = _market(world, AdvertCaps(listings=99, versions_a_day=3))
    for number in range(3):
        await market.publish(BUYER, _advert(world, "one", f"Return the text, {number}."))
    with pytest.raises(ListingLimit):
        await market.publish(BUYER, _advert(world, "one", "Return the text at last."))
    with pytest.raises(ListingLimit):
        await market.publish(BUYER, _advert(world, "another"))
    world.clock.time += 86_401
    assert (await market.publish(BUYER, _advert(world, "one", "Return the text at last."))).version == 4


async def test_an_agent_that_sells_nothing_is_forgotten_in_a_day_and_one_that_sells_is_not(
    world: World,
) -> None:
    market = _market(world, AdvertCaps(listings=9, versions_a_day=9))
    for number in range(1, 20):
        await market.seen(Pubkey(f"{number:064x}"))
    await market.seen(PROVIDER)
    world.clock.time += PRESENCE_SECONDS - 1
    await _forgetting(world).forget()
    assert len(_rows(world, "SELECT agent FROM presence")) == 20
    world.clock.time += 2
    await _forgetting(world).forget()
    assert [row["agent"] for row in _rows(world, "SELECT agent FROM presence")] == [PROVIDER]
