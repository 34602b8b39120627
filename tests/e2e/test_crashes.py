"""The broker ends without a word, at the worst moments; started again, it finishes what it began."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

import e2e_crashing_broker
import e2e_shop
import httpx2
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_client import accepted
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_stage import ESCROW_STAGES, Stage
from e2e_waiting import until
from e2e_world import World, until_at_work, until_status

from lightwork import Market, PaymentOutcome, sats
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer, JobPage


class Fragile:
    """A world whose broker dies when told to."""

    def __init__(self, world: World, plan: Path) -> None:
        self.world = world
        self._plan = plan

    def arm(self, call: str, moment: str) -> None:
        self._plan.write_text(f"{call}:{moment}")

    async def died(self) -> None:
        """Wait for the death, and start the broker again."""
        assert await self.world.broker.wait_gone() == -9
        assert not self._plan.exists()
        await self.world.broker.restart()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fragile(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Fragile]:
    folder = tmp_path_factory.mktemp("fragile")
    launcher = (sys.executable, e2e_crashing_broker.__file__)
    broker = BrokerProcess(stage.nodes, folder=folder, command=launcher)
    broker.env[e2e_crashing_broker.PLAN] = str(folder / "plan")
    await broker.start()
    world = World(stage, broker)
    try:
        async with world.runner([e2e_shop.agent]):
            yield Fragile(world, folder / "plan")
    finally:
        await world.close()
        await broker.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def market(fragile: Fragile) -> AsyncGenerator[Market]:
    async with fragile.world.market() as opened:
        yield opened


async def test_killed_while_the_provider_works_the_job_completes(fragile: Fragile, market: Market) -> None:
    world, text = fragile.world, "killed at work"
    async with world.money.moves() as moved:
        job = await market.start("gated", text=text, max_price=sats(20))
        await until_at_work(text)
        waiting = asyncio.create_task(job.wait())
        await world.broker.kill()
        assert await world.money.held(job.view.quote.payment_hash) == {"buyer", "broker"}
        await world.broker.restart()
        e2e_shop.gate(text).set()
        assert await waiting == text
        moved.sold(job.view.quote)


async def test_a_result_that_is_ready_while_the_broker_is_down_is_delivered_later(
    fragile: Fragile, market: Market
) -> None:
    world, text = fragile.world, "ready while down"
    async with world.money.moves() as moved:
        job = await market.start("gated", text=text, max_price=sats(20))
        await until_at_work(text)
        await world.broker.kill()
        e2e_shop.gate(text).set()
        await world.broker.restart()
        assert await job.wait() == text
        assert (await until_status(market, job.id, JobStatus.SETTLED)).result == text
        moved.sold(job.view.quote)


@pytest.mark.parametrize(
    ("call", "moment"),
    [
        ("add_hold", "before"),
        ("add_hold", "after"),
        ("settle", "before"),
        ("settle", "after"),
    ],
)
async def test_killed_around_a_call_to_its_node_the_job_is_settled_all_the_same(
    fragile: Fragile, call: str, moment: str
) -> None:
    await survive(fragile, call, moment)


# In credit mode nothing is paid out at the end of a job.
@pytest.mark.parametrize("stage", ESCROW_STAGES, indirect=True, scope="session")
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_around_the_payout_the_provider_is_paid_once_all_the_same(
    fragile: Fragile, moment: str
) -> None:
    await survive(fragile, "pay", moment)


async def survive(fragile: Fragile, call: str, moment: str) -> None:
    """Hire while the broker dies at a call to its node; the job must be settled as if nothing had been."""
    world, buyer = fragile.world, HandBuyer(fragile.world)
    text, key = f"{call} {moment}", secrets.token_hex(8)
    async with world.money.moves() as moved:
        fragile.arm(call, moment)
        if call == "add_hold":
            with pytest.raises(httpx2.TransportError):
                await buyer.hire_task("echo", text, key=key)
            await fragile.died()
        job = await buyer.hire_task("echo", text, key=key)
        paying = buyer.pay(job)
        if call != "add_hold":
            await fragile.died()
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        settled = await buyer.until(job.id, JobStatus.SETTLED)
        assert (settled.result, settled.routing_paid_msat) == (text, world.routing_paid)
        moved.sold(job.quote)
    (only,) = JobPage.model_validate(await buyer.client.get("/v1/jobs")).jobs
    assert only.id == job.id


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_around_the_refund_the_htlc_is_still_given_back(fragile: Fragile, moment: str) -> None:
    world = fragile.world
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        fragile.arm("cancel", moment)
        with suppress(httpx2.TransportError):  # whether the answer is faster than the death is open
            await provider.fail(work)
        await fragile.died()
        ended = await buyer.until(job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "task_failed"
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_killed_with_an_open_job_that_is_paid_meanwhile_it_is_funded_at_the_restart(
    fragile: Fragile,
) -> None:
    world = fragile.world
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves() as moved:
        job = await buyer.hire(provider)
        await world.broker.kill()
        paying = buyer.pay(job)
        await world.money.until_held(job.quote.payment_hash)
        await world.broker.restart()
        await buyer.until(job.id, JobStatus.FUNDED)
        accepted(await provider.deliver(await provider.next_job(), "done"))
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)


async def test_blocks_that_passed_while_the_broker_was_down_lead_to_a_refund_at_its_start(
    fragile: Fragile,
) -> None:
    world = fragile.world
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        expiry = await world.money.expiry(job.quote.payment_hash)
        await world.broker.kill()
        await world.nodes.mine(expiry - 30 - await world.nodes.height())
        assert await world.money.held(job.quote.payment_hash) == {"buyer", "broker"}
        await world.broker.restart()
        await refunded(buyer, job, code="timed_out")
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_an_htlc_that_the_node_gave_back_while_the_broker_was_down_is_seen_at_its_start(
    fragile: Fragile,
) -> None:
    world = fragile.world
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        expiry = await world.money.expiry(job.quote.payment_hash)
        await world.broker.kill()
        await world.nodes.mine(expiry - 17 - await world.nodes.height(), force=True)
        await world.money.until_gone(job.quote.payment_hash)
        await world.broker.restart()
        await refunded(buyer, job, code="returned_by_node")
        assert (await paying).outcome is PaymentOutcome.FAILED
        assert (await provider.deliver(work, "for nothing")).status_code == 409


async def test_a_result_whose_review_ended_while_the_broker_was_down_can_be_rejected_and_refunded(
    fragile: Fragile,
) -> None:
    world = fragile.world
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert("reviewed-by-hand", review_seconds=10))
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        accepted(await provider.deliver(await provider.next_job(), "poor work"))
        ends_at = (await buyer.until(job.id, JobStatus.DELIVERED)).deadline
        assert ends_at is not None
        await world.broker.kill()

        async def is_over() -> bool:
            return time.time() > ends_at + 1

        await until(is_over, what="the review has ended")
        await world.broker.restart()
        rejection = {"reason": "not what I asked for"}
        accepted(await buyer.client.call("POST", f"/v1/jobs/{job.id}/reject", rejection))
        assert await world.money.held(job.quote.payment_hash) == {"buyer", "broker"}
        await world.operator().post(f"/v1/jobs/{job.id}/ruling", {"release": False, "reason": "poor work"})
        await refunded(buyer, job, code="ruled_refund")
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_the_brokers_node_killed_while_it_holds_an_htlc_the_job_completes(
    fragile: Fragile, market: Market
) -> None:
    world, text = fragile.world, "node killed"
    async with world.money.moves() as moved:
        job = await market.start("gated", text=text, max_price=sats(20))
        await until_at_work(text)
        await world.nodes.kill_broker_node()
        health = await world.client().raw("GET", "/v1/health")
        assert health.status_code == 503
        e2e_shop.gate(text).set()

        async def delivered() -> bool:
            return (await market.job(job.id)).status is JobStatus.RELEASING

        await until(delivered, what="the result is taken without the node")
        await world.nodes.start_broker_node()
        assert await job.wait() == text
        await until_status(market, job.id, JobStatus.SETTLED)
        moved.sold(job.view.quote)


async def refunded(buyer: HandBuyer, job: JobForBuyer, *, code: str) -> None:
    ended = await buyer.until(job.id, JobStatus.REFUNDED)
    assert ended.error is not None
    assert ended.error.code == code
