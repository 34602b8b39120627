"""A broker that comes back says nothing until it knows what has become of its escrows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from e2e_waiting import until
from escrow_story import Op, Story
from escrow_world import LIMITS
from faulty_node import Fault
from faulty_port import Port

from lightwork_broker.app import create_app
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow.reconcile import RecoveryFailed
from lightwork_broker.lightning.ports import HoldInvoice
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import PaymentHash


async def test_the_first_answer_after_a_crash_shows_what_happened_meanwhile(
    story: Story, tmp_path: Path
) -> None:
    await story.play_all(Op("hire"), Op("kill"), Op("pay"))
    job = story.job(0)
    assert job is not None
    assert job["status"] == "open"  # the database does not know of the payment
    world = story.world
    world.node.observer = None  # it knows no probes for a hash that nobody has
    node = Port(world.node)
    database = open_database(world.place)
    settings = BrokerSettings(data_dir=tmp_path, guardian_margin_blocks=LIMITS.guardian_margin_blocks)
    app = create_app(settings, node, clock=world.clock, database=database)
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
    world = story.world
    world.node.observer = None
    settings = BrokerSettings(data_dir=tmp_path, guardian_margin_blocks=LIMITS.guardian_margin_blocks)

    class Slow(Port):
        async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
            world.clock.time += settings.lease_seconds
            return await super().lookup(payment_hash)

    app = create_app(settings, Slow(world.node), clock=world.clock, database=open_database(world.place))
    async with app.router.lifespan_context(app):
        # Nobody could reach the broker until now, and the provider's run has all the time that it was told.
        assert story.hired()["lease_until"] >= world.clock.now() + settings.lease_seconds


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
