"""What may wait at once in the channels with one peer: counted by the node, for all brokers on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_client import accepted, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_stage import Stage
from e2e_world import World

from lightwork import PaymentOutcome
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.listing import FixedPrice
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.problems import ProblemCode

CAP_MSAT = 15_000
"""Room for one job of ten sat at each peer, and not for two."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def brokers(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[World, World]]:
    """Two brokers on one node, each with a database of its own."""
    made = [
        BrokerProcess(
            stage.nodes, folder=tmp_path_factory.mktemp("capped"), settings={"held_msat_of_peer": CAP_MSAT}
        )
        for _ in range(2)
    ]
    for broker in made:
        await broker.start()
    worlds = [World(stage, broker) for broker in made]
    try:
        yield worlds[0], worlds[1]
    finally:
        for world in worlds:
            await world.close()
            await world.broker.stop()


@pytest.mark.parametrize("second_at", ["the same broker", "another broker on the node"])
async def test_a_payment_over_a_peer_at_which_too_much_waits_goes_back_at_once_and_nobody_works_for_it(
    brokers: tuple[World, World], second_at: str
) -> None:
    first, second = brokers[0], brokers[0 if second_at == "the same broker" else 1]
    provider, buyer = HandProvider(first), HandBuyer(first)
    await provider.offer()
    other_provider, other_buyer = (provider, buyer)
    if second is not first:
        other_provider, other_buyer = HandProvider(second), HandBuyer(second)
        await other_provider.offer(advert("of-the-other"))
    async with first.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        late = await other_buyer.hire(other_provider)
        assert (await other_buyer.pay(late)).outcome is PaymentOutcome.FAILED
        ended = await other_buyer.until(late.id, JobStatus.EXPIRED)
        assert ended.error is not None
        assert ended.error.code == "peer_full"
        held = await first.money.held(job.quote.payment_hash)
        assert held, "the first payment waits on"
        # Of the two, only the job whose payment was let in is anybody's work.
        work = await provider.next_job()
        assert work.job_id == job.id
        if second is not first:
            assert await other_provider.ask(max_quotes=0, wait_seconds=0) == ()
        accepted(await provider.deliver(work, "done"))
        await buyer.until(job.id, JobStatus.SETTLED)
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)
    # What went back left room: the same can be hired, and is taken on, now.
    async with second.money.moves() as moved:
        again, paying = await other_buyer.fund(other_provider)
        work = await other_provider.next_job()
        accepted(await other_provider.deliver(work, "done"))
        await other_buyer.until(again.id, JobStatus.SETTLED)
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(again.quote)


async def test_no_job_is_quoted_whose_payment_would_be_too_much_at_every_peer(
    brokers: tuple[World, World],
) -> None:
    world = brokers[0]
    provider, buyer = HandProvider(world), HandBuyer(world)
    price = Msat(CAP_MSAT)
    await provider.offer(advert(price=FixedPrice(msat=price)))
    async with world.money.moves():

        async def commit() -> None:
            work = await provider.next_quote()
            invoice = None if work.mode is PaymentMode.CREDIT else await provider.invoice(work, price=price)
            answer = await provider.send(work, provider.commit(work, invoice, price=price))
            refused(answer, ProblemCode.TOO_MANY_JOBS, status=409)

        async with asyncio.TaskGroup() as group:
            group.create_task(commit())
            asked = await buyer.ask(provider.listing)
        problem = refused(asked, ProblemCode.PROVIDER_REFUSED, status=409)
        assert problem.context["cause"] == "too_many_jobs"


async def test_who_hires_much_and_pays_nothing_takes_no_room_at_any_peer(
    brokers: tuple[World, World],
) -> None:
    world = brokers[0]
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        for job in [await buyer.hire(provider) for _ in range(5)]:
            accepted(await buyer.client.call("POST", f"/v1/jobs/{job.id}/cancel"))
