"""Each event of one's jobs arrives at one's URL: in order, at least once, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from databases import WrappedDatabase
from e2e_waiting import until
from escrow_story import Op, Story
from escrow_world import BUYER_KEY, PROVIDER_KEY
from webhook_receiver import Receiver

from lightwork_broker.clock import Ids
from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.errors import NotFound, WebhookRefused
from lightwork_broker.webhooks.outgoing import Outgoing
from lightwork_broker.webhooks.service import (
    BATCH,
    GIVE_UP_SECONDS,
    LEASE_SECONDS,
    MOST_OF_OWNER,
    Webhooks,
)
from lightwork_contracts.ids import Pubkey

STRANGER = Pubkey("ab" * 32)
WHOLE_JOB = (Op("hire"), Op("pay"), Op("lease"), Op("deliver"))


@pytest.fixture
def receiver() -> Generator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


class CountedWrites(WrappedDatabase):
    """A database that counts the transactions that may write."""

    writes = 0

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        self.writes += 1
        return super().write()


@asynccontextmanager
async def _sender(story: Story) -> AsyncGenerator[Webhooks]:
    """The webhooks of one broker process."""
    database = open_database(story.world.place)
    webhooks = Webhooks(
        database=database,
        clock=story.world.clock,
        ids=Ids(story.world.clock),
        outgoing=Outgoing(private=True),
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


def _numbers(receiver: Receiver) -> list[int]:
    return [json.loads(got.body)["data"]["seq"] for got in receiver.seen]


def _heard(receiver: Receiver, count: int) -> Callable[[], Awaitable[bool]]:
    async def heard() -> bool:
        return len(receiver.seen) >= count

    return heard


def _logged(story: Story) -> list[int]:
    return [row["seq"] for row in story.books.rows("SELECT seq FROM job_event ORDER BY seq")]


@pytest.mark.parametrize("owner", [BUYER_KEY.public, PROVIDER_KEY.public])
async def test_both_parties_are_told_each_event_once_and_in_order(
    story: Story, receiver: Receiver, owner: Pubkey
) -> None:
    async with _sender(story) as webhooks:
        added = await webhooks.add(owner, receiver.url)
        await story.play_all(*WHOLE_JOB)
        await _send(webhooks)
        await _send(webhooks)
    assert _numbers(receiver) == _logged(story)
    kinds = [json.loads(got.body)["type"] for got in receiver.seen]
    assert (kinds[0], kinds[-1]) == ("job.quoted", "job.settled")
    for got in receiver.seen:
        # Standard Webhooks 1.0, computed here by its text: HMAC-SHA256 over "id.timestamp.body".
        key = base64.b64decode(added.secret.reveal().removeprefix("whsec_"))
        signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        assert got.headers["webhook-signature"] == f"v1,{expected}"


async def test_what_is_sent_holds_no_input_no_result_and_no_preimage(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        await webhooks.add(PROVIDER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB)
        await _send(webhooks)
    sent = b"".join(got.body for got in receiver.seen).decode()
    (job,) = story.books.rows("SELECT input, result, preimage FROM job")
    (escrow,) = story.books.rows("SELECT preimage FROM escrow")
    for secret in (*job.values(), escrow["preimage"]):
        assert secret is None or str(secret).strip('"{}') not in sent


async def test_strangers_are_told_nothing(story: Story, receiver: Receiver) -> None:
    async with _sender(story) as webhooks:
        await webhooks.add(STRANGER, receiver.url)
        await story.play_all(*WHOLE_JOB)
        await _send(webhooks)
    assert receiver.seen == []


async def test_what_a_receiver_did_not_take_is_sent_later_in_order_and_nothing_is_skipped(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB)
        receiver.answers = (503, {}, b"busy")
        for _ in range(3):
            await _send(webhooks)  # the same moment: it is tried once
        assert len(receiver.seen) == 1
        (known,) = await webhooks.mine(BUYER_KEY.public)
        assert (known.last_error, known.failing_since) == ("answered 503", story.world.clock.time)
        story.world.clock.time += 3
        await _send(webhooks)
        assert len({got.headers["webhook-id"] for got in receiver.seen}) == 1
        receiver.answers = (204, {}, b"")
        story.world.clock.time += 3
        await _send(webhooks)
        assert len(receiver.seen) == 2, "the second wait is longer"
        story.world.clock.time += 3
        await _send(webhooks)
        (known,) = await webhooks.mine(BUYER_KEY.public)
        assert (known.last_error, known.failing_since) == (None, None)
    assert _numbers(receiver)[2:] == _logged(story)


async def test_a_broker_that_dies_while_it_sends_loses_nothing(story: Story, receiver: Receiver) -> None:
    await story.play_all(Op("hire"))
    async with _sender(story) as webhooks:
        await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB[1:])
        receiver.go_on.clear()
        await webhooks.look()
        await until(_heard(receiver, 1), what="a message arrives")
        # It dies with the message taken, and the answer not seen.
    receiver.go_on.set()
    story.world.clock.time += LEASE_SECONDS + 1
    async with _sender(story) as webhooks:
        await _send(webhooks)
    numbers = _numbers(receiver)
    assert numbers[0] == numbers[1], "it cannot know, so it says it again under the same id"
    assert receiver.seen[0].headers["webhook-id"] == receiver.seen[1].headers["webhook-id"]
    assert numbers[1:] == [seq for seq in _logged(story) if seq >= numbers[0]]


async def test_two_brokers_send_each_event_once(story: Story, receiver: Receiver) -> None:
    async with _sender(story) as one, _sender(story) as other:
        await one.add(BUYER_KEY.public, receiver.url)
        for op in WHOLE_JOB:
            await story.play_all(op)
            await asyncio.gather(*(_send(webhooks) for webhooks in (one, other)))
        await _send(one)
    assert _numbers(receiver) == _logged(story)


async def test_a_receiver_that_hangs_keeps_no_other_waiting(story: Story, receiver: Receiver) -> None:
    slow = Receiver()
    slow.go_on.clear()
    try:
        async with _sender(story) as webhooks:
            await webhooks.add(BUYER_KEY.public, slow.url)
            await webhooks.add(PROVIDER_KEY.public, receiver.url)
            await story.play_all(*WHOLE_JOB)
            await webhooks.look()
            await until(_heard(receiver, len(_logged(story))), what="the others are told")
            assert len(slow.seen) <= 1
    finally:
        slow.stop()


async def test_many_webhooks_of_strangers_keep_nobody_waiting_for_ever(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        for number in range(60):
            await webhooks.add(Pubkey(f"{number // MOST_OF_OWNER:02x}" * 32), receiver.url)
        await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB[:3])
        # There is always a new event when they are looked at again, so nobody is ever done.
        for _ in range(8):
            await story.play_all(Op("heartbeat"))
            await _send(webhooks)
        assert receiver.seen != []


async def test_events_of_others_cost_a_webhook_no_writes_of_its_own(story: Story, receiver: Receiver) -> None:
    async with _sender(story) as webhooks:
        for number in range(20):
            await webhooks.add(Pubkey(f"{number:02x}" * 32), receiver.url)
        await story.play_all(*WHOLE_JOB)
        counted = CountedWrites(open_database(story.world.place))
        webhooks._database = counted
        await _send(webhooks)
        assert counted.writes == 1
        await counted.close()


async def test_who_is_slow_and_has_much_to_hear_gives_up_its_place_in_between(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB[:3])
        for _ in range(BATCH + 10):
            await story.play_all(Op("heartbeat"))
        await _send(webhooks)
        assert len(receiver.seen) == BATCH
        await _send(webhooks)
    assert _numbers(receiver) == _logged(story)


async def test_a_webhook_that_is_removed_while_it_is_sent_for_hears_no_more(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        added = await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB)
        receiver.go_on.clear()
        await webhooks.look()
        await until(_heard(receiver, 1), what="a message arrives")
        await webhooks.remove(BUYER_KEY.public, added.id)
        receiver.go_on.set()
        await webhooks.calm()
    assert len(receiver.seen) == 1


async def test_a_webhook_that_fails_for_days_is_given_up_and_says_so(
    story: Story, receiver: Receiver
) -> None:
    receiver.answers = (410, {}, b"")
    async with _sender(story) as webhooks:
        await webhooks.add(BUYER_KEY.public, receiver.url)
        await story.play_all(*WHOLE_JOB)
        await _send(webhooks)
        story.world.clock.time += GIVE_UP_SECONDS + 1
        await _send(webhooks)
        (known,) = await webhooks.mine(BUYER_KEY.public)
        assert known.disabled
        story.world.clock.time += GIVE_UP_SECONDS
        await _send(webhooks)
    assert len(receiver.seen) == 2


async def test_only_its_owner_can_remove_a_webhook_and_then_nothing_is_sent(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        added = await webhooks.add(BUYER_KEY.public, receiver.url)
        with pytest.raises(NotFound):
            await webhooks.remove(STRANGER, added.id)
        await webhooks.remove(BUYER_KEY.public, added.id)
        await story.play_all(*WHOLE_JOB)
        await _send(webhooks)
    assert receiver.seen == []


async def test_a_key_has_only_so_many_webhooks_and_none_at_a_hostile_url(
    story: Story, receiver: Receiver
) -> None:
    async with _sender(story) as webhooks:
        with pytest.raises(WebhookRefused, match="https"):
            await webhooks.add(STRANGER, "ftp://example.com/")
        for _ in range(MOST_OF_OWNER):
            await webhooks.add(STRANGER, receiver.url)
        with pytest.raises(WebhookRefused, match="at most"):
            await webhooks.add(STRANGER, receiver.url)
        assert await webhooks.mine(BUYER_KEY.public) == []
