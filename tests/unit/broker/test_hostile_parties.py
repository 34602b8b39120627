"""What a hostile provider, a hostile buyer and a hostile way to the node can do: make others wait, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog.testing
from escrow_story import BUYER, PROVIDER, Op, Story
from faulty_node import Fault, Outcome

from lightwork_broker.errors import BrokerError, LeaseLost, WrongStatus
from lightwork_broker.lightning.ports import PayoutFailure
from lightwork_contracts.ids import PaymentHash

STUCK = Outcome()
REVIEW = 1
UNTIL_THE_EDGE = 6  # 30 blocks


def _states(story: Story, index: int = 0) -> tuple[str, str]:
    row = story.books.rows(
        "SELECT status, state FROM job JOIN escrow USING (id) WHERE id = ?", story.hired(index)["id"]
    )[0]
    return row["status"], row["state"]


async def _refused(work: Coroutine[Any, Any, object], kind: type[BrokerError]) -> None:
    with pytest.raises(kind):
        await asyncio.wait_for(work, 10)


async def _until_working(story: Story, acceptance: int = 0) -> PaymentHash:
    await story.play_all(Op("hire", number=acceptance), Op("pay"), Op("lease"))
    return PaymentHash(story.hired()["payment_hash"])


# --- the provider -------------------------------------------------------------------------------------------------


async def test_a_result_that_comes_after_the_refund_is_taken_by_nobody(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.clock.time += 601
    await story.play_all(Op("tick"))
    assert _states(story) == ("refunded", "canceled")
    broker = story.world.working(0)
    assert broker is not None
    for epoch in (1, 2):
        await _refused(
            broker.queue.deliver(PROVIDER, story.hired()["id"], epoch=epoch, result="late"), LeaseLost
        )
    await _refused(
        broker.queue.fail(PROVIDER, story.hired()["id"], epoch=1, code="x", message="no"), LeaseLost
    )
    assert (story.hired()["result"], payment_hash in story.world.node.paid_out) == (None, False)
    assert await story.heal(diligent=True) == []


@pytest.mark.parametrize(
    ("ending", "ends"),
    [
        (Outcome(fee_msat=3), ("settled", "settled")),
        (Outcome(failure=PayoutFailure.INCORRECT_PAYMENT_DETAILS), ("refunded", "canceled")),
    ],
    ids=["taken-late", "sent-back-late"],
)
async def test_a_provider_that_holds_the_payout_makes_everybody_wait_and_then_gets_it_or_not(
    story: Story, ending: Outcome, ends: tuple[str, str]
) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.outcomes[payment_hash] = [STUCK]
    await story.play_all(Op("deliver"))
    for _ in range(6):
        story.world.clock.time += 3_600
        await story.play_all(Op("mine", number=5), Op("tick"), Op("sweep"))
        assert _states(story) == ("releasing", "forwarding")
    node.resolve(payment_hash, ending)
    for _ in range(3):
        story.world.clock.time += 61
        await story.play_all(Op("sweep"))
    assert _states(story) == ends
    assert await story.heal(diligent=True) == []


async def test_a_provider_that_never_lets_the_payout_go_is_not_paid_and_the_buyer_has_its_money_in_time(
    story: Story,
) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.outcomes[payment_hash] = [STUCK]
    await story.play_all(Op("deliver"))
    # The payout's own time lock runs out well before the buyer's does.
    for _ in range(30):
        if _states(story)[1] == "canceled":
            break
        story.world.clock.time += 3_600
        await story.play_all(Op("mine", number=4), Op("sweep"))
    assert _states(story) == ("refunded", "canceled")
    assert (node.given_back, node.paid_out, node.charged) == (set(), {}, {})


async def test_a_payout_that_is_stuck_keeps_no_other_job_waiting(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.node.outcomes[payment_hash] = [STUCK]
    await story.play_all(Op("deliver"))
    assert _states(story) == ("releasing", "forwarding")
    await story.play_all(Op("hire"), Op("pay", job=1), Op("lease"), Op("deliver", job=1))
    assert _states(story, 1) == ("settled", "settled")
    assert _states(story) == ("releasing", "forwarding")


# --- the buyer ----------------------------------------------------------------------------------------------------


async def test_nothing_can_be_accepted_rejected_or_cancelled_after_the_refund(story: Story) -> None:
    payment_hash = await _until_working(story, REVIEW)
    await story.play_all(Op("fail"))
    assert _states(story) == ("refunded", "canceled")
    broker, job_id = story.world.working(0), story.hired()["id"]
    assert broker is not None
    await _refused(broker.jobs.accept(BUYER, job_id), WrongStatus)
    await _refused(broker.jobs.reject(BUYER, job_id, reason="no"), WrongStatus)
    await _refused(broker.jobs.cancel(BUYER, job_id), WrongStatus)
    await _refused(broker.jobs.rule(job_id, release=True, reason="yes"), WrongStatus)
    await story.play_all(Op("pay"), Op("sweep"), Op("tick"))
    assert _states(story) == ("refunded", "canceled")
    assert (payment_hash in story.world.node.charged, payment_hash in story.world.node.paid_out) == (
        False,
        False,
    )


async def test_nothing_can_be_taken_back_after_the_settlement(story: Story) -> None:
    payment_hash = await _until_working(story, REVIEW)
    await story.play_all(Op("deliver"), Op("accept"))
    assert _states(story) == ("settled", "settled")
    broker, job_id = story.world.working(0), story.hired()["id"]
    assert broker is not None
    await _refused(broker.jobs.accept(BUYER, job_id), WrongStatus)
    await _refused(broker.jobs.reject(BUYER, job_id, reason="no"), WrongStatus)
    await _refused(broker.jobs.cancel(BUYER, job_id), WrongStatus)
    await _refused(broker.jobs.rule(job_id, release=False, reason="no"), WrongStatus)
    assert story.world.node.successes[payment_hash] == 1


async def test_a_buyer_that_locks_its_money_and_leaves_has_paid_for_what_was_delivered(story: Story) -> None:
    payment_hash = await _until_working(story, REVIEW)
    await story.play_all(Op("deliver"))
    story.world.clock.time += 301
    await story.play_all(Op("tick"))
    assert _states(story) == ("settled", "settled")
    assert story.world.node.paid_out[payment_hash] == 10_000


async def test_a_buyer_that_pays_an_invoice_twice_is_charged_once(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"))
    payment_hash = PaymentHash(story.hired()["payment_hash"])
    await story.play_all(Op("pay"), Op("replay"), Op("pay"), Op("lease"), Op("deliver"), Op("pay"))
    assert _states(story) == ("settled", "settled")
    assert story.world.node.charged == {payment_hash: _total(story)}


def _total(story: Story) -> int:
    return story.books.rows("SELECT total_msat FROM escrow")[0]["total_msat"]


# --- the way to the node ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["add_hold", "lookup", "pay", "track", "settle", "cancel", "summary"])
@pytest.mark.parametrize(
    "fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER, Fault.SLOW_BEFORE, Fault.SLOW_AFTER], ids=lambda f: f.name
)
async def test_a_call_that_is_cut_or_slow_costs_nobody_anything(
    story: Story, call: str, fault: Fault
) -> None:
    node = story.world.node
    node.faults = [(call, fault)]
    await story.play_all(Op("hire"), Op("pay"), Op("sweep"), Op("lease"), Op("deliver"), Op("sweep"))
    assert await story.heal(diligent=True) == []


async def test_answers_in_any_order_and_twice_change_nothing(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.faults = [("lookup", Fault.SLOW_AFTER), ("track", Fault.SLOW_AFTER), ("pay", Fault.SLOW_AFTER)]
    await story.play_all(Op("sweep"), Op("deliver"), Op("sweep"))
    while node.wire:  # the last one first
        await story.play_all(Op("deliver_letter", number=len(node.wire) - 1))
    for number in range(2 * len(node.seen[payment_hash])):
        await story.play_all(Op("replay", number=number))
    assert await story.heal(diligent=True) == []
    assert _states(story) == ("settled", "settled")
    with structlog.testing.capture_logs() as logs:
        for number in range(len(node.seen[payment_hash])):
            await story.play_all(Op("replay", number=number))
    assert [line for line in logs if line["event"] == "escrow.changed"] == []
