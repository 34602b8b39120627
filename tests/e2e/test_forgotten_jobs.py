"""The database is gone, the key is not: what the node still holds for the broker goes where it belongs, on real LND."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import e2e_crashing_broker
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_client import accepted
from e2e_money import NODES
from e2e_provider import HandBuyer, HandProvider
from e2e_stage import Stage
from e2e_world import World
from pydantic import JsonValue

from lightwork import PaymentOutcome
from lightwork_broker.lightning.conclusion import GRACE_SECONDS
from lightwork_contracts.money import Msat

pytestmark = pytest.mark.parametrize(
    "stage", [pytest.param("lnd", marks=pytest.mark.regtest)], indirect=True, scope="session"
)


@pytest_asyncio.fixture(loop_scope="session")
async def world(stage: Stage, tmp_path: Path) -> AsyncGenerator[World]:
    broker = BrokerProcess(
        stage.nodes, folder=tmp_path, command=(sys.executable, e2e_crashing_broker.__file__)
    )
    broker.env[e2e_crashing_broker.PLAN] = str(tmp_path / "plan")
    await broker.start()
    made = World(stage, broker)
    try:
        yield made
    finally:
        await made.close()
        await broker.stop()


async def _wealth(world: World) -> dict[str, int]:
    return {name: await world.nodes.wealth_msat(name) for name in NODES}


def _forget(broker: BrokerProcess) -> None:
    """Take the database away, as a disk does; the key stays."""
    for file in broker.data_dir.glob("broker.sqlite*"):
        file.unlink()


async def _audited(broker: BrokerProcess, *, exit_code: int) -> dict[str, JsonValue]:
    done = await broker.command("audit", "--node", "--json")
    assert done.returncode == exit_code, done.stdout + done.stderr
    return cast("dict[str, JsonValue]", json.loads(done.stdout))


async def test_a_payment_for_a_job_that_the_broker_forgot_goes_back_to_the_buyer(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    before = await _wealth(world)
    job, paying = await buyer.fund(provider)
    await world.broker.kill()
    _forget(world.broker)
    await world.broker.restart()
    told = json.dumps((await _audited(world.broker, exit_code=1))["breaches"])
    assert job.id in told
    assert "of which the books know nothing" in told
    await world.money.until_gone(job.quote.payment_hash, seconds=GRACE_SECONDS + 30)
    assert (await paying).outcome is PaymentOutcome.FAILED
    assert await _wealth(world) == before
    assert (await _audited(world.broker, exit_code=0))["breaches"] == []


async def test_a_payment_for_a_job_that_the_broker_forgot_is_taken_when_the_provider_was_paid(
    world: World, tmp_path: Path
) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    before = await _wealth(world)
    job, paying = await buyer.fund(provider)
    work = await provider.next_job()
    (tmp_path / "plan").write_text("settle:before")
    accepted(await provider.deliver(work, "done"))
    assert await world.broker.wait_gone() == -9
    _forget(world.broker)
    await world.broker.restart()
    assert (await paying).outcome is PaymentOutcome.SUCCEEDED
    await world.money.until_gone(job.quote.payment_hash)
    after = await _wealth(world)
    quote = job.quote
    assert after["buyer"] - before["buyer"] == -quote.total_msat
    assert after["provider"] - before["provider"] == quote.price_msat
    assert after["broker"] - before["broker"] == quote.fee_msat + quote.routing_msat
    assert "orphan.settled" in world.broker.log_text()


async def test_what_the_books_do_not_explain_is_not_moved_by_a_job(world: World) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer()
    first = cast("dict[str, int]", (await _audited(world.broker, exit_code=0))["node"])
    async with world.money.moves() as moved:
        job, paying = await buyer.fund(provider)
        held = cast("dict[str, int]", (await _audited(world.broker, exit_code=0))["node"])
        assert (held["held_msat"], held["holds"]) == (job.quote.total_msat, 1)
        accepted(await provider.deliver(await provider.next_job(), "done"))
        await paying
        moved.sold(job.quote)
    after = cast("dict[str, int]", (await _audited(world.broker, exit_code=0))["node"])
    assert after["channels_msat"] - first["channels_msat"] == job.quote.fee_msat + job.quote.routing_msat
    assert (first["outside_msat"], held["outside_msat"], after["outside_msat"]) == (0, 0, 0)
    assert (after["held_msat"], after["holds"], after["owed_msat"]) == (0, 0, 0)
    # What the node pays by itself is not in the books, and shows.
    node = world.network.node("broker")
    made = await world.wallets["provider"].create_invoice(
        amount_msat=Msat(7_000), expiry_seconds=600, memo="", final_cltv=40
    )
    assert await asyncio.to_thread(node.pay, made.invoice, fee_limit_msat=1_000)
    outside = cast("dict[str, int]", (await _audited(world.broker, exit_code=0))["node"])["outside_msat"]
    assert outside == -7_000
