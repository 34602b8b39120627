"""A webhook's turn: who has it, how it ends whatever happens, and that its end is nobody else's trouble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import httpx2
import pytest
from databases import Backup
from e2e_waiting import until
from escrow_checks import Books
from escrow_story import Op, Story
from escrow_world import BUYER_KEY, PROVIDER_KEY

from lightwork_broker.clock import Ids
from lightwork_broker.db.place import open_database
from lightwork_broker.webhooks import store
from lightwork_broker.webhooks.outgoing import Address, NotDelivered, Outgoing, Resolve
from lightwork_broker.webhooks.service import FIRST_RETRY_SECONDS, LEASE_SECONDS, Webhooks
from lightwork_contracts.wire.jobs import PollWork

BUYER, PROVIDER = BUYER_KEY.public, PROVIDER_KEY.public
URL = "http://127.0.0.1:9/hook"
WHOLE_JOB = (Op("hire"), Op("pay"), Op("lease"), Op("deliver"))


@dataclass
class Line(httpx2.AsyncBaseTransport):
    """What one broker sends goes here. Cleared, `go_on` keeps its answers back."""

    status: int = 204
    seen: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append((request.headers["webhook-id"], await request.aread()))
        await self.go_on.wait()
        return httpx2.Response(self.status)

    @property
    def numbers(self) -> list[int]:
        return [json.loads(body)["data"]["seq"] for _, body in self.seen]


async def _here(host: str) -> list[Address]:
    del host
    return [ip_address("127.0.0.1")]


@asynccontextmanager
async def _sender(story: Story, line: Line, *, look_up: Resolve = _here) -> AsyncGenerator[Webhooks]:
    """The webhooks of one broker process."""
    database = open_database(story.world.place)
    webhooks = Webhooks(
        database=database,
        clock=story.world.clock,
        ids=Ids(story.world.clock),
        outgoing=Outgoing(private=True, look_up=look_up, transport=line),
        private=True,
    )
    try:
        yield webhooks
    finally:
        await webhooks.close()
        await database.close()


async def _send(webhooks: Webhooks) -> None:
    await webhooks.look()
    await webhooks.calm()


def _begun(line: Line) -> Callable[[], Awaitable[bool]]:
    async def begun() -> bool:
        return line.seen != []

    return begun


def _logged(story: Story) -> list[int]:
    return [row["seq"] for row in story.books.rows("SELECT seq FROM job_event ORDER BY seq")]


def _row(books: Books) -> dict[str, object]:
    (row,) = books.rows("SELECT * FROM webhook")
    return row


# --- whose turn it is -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 204], ids=["in vain", "with success"])
async def test_a_broker_that_was_away_does_not_end_the_turn_of_the_one_that_took_over(
    story: Story, status: int
) -> None:
    first, second, third = Line(status), Line(), Line()
    async with _sender(story, first) as stalls, _sender(story, second) as takes_over:
        await stalls.add(BUYER, URL)
        await story.play_all(*WHOLE_JOB)
        first.go_on.clear()
        await stalls.look()
        await until(_begun(first), what="the first one sends")
        story.world.clock.time += LEASE_SECONDS + 1
        second.go_on.clear()
        await takes_over.look()
        await until(_begun(second), what="the second one sends")
        first.go_on.set()
        await stalls.calm()
        row = _row(story.books)
        assert row["lease_until"] == story.world.clock.time + LEASE_SECONDS
        assert (row["tries"], row["last_error"]) == (0, None)
        assert len(first.seen) == 1
        async with _sender(story, third) as looks:
            await _send(looks)
        assert third.seen == [], "the second one has not ended"
        second.go_on.set()
        await takes_over.calm()
    assert second.numbers == _logged(story)


@pytest.mark.parametrize("end", ["advance", "fail", "release"])
async def test_a_lease_that_another_broker_has_taken_is_not_written_to(story: Story, end: str) -> None:
    clock = story.world.clock
    async with _sender(story, Line()) as webhooks:
        added = await webhooks.add(BUYER, URL)
        async with webhooks._database.write() as tx:
            mine = await store.lease(tx, added, until=clock.time + LEASE_SECONDS)
        assert mine is not None
        clock.time += LEASE_SECONDS + 1
        async with webhooks._database.write() as tx:
            theirs = await store.lease(tx, mine, until=clock.time + LEASE_SECONDS)
        assert theirs is not None
        before = _row(story.books)
        async with webhooks._database.write() as tx:
            match end:
                case "advance":
                    assert await store.advance(tx, mine, to=mine.cursor + 1, until=clock.time) is None
                case "fail":
                    assert not await store.fail(tx, mine, tries=1, last_error="no", retry_at=clock.time + 2)
                case _:
                    await store.release(tx, mine, now=clock.time)
        assert _row(story.books) == before


async def test_what_another_broker_has_tried_in_vain_since_one_looked_is_not_tried_before_its_time(
    story: Story,
) -> None:
    clock = story.world.clock
    async with _sender(story, Line()) as webhooks:
        seen = await webhooks.add(BUYER, URL)
        async with webhooks._database.write() as tx:
            theirs = await store.lease(tx, seen, until=clock.time + LEASE_SECONDS)
            assert theirs is not None
            assert await store.fail(tx, theirs, tries=1, retry_at=clock.time + FIRST_RETRY_SECONDS)
        before = _row(story.books)
        async with webhooks._database.write() as tx:
            assert await store.lease(tx, seen, until=clock.time + LEASE_SECONDS) is None
        assert _row(story.books) == before


# --- what nobody foresaw --------------------------------------------------------------------------------


async def test_whatever_goes_wrong_counts_as_a_failure_and_is_tried_again_later_and_later(
    story: Story,
) -> None:
    asked: list[str] = []

    async def breaks(host: str) -> list[Address]:
        asked.append(host)
        raise RuntimeError("nobody foresaw this")

    async with _sender(story, Line(), look_up=breaks) as webhooks:
        await webhooks.add(BUYER, URL)
        await story.play_all(*WHOLE_JOB)
        for tries in (1, 2, 3):
            await _send(webhooks)
            await _send(webhooks)  # the same moment: it is tried once
            assert len(asked) == tries
            (known,) = await webhooks.mine(BUYER)
            assert (known.tries, known.lease_until) == (tries, 0)
            assert known.retry_at == story.world.clock.time + FIRST_RETRY_SECONDS * 2 ** (tries - 1)
            assert known.failing_since is not None
            story.world.clock.time = known.retry_at
    # Its cause away, everything is sent.
    line = Line()
    async with _sender(story, line) as webhooks:
        await _send(webhooks)
    assert line.numbers == _logged(story)


@pytest.mark.parametrize("host", ["a" * 64 + ".example.com", "a..example.com"])
async def test_a_name_that_cannot_be_looked_up_is_a_failure_like_others(host: str) -> None:
    outgoing = Outgoing(private=False)
    with pytest.raises(NotDelivered):
        await outgoing.post(f"https://{host}/hook", b"{}", headers={})
    await outgoing.close()


async def test_an_event_that_cannot_be_read_keeps_no_webhook_of_others_waiting(story: Story) -> None:
    line = Line()
    async with _sender(story, line) as webhooks:
        await webhooks.add(BUYER, URL)
        await story.play_all(*WHOLE_JOB)
        story.books.unguard("job_event")
        story.books.change("UPDATE job_event SET data = '{'")
        await webhooks.add(PROVIDER, URL)
        await story.play_all(Op("hire"))
        await _send(webhooks)
        await _send(webhooks)
        known = {one.owner: one for one in [*await webhooks.mine(BUYER), *await webhooks.mine(PROVIDER)]}
    assert line.seen != []
    assert (known[BUYER].tries, known[PROVIDER].tries) == (1, 0)


# --- what it is called ----------------------------------------------------------------------------------


async def _tell_all(story: Story, line: Line) -> None:
    async with _sender(story, line) as webhooks:
        await _send(webhooks)


async def test_no_two_events_have_one_id_although_an_older_copy_of_the_database_numbers_them_again(
    story: Story,
) -> None:
    world, before, after = story.world, Line(), Line()
    async with _sender(story, Line()) as webhooks:
        await webhooks.add(BUYER, URL)
    await story.play_all(Op("hire"), Op("pay"))
    (job,) = story.books.rows("SELECT id FROM job")
    story.books.close()
    await world.stop(0)
    backup = Backup(world.place)
    await world.start(0)
    broker = world.serving()
    await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0), gone=_gone)
    await broker.queue.fail(PROVIDER, job["id"], epoch=1, code="broken", message="it broke")
    await world.calm()
    await _tell_all(story, before)
    await world.stop(0)
    backup.restore()
    await world.start(0)  # and finds out at its node that the buyer has the money back
    await world.calm()
    await _tell_all(story, after)
    told, again = dict(before.seen), dict(after.seen)
    common = told.keys() & again.keys()
    assert common, "what the older copy remembers is told again under its id"
    assert {told[one] for one in common} == {again[one] for one in common}
    differ = set(before.seen) ^ set(after.seen)
    assert differ, "what happened instead is told as well"
    assert len({number for line in (before, after) for number in line.numbers}) < len(told | again)


async def _gone() -> bool:
    return False
