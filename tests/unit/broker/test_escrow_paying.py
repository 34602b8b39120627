"""The payout of an escrow: when it may begin, how long it may be out, and what ends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from databases import WrappedDatabase
from escrow_story import Op, Story
from escrow_world import LIMITS, PREIMAGES
from faulty_node import Fault, Outcome
from faulty_port import Port
from late_database import SlowDatabase

from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow.payout import SPARE_ROUTE_BLOCKS
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.lightning.conclusion import STALE_SECONDS
from lightwork_broker.lightning.ports import NodeSummary, Payout, PayoutFailure
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.money import Msat


def _escrow(story: Story) -> dict[str, Any]:
    return story.books.rows("SELECT * FROM escrow")[0]


async def _until_working(story: Story) -> PaymentHash:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    return PaymentHash(story.hired()["payment_hash"])


async def _until_releasing(story: Story) -> PaymentHash:
    """Have the payout ordered while the node is away, and bring the node back."""
    payment_hash = await _until_working(story)
    await story.play_all(Op("node_down"), Op("deliver"), Op("node_up"))
    assert _escrow(story)["state"] == "releasing"
    return payment_hash


class Unsynced(Port):
    async def summary(self) -> NodeSummary:
        return replace(await super().summary(), synced_to_chain=False)


@asynccontextmanager
async def _escrows(story: Story, node: Port, *, stands_still: float = 0) -> AsyncGenerator[EscrowService]:
    """One more broker's escrows; after each of its commits so many seconds pass."""
    clock = story.world.clock

    def meanwhile() -> None:
        clock.time += stands_still

    database = SlowDatabase(story.world.place, meanwhile=meanwhile)
    service = EscrowService(database=database, node=node, clock=clock, limits=LIMITS, preimages=PREIMAGES)
    broker = story.world.working(0)
    assert broker is not None
    service.attach(broker.jobs)
    try:
        yield service
    finally:
        await service.close()
        await database.close()


async def test_the_node_must_say_again_after_a_while_that_nothing_was_paid(story: Story) -> None:
    await _until_working(story)
    lost = ("pay", Fault.LOST_BEFORE)
    story.world.node.faults = [lost, lost]
    await story.play_all(Op("deliver"), Op("sweep"))
    story.world.clock.time += 31
    # A node that was stopped may answer a look-up before it reads the payment that waits in its socket.
    await story.play_all(Op("sweep"), Op("sweep"), Op("sweep"))
    assert (_escrow(story)["state"], _escrow(story)["attempts"]) == ("forwarding", 2)
    story.world.clock.time += 11
    await story.play_all(Op("sweep"))
    assert _escrow(story)["state"] == "releasing"
    assert await story.heal(diligent=True) == []
    assert _escrow(story)["state"] == "settled"


async def test_a_node_that_stood_still_meanwhile_must_say_twice_anew_that_nothing_was_paid(
    story: Story,
) -> None:
    await _until_working(story)
    lost = ("pay", Fault.LOST_BEFORE)
    story.world.node.faults = [lost, lost]
    await story.play_all(Op("deliver"), Op("sweep"))
    story.world.clock.time += 31
    await story.play_all(Op("sweep"), Op("node_down"), Op("sweep"))
    story.world.clock.time += 11
    # The first thing that it says may be said before it reads what waits in its socket.
    await story.play_all(Op("node_up"), Op("sweep"))
    assert _escrow(story)["state"] == "forwarding"
    story.world.clock.time += 11
    await story.play_all(Op("sweep"))
    assert _escrow(story)["state"] == "releasing"
    assert await story.heal(diligent=True) == []
    assert _escrow(story)["state"] == "settled"


async def test_a_broker_that_stood_still_after_its_intent_does_not_pay_any_more(story: Story) -> None:
    payment_hash = await _until_releasing(story)
    node = Port(story.world.node)
    async with _escrows(story, node, stands_still=STALE_SECONDS + 1) as service:
        await service.drive(JobId(story.hired()["id"]))
    # Somebody may have found meanwhile that nobody called, so it is not for this one to call.
    assert payment_hash not in story.world.node.payments
    assert await story.heal(diligent=True) == []
    assert _escrow(story)["state"] == "settled"


class SlowToRead(WrappedDatabase):
    """A broker's database whose every read takes so many seconds, and from which others hear of each commit."""

    def __init__(self, story: Story, *, seconds: float, heard: Callable[[], None]) -> None:
        super().__init__(open_database(story.world.place))
        self._clock, self._seconds, self._heard = story.world.clock, seconds, heard

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        self._clock.time += self._seconds
        async with self._inner.read() as tx:
            yield tx

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        async with self._inner.write() as tx:
            yield tx
        self._heard()


class Punctual(Port):
    """Remembers how old the intent was at each call to pay."""

    def __init__(self, story: Story) -> None:
        super().__init__(story.world.node)
        self._story = story
        self.ages: list[float] = []

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        self.ages.append(self._story.world.clock.now() - _escrow(self._story)["intended_at"])
        return await super().pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )


@asynccontextmanager
async def _slow_to_read(
    story: Story, node: Port, *, seconds: float, heard: Callable[[], None] = lambda: None
) -> AsyncGenerator[EscrowService]:
    database = SlowToRead(story, seconds=seconds, heard=heard)
    service = EscrowService(
        database=database, node=node, clock=story.world.clock, limits=LIMITS, preimages=PREIMAGES
    )
    service.attach(story.world.serving().jobs)
    try:
        yield service
    finally:
        await service.close()
        await database.close()


async def test_nobody_is_paid_long_after_the_intent_though_the_database_is_slow_to_read(story: Story) -> None:
    await _until_releasing(story)
    node = Punctual(story)
    async with _slow_to_read(story, node, seconds=STALE_SECONDS + 25) as service:
        await service.drive(JobId(story.hired()["id"]))
    # Half a minute after it, another broker may have found that nobody called, and have given the payment back.
    assert [age for age in node.ages if age > STALE_SECONDS] == []
    assert await story.heal(diligent=True) == []
    assert _escrow(story)["state"] == "settled"


async def test_a_broker_whose_attempt_was_taken_over_at_once_does_not_end_it(story: Story) -> None:
    payment_hash = await _until_releasing(story)
    refusal = Outcome(failure=PayoutFailure.INCORRECT_PAYMENT_DETAILS)
    story.world.node.outcomes[payment_hash] = [refusal, Outcome(fee_msat=1)]

    def take_over() -> None:
        # Another broker has seen the intent, and makes its own call from here on.
        now = str(story.world.clock.now())
        story.books.change(
            "UPDATE escrow SET attempts = 2, intended_at = CAST(? AS DOUBLE PRECISION), "
            "retry_at = CAST(? AS DOUBLE PRECISION) WHERE state = 'forwarding' AND attempts = 1",
            now,
            now,
        )

    async with _slow_to_read(story, Port(story.world.node), seconds=0, heard=take_over) as service:
        await service.drive(JobId(story.hired()["id"]))
    assert (_escrow(story)["state"], _escrow(story)["attempts"]) == ("forwarding", 2)


async def test_a_payout_is_locked_for_no_more_blocks_than_its_route_needs(story: Story) -> None:
    await story.play_all(Op("hire"))
    payment_hash = PaymentHash(story.hired()["payment_hash"])
    node = story.world.node
    node.holds[payment_hash].cltv_blocks += 500  # the buyer may lock it for longer than it was asked to
    node.outcomes[payment_hash] = [Outcome()]
    await story.play_all(Op("pay"), Op("lease"), Op("deliver"))
    locked = node.payments[payment_hash].expiry_height - node.height
    assert locked == _escrow(story)["outgoing_cltv_blocks"] + SPARE_ROUTE_BLOCKS


async def test_nobody_is_paid_by_a_node_that_does_not_know_the_present_height(story: Story) -> None:
    payment_hash = await _until_releasing(story)
    async with _escrows(story, Unsynced(story.world.node)) as service:
        await service.drive(JobId(story.hired()["id"]))
    assert payment_hash not in story.world.node.payments
    assert _escrow(story)["state"] == "releasing"
    story.world.clock.time += 2
    await story.play_all(Op("sweep"))
    assert _escrow(story)["state"] == "settled"


async def test_a_payout_that_failed_is_tried_again_when_its_time_has_come(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.node.outcomes[payment_hash] = [Outcome(failure=PayoutFailure.NO_ROUTE)]
    await story.play_all(Op("deliver"))
    assert _escrow(story)["state"] == "releasing"
    broker = story.world.working(0)
    assert broker is not None
    story.world.clock.time += 2
    await broker.reconciler.retry_due()
    await story.world.calm()
    assert _escrow(story)["state"] == "settled"
