"""Whose result counts, and that it is the one whose hash was told."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from escrow_story import BUYER, PROVIDER, Op, Story
from escrow_world import LEASE_SECONDS
from late_database import LateDatabase

from lightwork_broker.errors import LeaseLost
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.signals import Signals
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.wire.jobs import JobForBuyer

AUTO, REVIEW = 0, 1


async def _until_working(story: Story, acceptance: int = AUTO) -> dict[str, Any]:
    await story.play_all(Op("hire", number=acceptance), Op("pay"), Op("lease"))
    job = story.hired()
    assert (job["status"], job["epoch"]) == ("working", 1)
    return job


async def _lose_lease(story: Story) -> None:
    story.world.clock.time += LEASE_SECONDS + 1
    await story.play_all(Op("tick"))
    assert story.hired()["status"] == "funded"


async def _seen_by_buyer(story: Story) -> JobForBuyer:
    broker = story.world.serving()
    view = await broker.reader.view(BUYER, await broker.jobs.get(story.hired()["id"]))
    assert isinstance(view, JobForBuyer)
    return view


def _late_queue(story: Story, database: LateDatabase) -> WorkQueue:
    broker, clock = story.world.serving(), story.world.clock
    jobs: Jobs = broker.jobs
    return WorkQueue(
        database=database,
        clock=clock,
        signals=Signals(),
        market=broker.market,
        quotes=broker.quotes,
        jobs=jobs,
        lease_seconds=LEASE_SECONDS,
    )


async def test_a_delivery_that_a_new_lease_has_overtaken_is_refused(story: Story) -> None:
    job = await _until_working(story)
    database = LateDatabase(story.world.place)
    try:
        queue = _late_queue(story, database)
        delivering = asyncio.create_task(
            queue.deliver(PROVIDER, job["id"], epoch=1, result="of the first run")
        )
        await asyncio.wait_for(database.waiting.wait(), 5)
        await _lose_lease(story)
        await story.play_all(Op("lease"))
        database.turn.set()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(delivering, 5)
    finally:
        await database.close()
    job = story.hired()
    assert (job["status"], job["epoch"], job["result"]) == ("working", 2, None)


async def test_each_lease_has_a_number_of_its_own(story: Story) -> None:
    job = await _until_working(story)
    await _lose_lease(story)
    await story.play_all(Op("lease"))
    assert story.hired()["epoch"] == 2
    until = story.hired()["lease_until"]
    story.world.clock.time += 5
    queue = story.world.serving().queue
    beat = await queue.heartbeat(PROVIDER, job["id"], epoch=1, progress=0.9, note="still at it")
    assert beat.stop
    assert (story.hired()["lease_until"], story.hired()["progress"]) == (until, None)
    assert not (await queue.heartbeat(PROVIDER, job["id"], epoch=2, progress=0.1, note=None)).stop
    with pytest.raises(LeaseLost):
        await queue.fail(PROVIDER, job["id"], epoch=1, code="failed", message="gave up")
    assert story.hired()["status"] == "working"


async def test_the_hash_that_is_told_is_that_of_the_result_that_is_shown(story: Story) -> None:
    job = await _until_working(story, REVIEW)
    await story.world.serving().queue.deliver(PROVIDER, job["id"], epoch=1, result="größer als “eins” ✓")
    delivered = await _seen_by_buyer(story)
    assert (delivered.status, delivered.result) == ("delivered", "größer als “eins” ✓")
    digest = hashlib.sha256(canonical_json(delivered.result)).hexdigest()
    assert delivered.result_hash == digest
    events = story.books.rows("SELECT data FROM job_event WHERE kind = 'job.delivered'")
    assert [digest in row["data"] for row in events] == [True]
    await story.play_all(Op("accept"))
    settled = await _seen_by_buyer(story)
    assert (settled.status, settled.result, settled.result_hash) == ("settled", delivered.result, digest)


async def test_another_result_after_the_first_is_refused_and_the_first_one_stays(story: Story) -> None:
    job = await _until_working(story, REVIEW)
    queue = story.world.serving().queue
    await queue.deliver(PROVIDER, job["id"], epoch=1, result="first")
    with pytest.raises(LeaseLost):
        await queue.deliver(PROVIDER, job["id"], epoch=1, result="second")
    await queue.deliver(PROVIDER, job["id"], epoch=1, result="first")
    assert (await _seen_by_buyer(story)).result == "first"
    assert len(story.books.rows("SELECT seq FROM job_event WHERE kind = 'job.delivered'")) == 1
