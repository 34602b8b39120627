"""A job: who pays what, to the msat."""

from __future__ import annotations

import asyncio

import e2e_shop
import pytest
from e2e_world import World, until_status

from lightwork import Market, sats
from lightwork_contracts.money import Msat, ceil_share
from lightwork_contracts.status import JobStatus


async def test_a_job_charges_the_quote_pays_the_price_and_leaves_the_fee(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        quote = await market.quote("echo", text="hello")
        assert quote.price_msat == sats(10)
        assert quote.fee_msat == 1_000 + ceil_share(quote.price_msat, ppm=10_000)
        job = await market.start(quote, max_price=quote.total_msat)
        assert await job.wait() == "hello"
        settled = await until_status(market, job.id, JobStatus.SETTLED)
        assert settled.routing_paid_msat == shop.routing_paid
        moved.sold(quote)
    # What `moves` compares in this process, as an operator sees it.
    report = await shop.broker.audit()
    assert report["breaches"] == []
    assert report["unfinished"] == report["unknown"] == 0
    assert report["balances"] == (await shop.money.books()).balances


@pytest.mark.parametrize(
    ("task", "text", "price"),
    [
        pytest.param("by-length", "seven!!", Msat(7_007), id="priced-by-its-input"),
        pytest.param("fraction", "hi", e2e_shop.FRACTION, id="a-fraction-of-a-satoshi"),
    ],
)
async def test_a_price_is_paid_to_the_msat(
    shop: World, market: Market, task: str, text: str, price: Msat
) -> None:
    async with shop.money.moves() as moved:
        job = await market.start(task, text=text, max_price=sats(100))
        await job.wait()
        quote = job.view.quote
        assert quote.price_msat == price
        moved.sold(quote)
    assert (await market.job(job.id)).status is JobStatus.SETTLED


async def test_hire_returns_the_result_in_one_line(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        assert await market.hire("echo", text="one line", max_price=sats(20)) == "one line"
        (view,) = (await market.broker.jobs(role="buyer")).jobs
        assert view.role == "buyer"
        moved.sold(view.quote)


async def test_a_result_under_review_is_paid_for_when_the_buyer_accepts(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        job = await market.start("reviewed", text="look", max_price=sats(40))
        assert await job.result() == "look"
        seen = await job.refresh()
        assert seen.status is JobStatus.DELIVERED
        assert seen.preimage is None
        assert await shop.money.held(job.view.quote.payment_hash) == {"buyer", "broker"}
        await job.accept()
        assert await job.wait() == "look"
        moved.sold(job.view.quote)


async def test_silence_accepts_at_the_end_of_the_review(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        job = await market.start("hasty", text="nobody looks", max_price=sats(40))
        assert await job.wait() == "nobody looks"
        moved.sold(job.view.quote)


@pytest.mark.parametrize("jobs", [2, 10])
async def test_jobs_at_the_same_time_are_each_paid_once(shop: World, market: Market, jobs: int) -> None:
    async with shop.money.moves() as moved:
        texts = [f"job {number}" for number in range(jobs)]
        running = await asyncio.gather(
            *(market.start("echo", text=text, max_price=sats(20)) for text in texts)
        )
        assert await asyncio.gather(*(job.wait() for job in running)) == texts
        for job in running:
            moved.sold(job.view.quote)
