"""A row that cannot be read is one job's trouble: all others go on, also through a restart."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import structlog.testing
from databases import Template
from escrow_checks import Books
from escrow_world import BUYER_KEY, PROVIDER_KEY, WORK_SECONDS, World, open_world
from fast_folder import fast_folder

from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.watchdog import Watchdog
from lightwork_contracts.ids import JobId
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.jobs import PollWork

BUYER, PROVIDER = BUYER_KEY.public, PROVIDER_KEY.public

SPOILT = {
    "a state that is none": "UPDATE escrow SET state = 'junk' WHERE id = ?",
    "a hash that is none": "UPDATE escrow SET payment_hash = 'junk' WHERE id = ?",
    "an invoice that is none": "UPDATE escrow SET provider_invoice = 'junk' WHERE id = ?",
    "a status that is none": "UPDATE job SET status = 'junk' WHERE id = ?",
    "an input that is none": "UPDATE job SET input = '{' WHERE id = ?",
    "an acceptance that is none": "UPDATE job SET acceptance = 'junk' WHERE id = ?",
}


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


async def _still_there() -> bool:
    return False


async def _fund(world: World) -> JobId:
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    job = await broker.jobs.hire(BUYER, quote)
    await world.calm()
    world.node.buyer_pays(job.payment_hash, world.node.holds[job.payment_hash].value_msat)
    await world.calm()
    return job.id


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_a_row_that_cannot_be_read_keeps_no_other_job_from_its_end(world: World, spoil: str) -> None:
    broken, done, late = await _fund(world), await _fund(world), await _fund(world)
    books = Books(world.place)
    await world.stop(0)
    books.unguard(spoil.split()[1])
    books.change(spoil, broken)
    with structlog.testing.capture_logs() as logs:
        await world.start(0)
        broker = world.serving()
        for _ in range(3):
            await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_jobs=3), gone=_still_there)
        await broker.queue.deliver(PROVIDER, done, epoch=1, result="done")
        await world.calm()
        world.clock.time += WORK_SECONDS + 1
        await broker.jobs.tick()
        await world.calm()
        await broker.reconciler.retry_due()
        await broker.reconciler.sweep()
        await world.calm()
        watchdog = Watchdog(
            database=broker.database, node=broker.port, clock=world.clock, gate=PayoutGate(), seconds=60
        )
        await watchdog.look()
    statuses = {row["id"]: row["status"] for row in books.rows("SELECT id, status FROM job")}
    books.close()
    assert (statuses[done], statuses[late]) == ("settled", "refunded")
    assert world.surprises == []
    # The one itself is given back, or somebody is told that it is stuck.
    told = {line.get("job") for line in logs if line["log_level"] in ("error", "critical")}
    assert statuses[broken] == "refunded" or broken in told


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
async def test_a_row_that_cannot_be_read_does_not_keep_the_guardian_from_the_next_one(
    world: World, spoil: str
) -> None:
    jobs = [await _fund(world) for _ in range(3)]
    # The one in the middle: whichever way they are read, another one is before it and another one behind.
    broken = sorted(jobs)[1]
    books = Books(world.place)
    await world.stop(0)
    books.unguard(spoil.split()[1])
    books.change(spoil, broken)
    (last,) = books.rows("SELECT MAX(release_by) AS height FROM escrow")
    while world.node.height < last["height"]:
        world.node.mine()
    with structlog.testing.capture_logs() as logs:
        await world.start(0)
        await world.calm()
    statuses = {row["id"]: row["status"] for row in books.rows("SELECT id, status FROM job")}
    books.close()
    told = {line.get("job") for line in logs if line["log_level"] in ("error", "critical")}
    assert statuses[broken] == "refunded" or broken in told
    assert {statuses[job] for job in jobs if job != broken} == {"refunded"}
    assert world.node.given_back == set()
    assert world.surprises == []
    assert world.working(0) is not None
