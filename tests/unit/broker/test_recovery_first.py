"""A broker that comes back says nothing until it knows what has become of its escrows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from e2e_waiting import until
from escrow_story import Op, Story
from escrow_world import BUYER_KEY, LEASE_SECONDS, LIMITS, REVIEW_SECONDS
from fastapi import FastAPI
from faulty_node import Fault
from faulty_port import Port

from lightwork_broker.app import create_app
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow.reconcile import RecoveryFailed
from lightwork_broker.jobs.service import REVIEW_AGAIN_SECONDS, Jobs
from lightwork_broker.lightning.ports import HoldInvoice
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import PaymentHash


def _app(story: Story, folder: Path, node: Port) -> FastAPI:
    story.world.node.observer = None  # it knows no probes for a hash that nobody has
    settings = BrokerSettings(data_dir=folder, guardian_margin_blocks=LIMITS.guardian_margin_blocks)
    return create_app(settings, node, clock=story.world.clock, database=open_database(story.world.place))


async def test_the_first_answer_after_a_crash_shows_what_happened_meanwhile(
    story: Story, tmp_path: Path
) -> None:
    await story.play_all(Op("hire"), Op("kill"), Op("pay"))
    job = story.job(0)
    assert job is not None
    assert job["status"] == "open"  # the database does not know of the payment
    world = story.world
    app = _app(story, tmp_path, Port(world.node))
    serving, done = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            serving.set()
            await done.wait()

    # The probes for permissions look up and track as well; the look-up after them is that of the escrow.
    world.node.faults = [("track", Fault.SLOW_BEFORE)]
    running = asyncio.create_task(serve())
    try:
        await _until_on_the_wire(story)
        world.node.faults = [("lookup", Fault.SLOW_BEFORE)]
        world.node.wire.pop(0).deliver()
        await _until_on_the_wire(story)
        assert world.node.wire[0].payment_hash == PaymentHash(job["payment_hash"])
        assert not serving.is_set()
        world.node.wire.pop(0).deliver()
        await asyncio.wait_for(serving.wait(), 10)
        seen = await app.state.jobs.get(job["id"])
        assert seen.status == "funded"
    finally:
        done.set()
        await asyncio.wait_for(running, 10)


async def _until_on_the_wire(story: Story) -> None:
    async def found() -> bool:
        return bool(story.world.node.wire)

    await until(found, what="a call is on the wire", every=0.001)


async def test_a_recovery_that_takes_long_costs_no_provider_its_lease(story: Story, tmp_path: Path) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"), Op("kill"))
    clock = story.world.clock

    class Slow(Port):
        async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
            clock.time += LEASE_SECONDS
            return await super().lookup(payment_hash)

    app = _app(story, tmp_path, Slow(story.world.node))
    async with app.router.lifespan_context(app):
        # Nobody could reach the broker until now, and the provider's run has all the time that it was told.
        assert story.hired()["lease_until"] >= clock.now() + LEASE_SECONDS


@pytest.mark.parametrize("rejects", [True, False], ids=["and rejects", "and says nothing"])
async def test_a_buyer_whose_review_ended_while_the_broker_was_away_has_time_to_reject(
    story: Story, tmp_path: Path, rejects: bool
) -> None:
    await story.play_all(Op("hire", number=1), Op("pay"), Op("lease"), Op("deliver"), Op("kill"))
    job, clock = story.hired(), story.world.clock
    assert job["status"] == "delivered"
    clock.time += 10 * REVIEW_SECONDS
    app = _app(story, tmp_path, Port(story.world.node))
    async with app.router.lifespan_context(app):
        jobs: Jobs = app.state.jobs
        clock.time += REVIEW_AGAIN_SECONDS - 1
        await jobs.tick()
        assert story.hired()["status"] == "delivered"
        if rejects:
            await jobs.reject(BUYER_KEY.public, job["id"], reason="not what was asked for")
        clock.time += 1
        await jobs.tick()
        assert story.hired()["status"] == ("disputed" if rejects else "releasing")


async def test_a_review_with_more_time_left_ends_when_it_would_have_ended(
    story: Story, tmp_path: Path
) -> None:
    await story.play_all(Op("hire", number=1), Op("pay"), Op("lease"), Op("deliver"), Op("kill"))
    before = story.hired()["deadline"]
    assert before >= story.world.clock.now() + REVIEW_AGAIN_SECONDS
    app = _app(story, tmp_path, Port(story.world.node))
    async with app.router.lifespan_context(app):
        assert story.hired()["deadline"] == before


async def test_a_broker_whose_node_is_silent_serves_nothing(story: Story, tmp_path: Path) -> None:
    await story.play_all(Op("hire"), Op("kill"))
    world = story.world
    world.node.observer = None
    world.node.faults = [("lookup", Fault.LOST_BEFORE)] * 2
    settings = BrokerSettings(data_dir=tmp_path, node_patience_seconds=0)

    class SilentAboutInvoices(Port):
        async def lookup(self, payment_hash: PaymentHash) -> None:
            job = story.job(0)
            assert job is not None
            if payment_hash == job["payment_hash"]:
                await super().lookup(payment_hash)
            return

    node = SilentAboutInvoices(world.node)
    database = open_database(world.place)
    app = create_app(settings, node, clock=world.clock, database=database)
    try:
        with pytest.raises(RecoveryFailed, match="no answer"):
            async with app.router.lifespan_context(app):
                raise AssertionError("it serves")
    finally:
        await database.close()
