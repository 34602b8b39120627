"""The numbered events of a job, keys that make calls safe to repeat, and versions that stay."""

from __future__ import annotations

import asyncio
import secrets

import e2e_shop
import httpx2
import pytest
from e2e_broker import BrokerProcess
from e2e_client import SignedClient, accepted, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_stage import Stage
from e2e_world import World, until_at_work, until_status
from pydantic import JsonValue

from lightwork import Job, Market, PaymentOutcome, sats
from lightwork_contracts.ids import JobId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.listing import FixedPrice
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobEvent, JobForBuyer
from lightwork_contracts.wire.market import QuoteView
from lightwork_contracts.wire.problems import ProblemCode

WHOLE_LIFE = [
    "job.quoted",
    "job.invoice_made",
    "job.funded",
    "job.leased",
    "job.delivered",
    "job.accepted",
    "job.provider_paid",
    "job.settled",
]


def whole_life(world: World) -> list[str]:
    """Return the events of a job that ends well. In credit mode nothing is paid out within it."""
    credit = world.mode is PaymentMode.CREDIT
    return [kind for kind in WHOLE_LIFE if not (credit and kind == "job.provider_paid")]


async def listen(
    client: SignedClient, job_id: JobId, *, after: int = 0, most: int | None = None
) -> list[JobEvent]:
    """Follow the stream to its end, or cut the line after `most` events."""
    path = f"/v1/jobs/{job_id}/events"
    headers = {"Authorization": client.sign("GET", path), "Last-Event-ID": str(after)}
    heard: list[JobEvent] = []
    async with client.http.stream("GET", client.url + path, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        async for item in httpx2.EventSource(response):
            event = JobEvent.model_validate_json(item.data)
            assert item.id == str(event.seq)
            assert item.event == event.kind
            heard.append(event)
            if len(heard) == most:
                return heard
    return heard


async def test_both_parties_hear_the_whole_life_of_a_job_in_order(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        streams = [asyncio.create_task(listen(party, job.id)) for party in (buyer.client, provider.client)]
        accepted(await provider.deliver(await provider.next_job(), "done"))
        ours, theirs = await asyncio.gather(*streams)
        assert [event.kind for event in ours] == whole_life(world)
        assert ours == theirs
        assert [event.seq for event in ours] == sorted({event.seq for event in ours})
        assert ours[-1].status is JobStatus.SETTLED
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)


async def test_a_stream_that_was_cut_resumes_without_gap_or_repetition(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        heard: list[JobEvent] = []
        work = await provider.next_job()
        for _ in range(2):
            heard += await listen(buyer.client, job.id, after=heard[-1].seq if heard else 0, most=2)
        accepted(await provider.deliver(work, "done"))
        await paying
        heard += await listen(buyer.client, job.id, after=heard[-1].seq)
        assert [event.kind for event in heard] == whole_life(world)
        assert await listen(buyer.client, job.id, after=heard[-1].seq) == []
        moved.sold(job.quote)


async def test_the_sdk_hears_each_event_once_across_a_restart_of_the_broker(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broker = BrokerProcess(stage.nodes, folder=tmp_path_factory.mktemp("events"))
    await broker.start()
    world, text = World(stage, broker), "events across a restart"
    try:
        async with (
            world.runner([e2e_shop.agent]),
            world.market() as market,
            world.money.moves() as moved,
        ):
            job = await market.start("gated", text=text, max_price=sats(20))
            following = asyncio.create_task(collect(job))
            await until_at_work(text)
            await broker.kill()
            await broker.restart()
            e2e_shop.gate(text).set()
            heard = await following
            assert [event.kind for event in heard if event.kind != "job.progress"] == whole_life(world)
            assert len({event.seq for event in heard}) == len(heard)
            await job.wait()
            moved.sold(job.view.quote)
    finally:
        await world.close()
        await broker.stop()


async def collect(job: Job) -> list[JobEvent]:
    return [event async for event in job.events()]


async def test_a_long_poll_answers_as_soon_as_there_is_news(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        job = await market.start("gated", text="news", max_price=sats(20))
        view = await until_status(market, job.id, JobStatus.WORKING)
        asking = market.broker.my_job(job.id, wait_seconds=30, after_event=view.last_event)
        poll = asyncio.create_task(asking)
        e2e_shop.gate("news").set()
        async with asyncio.timeout(20):  # and not the half minute that is asked for
            assert (await poll).last_event > view.last_event
            await job.wait()
        moved.sold(job.view.quote)


async def test_the_same_key_hires_once_and_another_request_under_it_is_refused(shop: World) -> None:
    buyer, key = HandBuyer(shop), secrets.token_hex(8)
    async with shop.money.moves():
        first = await buyer.hire_task("echo", "once", key=key)
        again = await buyer.hire_task("echo", "once", key=key)
        assert (again.id, again.invoice) == (first.id, first.invoice)
        request: dict[str, JsonValue] = {
            "task": "echo",
            "input": {"text": "twice"},
            "modes": [shop.mode.value],
        }
        other = await buyer.client.call(
            "POST", "/v1/jobs", {"request": request}, headers={"Idempotency-Key": key}
        )
        refused(other, ProblemCode.IDEMPOTENCY_CONFLICT, status=409)
        stranger = HandBuyer(shop)
        theirs = await stranger.hire_task("echo", "once", key=key)
        assert theirs.id != first.id
        await buyer.client.post(f"/v1/jobs/{first.id}/cancel")
        await stranger.client.post(f"/v1/jobs/{theirs.id}/cancel")


async def test_the_same_key_at_the_same_time_never_makes_two_jobs(shop: World) -> None:
    buyer, key = HandBuyer(shop), secrets.token_hex(8)
    request: dict[str, JsonValue] = {
        "task": "echo",
        "input": {"text": "all at once"},
        "modes": [shop.mode.value],
    }
    calls = [
        buyer.client.call("POST", "/v1/jobs", {"request": request}, headers={"Idempotency-Key": key})
        for _ in range(5)
    ]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {201, 409, 504}
    made = {JobForBuyer.model_validate_json(a.content).id for a in answers if a.status_code == 201}
    assert len(made) == 1
    assert (await buyer.hire_task("echo", "all at once", key=key)).id in made
    await buyer.client.post(f"/v1/jobs/{made.pop()}/cancel")


async def test_a_quote_hired_twice_is_one_job(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    quote: QuoteView = await buyer.quote(provider)
    hires = [buyer.client.post("/v1/jobs", {"quote_id": quote.id}) for _ in range(5)]
    jobs = [JobForBuyer.model_validate(answer) for answer in await asyncio.gather(*hires)]
    assert len({(job.id, job.invoice) for job in jobs}) == 1
    assert accepted(await buyer.client.call("GET", f"/v1/quotes/{quote.id}"))["id"] == quote.id
    await buyer.client.post(f"/v1/jobs/{jobs[0].id}/cancel")


async def test_the_same_content_is_the_same_version_and_a_change_makes_a_new_one(world: World) -> None:
    provider = HandProvider(world)
    first = await provider.offer(advert("versioned"))
    assert (await provider.offer(advert("versioned"))).version == first.version == 1
    dearer = await provider.offer(advert("versioned", price=FixedPrice(msat=Msat(11_000))))
    assert (dearer.id, dearer.version) == (first.id, 2)
    reader = world.client()
    old = accepted(await reader.raw("GET", f"/v1/listings/{first.id}/versions/1"))
    new = accepted(await reader.raw("GET", f"/v1/listings/{first.id}"))
    assert (old["content"], old["event"]) == (
        first.content.model_dump(mode="json"),
        first.event.model_dump(mode="json"),
    )
    assert new["version"] == 2
    gone = await reader.raw("GET", f"/v1/listings/{first.id}/versions/3")
    refused(gone, ProblemCode.NOT_FOUND, status=404)
    stale = await provider.publish(advert("versioned", description="older"), created_at=1_700_000_000)
    refused(stale, ProblemCode.LISTING_STALE, status=409)
