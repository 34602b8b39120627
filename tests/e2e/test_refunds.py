"""Jobs that come to nothing: the money never leaves the buyer, and the HTLC is really gone."""

from __future__ import annotations

import asyncio

import pytest
from e2e_client import accepted, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_waiting import until
from e2e_world import World

from lightwork import JobFailed, Market, PaymentOutcome, sats
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.problems import ProblemCode


@pytest.mark.parametrize(
    ("task", "code", "words"),
    [
        pytest.param("failing", "task_failed", "cannot work on this", id="the-task-fails"),
        pytest.param("refusing", "task_refused", "will not work on this", id="the-task-refuses"),
        pytest.param("lying", "output_invalid", "int", id="the-output-is-not-what-was-promised"),
        pytest.param("stuck", "task_failed", "2 seconds", id="the-task-takes-too-long"),
    ],
)
async def test_a_task_without_a_result_costs_nothing(
    shop: World, market: Market, task: str, code: str, words: str
) -> None:
    async with shop.money.moves():
        job = await market.start(task, text="this", max_price=sats(20))
        with pytest.raises(JobFailed) as failure:
            await job.wait()
        assert failure.value.code == code
        assert words in failure.value.message
        assert (await job.refresh()).status is JobStatus.REFUNDED


async def test_what_a_task_raises_is_not_told_to_the_buyer(shop: World, market: Market) -> None:
    async with shop.money.moves():
        job = await market.start("raising", text="do not tell", max_price=sats(20))
        with pytest.raises(JobFailed, match="RuntimeError") as failure:
            await job.wait()
        assert failure.value.code == "task_failed"
        assert "do not tell" not in (await job.refresh()).model_dump_json(exclude={"input"})


async def test_a_silent_provider_is_timed_out_by_the_broker(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert(work_seconds=2))
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        ended = await buyer.until(job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "timed_out"
        assert (await paying).outcome is PaymentOutcome.FAILED
        refused(await provider.deliver(work, "too late"), ProblemCode.LEASE_LOST, status=409)


async def test_a_result_that_does_not_fit_is_refused_and_a_better_one_is_still_taken(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        problem = refused(await provider.deliver(work, 42), ProblemCode.OUTPUT_INVALID, status=422)
        assert problem.errors
        assert (await buyer.read(job.id)).status is JobStatus.WORKING
        accepted(await provider.deliver(work, "fits"))
        accepted(await provider.deliver(work, "fits"))
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        settled = await buyer.until(job.id, JobStatus.SETTLED)
        assert settled.result == "fits"
        moved.sold(job.quote)


async def test_a_provider_that_gives_up_refunds_the_buyer_once(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        accepted(await provider.fail(work))
        accepted(await provider.fail(work))
        assert (await buyer.until(job.id, JobStatus.REFUNDED)).result is None
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_a_buyer_may_cancel_before_paying_and_the_invoice_is_dead(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job = await buyer.hire(provider)
        assert job.status is JobStatus.OPEN
        cancelled = await buyer.client.post(f"/v1/jobs/{job.id}/cancel")
        assert cancelled["status"] == JobStatus.EXPIRED
        assert (await buyer.pay(job)).outcome is PaymentOutcome.FAILED


async def test_a_buyer_may_cancel_a_funded_job_that_nobody_has_started(world: World) -> None:
    provider = HandProvider(world)
    await provider.offer(advert("slow-to-start"))
    async with world.money.moves(), world.market() as market:
        starting = asyncio.create_task(
            market.start(provider.listing.id, {"text": "never mind"}, max_price=sats(20))
        )
        await provider.answer_next()
        job = await starting

        async def funded() -> bool:
            # The broker knows of the payment a moment after its node does.
            return (await job.refresh()).status is JobStatus.FUNDED

        await until(funded, what="the job is funded")
        assert (await job.cancel()).status in (JobStatus.REFUNDING, JobStatus.REFUNDED)
        with pytest.raises(JobFailed) as failure:
            await job.wait()
        assert failure.value.code == "cancelled"
        assert await provider.ask(max_quotes=0, wait_seconds=0) == ()


async def test_a_buyer_may_not_cancel_what_a_provider_works_on(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        late = await buyer.client.call("POST", f"/v1/jobs/{job.id}/cancel")
        refused(late, ProblemCode.WRONG_STATUS, status=409)
        accepted(await provider.deliver(work, "done"))
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)
