"""A rejected result: the money waits until the operator has ruled."""

from __future__ import annotations

import asyncio
import json

import pytest
from e2e_client import accepted, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_world import World, until_status

from lightwork import Job, JobDisputed, JobFailed, Market, PaymentOutcome, sats
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.problems import ProblemCode


async def rejected(market: Market) -> Job:
    """Return a job whose result the buyer has just rejected."""
    job = await market.start("reviewed", text="poor work", max_price=sats(40))
    await job.result()
    assert (await job.reject("not what I asked for")).status is JobStatus.DISPUTED
    return job


async def test_a_rejected_result_is_paid_for_if_the_operator_releases_it(shop: World, market: Market) -> None:
    async with shop.money.moves() as moved:
        job = await rejected(market)
        with pytest.raises(JobDisputed):
            await job.wait()
        assert await shop.money.held(job.view.quote.payment_hash) == {"buyer", "broker"}
        done = await shop.broker.command("rule", job.id, "--release", "--reason", "it is what was asked for")
        assert done.returncode == 0, done.stdout + done.stderr
        await until_status(market, job.id, JobStatus.SETTLED)
        moved.sold(job.view.quote)
        events = [event async for event in job.events()]
        (ruling,) = [event.data for event in events if event.kind == "job.ruled_release"]
        assert ruling == {"by": "operator", "reason": "it is what was asked for"}


async def test_the_operator_is_shown_what_waits_for_a_ruling(shop: World, market: Market) -> None:
    async with shop.money.moves():
        job = await rejected(market)
        shown = json.loads((await shop.broker.command("disputes", "--json")).stdout)
        (dispute,) = [one for one in shown if one["job"] == job.id]
        assert dispute["reason"] == "not what I asked for"
        assert json.loads(dispute["input"]) == {"text": "poor work"}
        assert json.loads(dispute["result"]) == (await market.job(job.id)).result
        assert dispute["back_at"] is not None
        words = (await shop.broker.command("disputes")).stdout
        assert job.id in words
        assert '"not what I asked for"' in words
        await shop.broker.command("rule", job.id, "--refund", "--reason", "poor work")
        await until_status(market, job.id, JobStatus.REFUNDED)
        assert json.loads((await shop.broker.command("disputes", "--json")).stdout) == []


async def test_a_rejected_result_is_refunded_and_taken_back_if_the_operator_says_so(
    shop: World, market: Market
) -> None:
    async with shop.money.moves():
        job = await rejected(market)
        ruling = {"release": False, "reason": "it is not what was asked for"}
        await shop.operator().post(f"/v1/jobs/{job.id}/ruling", ruling)
        ended = await until_status(market, job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "ruled_refund"
        assert ended.result is None
        with pytest.raises(JobFailed):
            await job.wait()


async def test_only_the_operator_rules_and_only_on_a_dispute(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert("judged", review_seconds=60))
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        accepted(await provider.deliver(await provider.next_job(), "work"))
        await buyer.until(job.id, JobStatus.DELIVERED)
        ruling = {"release": False, "reason": "my own interest"}
        for party in (buyer.client, provider.client):
            answer = await party.call("POST", f"/v1/jobs/{job.id}/ruling", ruling)
            refused(answer, ProblemCode.FORBIDDEN, status=403)
        early = await world.operator().call("POST", f"/v1/jobs/{job.id}/ruling", ruling)
        refused(early, ProblemCode.WRONG_STATUS, status=409)
        for action in ("accept", "reject"):
            body = {"reason": "not mine"} if action == "reject" else None
            answer = await provider.client.call("POST", f"/v1/jobs/{job.id}/{action}", body)
            refused(answer, ProblemCode.FORBIDDEN, status=403)
        both = [buyer.client.call("POST", f"/v1/jobs/{job.id}/accept") for _ in range(2)]
        answers = await asyncio.gather(*both)
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        moved.sold(job.quote)
