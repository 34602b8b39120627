"""What a broker makes of a node that is too old, behind its chain, silent, or without an answer for hours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog.testing
from escrow_story import Op, Story
from escrow_world import LIMITS, PREIMAGES, ManualClock, World
from faulty_node import FaultyNode, Outcome
from faulty_port import Port

from lightwork_broker.app import create_app
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow.reconcile import Reconciler, RecoveryFailed
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import HoldInvoice, NodeSummary
from lightwork_broker.lightning.version import is_safe
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import PaymentHash

HOUR = 3_600


def _events(logs: list[Any], *names: str) -> list[str]:
    return [line["event"] for line in logs if line["event"] in names]


# --- its version ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("0.21.3-beta commit=v0.21.3-beta", True),
        ("0.19.0-beta", True),
        ("0.21.99-beta commit=master", True),
        ("1.0.0", True),
        ("0.18.5-beta commit=v0.18.5-beta", False),
        ("0.9.2-beta", False),
        ("", False),
        ("unreleased", False),
    ],
)
def test_an_lnd_with_published_holes_or_without_a_version_is_not_safe(version: str, safe: bool) -> None:
    assert is_safe(version) is safe


class Old(Port):
    async def summary(self) -> NodeSummary:
        return replace(await super().summary(), version="0.18.5-beta commit=v0.18.5-beta")


async def test_a_broker_does_not_start_on_an_lnd_with_published_holes(tmp_path: Path) -> None:
    clock = ManualClock()
    for node, starts in ((Port(FaultyNode(clock)), True), (Old(FaultyNode(clock)), False)):
        app = create_app(BrokerSettings(data_dir=tmp_path), node, clock=clock)
        if starts:
            async with app.router.lifespan_context(app):
                pass
        else:
            with pytest.raises(RecoveryFailed, match=r"0\.18\.5-beta.*0\.19\.0"):
                async with app.router.lifespan_context(app):
                    pass


# --- its height -------------------------------------------------------------------------------------------------


class Lagging(Port):
    """A connection to a node that may be behind its chain."""

    synced = True

    async def summary(self) -> NodeSummary:
        return replace(await super().summary(), synced_to_chain=self.synced)


async def test_a_node_that_is_behind_its_chain_raises_one_alarm_until_it_has_caught_up(story: Story) -> None:
    world = story.world
    node = Lagging(world.node)
    reconciler = _reconciler(world, node)
    with structlog.testing.capture_logs() as logs:
        for synced, seconds in (
            (True, 10),
            (False, 10),  # for a moment, as at each block
            (True, 10),
            (False, 30),
            (False, 30),
            (False, 30),
            (False, 30),
            (True, 10),
            (True, 10),
            (False, 61),
            (False, 10),
        ):
            node.synced = synced
            await reconciler.sweep()
            world.clock.time += seconds
    assert _events(logs, "node.behind", "node.caught_up") == ["node.behind", "node.caught_up", "node.behind"]
    levels = {line["event"]: line["log_level"] for line in logs}
    assert levels["node.behind"] == "critical"


def _reconciler(world: World, node: Port) -> Reconciler:
    broker = world.working(0)
    assert broker is not None
    return Reconciler(
        database=broker.database, node=node, escrows=broker.escrows, clock=world.clock, sweep_seconds=10
    )


async def test_a_node_that_is_behind_or_silent_is_told_to_whoever_asks_how_the_broker_is(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    network = FaultyNode(clock)
    node = Lagging(network)
    app = create_app(BrokerSettings(data_dir=tmp_path), node, clock=clock)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            assert (await client.get("/v1/health")).status_code == 200
            node.synced = False
            behind = await client.get("/v1/health")
            node.synced = True
            network.down = True
            silent = await client.get("/v1/health")
            network.down = False
            assert (await client.get("/v1/health")).status_code == 200
    assert (behind.status_code, behind.json()["detail"]) == (503, "the node is not synced to its chain")
    assert (silent.status_code, silent.json()["block_height"]) == (503, None)
    assert "does not answer" in silent.json()["detail"]


# --- its payments -----------------------------------------------------------------------------------------------


async def test_a_payment_that_is_in_flight_for_ever_is_told_of_each_hour_and_nothing_is_given_back(
    story: Story,
) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    job = story.job(0)
    assert job is not None
    payment_hash = PaymentHash(job["payment_hash"])
    story.world.node.outcomes[payment_hash] = [Outcome()]  # the node never says what became of it
    await story.play_all(Op("deliver"))
    reconciler = _reconciler(story.world, Port(story.world.node))
    with structlog.testing.capture_logs() as logs:
        for _ in range(10):  # five hours
            story.world.clock.time += HOUR / 2
            story.world.node.time_passes()
            await reconciler.sweep()
            await story.world.calm()
    alarms = [line for line in logs if line["event"] == "escrow.unknown_for_long"]
    assert [line["log_level"] for line in alarms] == ["critical"] * 5
    assert [line["minutes"] for line in alarms] == [60, 120, 180, 240, 300]
    assert {line["job"] for line in alarms} == {job["id"]}
    state = story.books.rows("SELECT state FROM escrow")
    assert (state, payment_hash in story.world.node.charged) == ([{"state": "forwarding"}], False)
    # The day on which the node knows, the broker does.
    story.world.node.resolve(payment_hash, Outcome(fee_msat=7))
    await story.play_all(Op("sweep"))
    assert story.books.rows("SELECT state FROM escrow") == [{"state": "settled"}]
    with structlog.testing.capture_logs() as logs:
        await reconciler.sweep()
    assert _events(logs, "escrow.unknown_for_long") == []


# --- its streams ------------------------------------------------------------------------------------------------


class Hung(Port):
    """A connection whose streams are open and silent."""

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        await asyncio.Event().wait()
        raise LightningUnavailable("never reached")
        yield  # pyright: ignore[reportUnreachable]  (makes it a generator)


async def test_a_stream_that_hangs_keeps_no_payment_from_being_seen(story: Story) -> None:
    world = story.world
    await story.play_all(Op("hire"), Op("kill"))
    database = open_database(world.place)
    node = Hung(world.node)
    escrows = EscrowService(
        database=database, node=node, clock=world.clock, limits=LIMITS, preimages=PREIMAGES
    )
    reconciler = Reconciler(
        database=database, node=node, escrows=escrows, clock=world.clock, sweep_seconds=10
    )
    try:
        await reconciler.boot(patience_seconds=0)
        await story.play_all(Op("pay"))
        assert story.books.rows("SELECT state FROM escrow") == [{"state": "open"}]
        await reconciler.sweep()
        assert story.books.rows("SELECT state FROM escrow") == [{"state": "accepted"}]
    finally:
        await escrows.close()
        await database.close()


# --- after a restart --------------------------------------------------------------------------------------------


class Counted(Port):
    """A connection that counts the look-ups, and the streams that are open."""

    def __init__(self, node: FaultyNode) -> None:
        super().__init__(node)
        self.looked: set[PaymentHash] = set()
        self.streams: set[PaymentHash] = set()

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        self.looked.add(payment_hash)
        return await super().lookup(payment_hash)

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        self.streams.add(payment_hash)
        try:
            async for hold in super().watch(payment_hash):
                yield hold
        finally:
            self.streams.discard(payment_hash)


async def test_after_a_restart_each_unfinished_escrow_is_looked_up_and_each_open_one_is_watched(
    story: Story,
) -> None:
    world = story.world
    # One open, one held, one released whose payout is under way.
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    first = story.job(0)
    assert first is not None
    world.node.outcomes[PaymentHash(first["payment_hash"])] = [Outcome()]
    await story.play_all(Op("deliver"), Op("hire"), Op("pay", job=1), Op("hire"), Op("kill"))
    rows = story.books.rows("SELECT payment_hash, state FROM escrow ORDER BY id")
    assert [row["state"] for row in rows] == ["forwarding", "accepted", "open"]
    database = open_database(world.place)
    node = Counted(world.node)
    escrows = EscrowService(
        database=database, node=node, clock=world.clock, limits=LIMITS, preimages=PREIMAGES
    )
    reconciler = Reconciler(
        database=database, node=node, escrows=escrows, clock=world.clock, sweep_seconds=10
    )
    try:
        assert await reconciler.boot(patience_seconds=0) == 3
        await world.activity.calm()
        assert node.looked == {PaymentHash(row["payment_hash"]) for row in rows}
        assert node.streams == {PaymentHash(rows[2]["payment_hash"])}
        # A sweep adds no second stream, and every node's silence about one is no end of it.
        await reconciler.sweep()
        await world.activity.calm()
        assert node.streams == {PaymentHash(rows[2]["payment_hash"])}
    finally:
        await escrows.close()
        await database.close()
