"""What may wait at once in the channels with one peer: counted by the node, for all brokers on it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import e2e_crashing_broker
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fragile(
    stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[World, Path]]:
    """A capped broker that dies as its plan says, and the plan."""
    folder = tmp_path_factory.mktemp("capped-fragile")
    launcher = (sys.executable, e2e_crashing_broker.__file__)
    cap = {"held_msat_of_peer": CAP_MSAT}
    broker = BrokerProcess(stage.nodes, folder=folder, command=launcher, settings=cap)
    broker.env[e2e_crashing_broker.PLAN] = str(folder / "plan")
    await broker.start()
    world = World(stage, broker)
    try:
        yield world, folder / "plan"
    finally:
        await world.close()
        await broker.stop()


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


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_before_it_decides_on_a_payment_that_is_too_much_the_broker_gives_it_back_at_its_restart(
    fragile: tuple[World, Path], moment: str
) -> None:
    world, plan = fragile
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        late = await buyer.hire(provider)
        plan.write_text(f"waiting_htlcs:{moment}")
        going_back = buyer.pay(late)
        assert await world.broker.wait_gone() == -9
        assert await world.money.held(late.quote.payment_hash), "nobody has decided on it"
        await world.broker.restart()
        assert (await going_back).outcome is PaymentOutcome.FAILED
        ended = await buyer.until(late.id, JobStatus.EXPIRED)
        assert ended.error is not None
        assert ended.error.code == "peer_full"
        accepted(await provider.deliver(await provider.next_job(), "done"))
        assert await provider.ask(max_quotes=0, wait_seconds=0) == ()
        await buyer.until(job.id, JobStatus.SETTLED)
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)


async def test_of_payments_that_come_at_the_same_moment_no_more_are_let_in_than_there_is_room_for(
    brokers: tuple[World, World],
) -> None:
    world = brokers[0]
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        jobs = [await buyer.hire(provider) for _ in range(4)]
        paying = [buyer.pay(job) for job in jobs]
        ends = {JobStatus.FUNDED, JobStatus.EXPIRED}
        seen = [await buyer.until(job.id, *ends) for job in jobs]
        let_in = [job for job, now in zip(jobs, seen, strict=True) if now.status is JobStatus.FUNDED]
        assert len(let_in) <= 1
        for now in seen:
            if now.status is JobStatus.EXPIRED:
                assert now.error is not None
                assert now.error.code == "peer_full"
        for job in let_in:
            accepted(await provider.deliver(await provider.next_job(), "done"))
            await buyer.until(job.id, JobStatus.SETTLED)
            moved.sold(job.quote)
        assert await provider.ask(max_quotes=0, wait_seconds=0) == ()
        succeeded = [payment.outcome is PaymentOutcome.SUCCEEDED for payment in await asyncio.gather(*paying)]
        assert succeeded == [job in let_in for job in jobs]


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
