"""Blocks come while an HTLC is held: the broker acts before LND would."""

from __future__ import annotations

import e2e_shop
import pytest
from e2e_client import accepted
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_world import World, until_status

from lightwork import JobFailed, Market, PaymentOutcome, sats
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer

LND_ACTS_BEFORE_EXPIRY = 18
"""LND's own holdexpirydelta: at that distance it gives the HTLC back by itself."""


async def mine_to_the_last_safe_height(world: World, job: JobForBuyer) -> None:
    """Mine until a payout would no longer be safe, which is well before LND acts by itself."""
    escrow = await world.money.escrow(job.id)
    assert escrow.release_by is not None
    expiry = await world.money.expiry(job.quote.payment_hash)
    assert escrow.min_expiry_height == expiry
    assert escrow.release_by < expiry - LND_ACTS_BEFORE_EXPIRY
    await world.nodes.mine(escrow.release_by - await world.nodes.height())


async def test_a_funded_job_is_refunded_before_lnd_gives_the_htlc_back_by_itself(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        await mine_to_the_last_safe_height(world, job)
        ended = await buyer.until(job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "timed_out"
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_a_job_at_work_is_refunded_and_its_provider_told_to_stop(shop: World, market: Market) -> None:
    async with shop.money.moves():
        job = await market.start("gated", text="never opened", max_price=sats(20))
        await until_status(market, job.id, JobStatus.WORKING)
        await mine_to_the_last_safe_height(shop, job.view)
        with pytest.raises(JobFailed) as failure:
            await job.wait()
        assert failure.value.code == "timed_out"
    e2e_shop.gate("never opened").set()


async def test_a_delivered_result_is_paid_for_before_the_blocks_run_out(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert("long-review", review_seconds=3_600))
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        accepted(await provider.deliver(await provider.next_job(), "done"))
        await buyer.until(job.id, JobStatus.DELIVERED)
        await mine_to_the_last_safe_height(world, job)
        await buyer.until(job.id, JobStatus.SETTLED)
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)


async def test_a_dispute_that_nobody_rules_on_is_refunded_before_the_blocks_run_out(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert("disputed", review_seconds=60))
    async with world.money.moves():
        job, paying = await buyer.fund(provider)
        accepted(await provider.deliver(await provider.next_job(), "done"))
        await buyer.until(job.id, JobStatus.DELIVERED)
        await buyer.client.post(f"/v1/jobs/{job.id}/reject", {"reason": "no"})
        await mine_to_the_last_safe_height(world, job)
        ended = await buyer.until(job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "not_ruled"
        assert (await paying).outcome is PaymentOutcome.FAILED
