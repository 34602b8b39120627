"""Providers that vanish: their lease is lost, and the job goes to another run or back to the buyer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path

import e2e_shop
import pytest
import pytest_asyncio
from e2e_broker import REAL_COMMAND, BrokerProcess
from e2e_client import accepted, new_key, refused
from e2e_provider import HandBuyer, HandProvider
from e2e_stage import Stage
from e2e_waiting import until
from e2e_world import World, until_status

from lightwork import PaymentOutcome, sats
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.problems import ProblemCode

LEASE_EVENTS = ("job.leased", "job.lease_lost")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    """A broker with short leases and five seconds to pay.

    A provider that lives keeps its lease by a heartbeat each second, also on a machine that is busy.
    """
    broker = BrokerProcess(
        stage.nodes,
        folder=tmp_path_factory.mktemp("hasty"),
        settings={"lease_seconds": 3, "pay_seconds": 5},
    )
    await broker.start()
    world = World(stage, broker)
    try:
        yield world
    finally:
        await world.close()
        await broker.stop()


def run_shop(world: World, *, key_file: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start `lightwork run` on the shop, as a provider would."""
    env = {
        **world.broker.env,
        **world.nodes.wallet_environment("provider"),
        "LIGHTWORK_BROKER": world.broker.url,
        "LIGHTWORK_KEY_FILE": str(key_file),
        "XDG_CONFIG_HOME": str(key_file.parent),
    }
    credit = ["--credit"] if world.mode is PaymentMode.CREDIT else []
    with log.open("wb") as output:
        return subprocess.Popen(
            [REAL_COMMAND[0], "run", *credit, e2e_shop.__file__], env=env, stdout=output, stderr=output
        )


async def test_a_killed_runners_job_goes_to_the_next_run_of_the_same_agent(
    hasty: World, tmp_path: Path
) -> None:
    text, key_file = "killed runner", tmp_path / "agent.key"
    new_key().create_file(key_file)
    async with hasty.money.moves() as moved, hasty.market() as market:
        hasty.seller(SecretKey.read(key_file))
        child = run_shop(hasty, key_file=key_file, log=tmp_path / "runner.log")
        try:
            await until_online(hasty, SecretKey.read(key_file), child, log=tmp_path / "runner.log")
            job = await market.start("gated", text=text, max_price=sats(20))
            await until_status(market, job.id, JobStatus.WORKING)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            await asyncio.to_thread(child.wait)
        e2e_shop.gate(text).set()
        async with hasty.runner([e2e_shop.agent], key=SecretKey.read(key_file)):
            assert await job.wait() == text
        moved.sold(job.view.quote)
        leases = [event.kind async for event in job.events() if event.kind in LEASE_EVENTS]
    assert leases[:2] == ["job.leased", "job.lease_lost"]
    assert leases[-1] == "job.leased"


async def test_a_lost_lease_is_worth_nothing_and_the_next_one_counts(hasty: World) -> None:
    provider, buyer = HandProvider(hasty), HandBuyer(hasty)
    await provider.offer()
    async with hasty.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        first = await provider.next_job()
        second = await provider.next_job()
        assert (first.job_id, second.epoch) == (second.job_id, first.epoch + 1)
        refused(await provider.deliver(first, "from the grave"), ProblemCode.LEASE_LOST, status=409)
        refused(await provider.fail(first), ProblemCode.LEASE_LOST, status=409)
        assert accepted(await provider.heartbeat(first))["stop"] is True
        assert accepted(await provider.heartbeat(second))["stop"] is False
        accepted(await provider.deliver(second, "alive"))
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        assert (await buyer.until(job.id, JobStatus.SETTLED)).result == "alive"
        moved.sold(job.quote)


async def test_a_provider_that_is_lost_again_and_again_costs_nothing(hasty: World) -> None:
    provider, buyer = HandProvider(hasty), HandBuyer(hasty)
    await provider.offer()
    async with hasty.money.moves():
        job, paying = await buyer.fund(provider)
        for _ in range(3):
            await provider.next_job()
        ended = await buyer.until(job.id, JobStatus.REFUNDED)
        assert ended.error is not None
        assert ended.error.code == "provider_lost"
        assert (await paying).outcome is PaymentOutcome.FAILED


async def test_a_job_that_is_not_paid_in_time_expires_and_its_invoice_is_dead(hasty: World) -> None:
    provider, buyer = HandProvider(hasty), HandBuyer(hasty)
    await provider.offer()
    async with hasty.money.moves():
        job = await buyer.hire(provider)
        ended = await buyer.until(job.id, JobStatus.EXPIRED)
        assert ended.error is not None
        assert ended.error.code == "unpaid"
        # A node does not even begin to pay what has expired, and the wallet does not call that a failed payment.
        assert (await buyer.pay(job)).outcome is not PaymentOutcome.SUCCEEDED
        assert await provider.ask(max_quotes=0, wait_seconds=0) == ()


async def until_online(world: World, key: SecretKey, child: subprocess.Popen[bytes], *, log: Path) -> None:
    client = world.client()

    async def online() -> bool:
        assert child.poll() is None, f"the runner ended by itself, see {log}"
        found = (await client.raw("GET", f"/v1/listings?agent={key.public}&online=true&q=gated")).json()
        return bool(found["listings"])

    await until(online, what="the runner is online")
