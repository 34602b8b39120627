"""Corners of an escrow's life that chance seldom reaches, each told as a story on a faulty node."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from databases import Template
from escrow_story import Op, Story, open_story
from faulty_node import Fault, Outcome

from lightwork_broker.lightning.ports import PayoutFailure
from lightwork_contracts.ids import PaymentHash


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    async with open_story(template, brokers=2) as opened:
        yield opened


async def _until_working(story: Story) -> PaymentHash:
    """Hire with automatic acceptance, pay, and lease."""
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    job = story.hired()
    assert job["status"] == "working"
    return PaymentHash(job["payment_hash"])


def _state(story: Story) -> str:
    return story.books.rows("SELECT state FROM escrow")[0]["state"]


async def test_a_payout_of_a_broker_that_stalls_is_not_given_up_by_another_one(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.faults = [("pay", Fault.SLOW_BEFORE)]
    await story.play_all(Op("deliver", broker=0))
    assert node.pays_on_the_wire(payment_hash)
    # The other broker sees an intent without a payment, asks the node itself, and is told for good: no.
    node.outcomes[payment_hash] = [Outcome(failure=PayoutFailure.INCORRECT_PAYMENT_DETAILS)]
    await story.play_all(Op("sweep", broker=1), Op("sweep", broker=1), Op("sweep", broker=1))
    # Then the first broker's call arrives after all, and the provider takes it.
    await story.play_all(Op("deliver_letter"))
    assert await story.heal(diligent=True) == []
    assert _state(story) == "settled"


async def test_a_second_call_that_was_made_for_safety_is_not_forgotten(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.outcomes[payment_hash] = [Outcome(failure=PayoutFailure.INCORRECT_PAYMENT_DETAILS)]
    node.faults = [("pay", Fault.SLOW_AFTER)]
    await story.play_all(Op("deliver", broker=0))
    # The first broker's answer, a final no, is on its way; the second broker pays again for safety.
    node.faults = [("pay", Fault.SLOW_BEFORE)]
    await story.play_all(Op("sweep", broker=1))
    first = next((index for index, letter in enumerate(node.wire) if not letter.before), None)
    assert first is not None
    await story.play_all(Op("deliver_letter", number=first), Op("sweep", broker=0), Op("sweep", broker=0))
    assert await story.heal(diligent=True) == []


async def test_the_late_answer_to_an_earlier_attempt_does_not_end_the_present_one(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    no = Outcome(failure=PayoutFailure.NO_ROUTE)
    node.outcomes[payment_hash] = [no, no]
    node.faults = [("pay", Fault.SLOW_AFTER)]
    await story.play_all(Op("deliver", broker=0))
    answer = node.wire[0]
    answer.sent_at += 100  # it comes when the second broker has long learnt the same, and pays anew
    for _ in range(8):
        if _state(story) != "forwarding":
            break
        story.world.clock.time += 11
        await story.play_all(Op("sweep", broker=1))
    assert _state(story) == "releasing"
    node.faults = [("pay", Fault.SLOW_BEFORE)]
    story.world.clock.time += 11
    await story.play_all(Op("sweep", broker=1))
    assert node.pays_on_the_wire(payment_hash)
    await story.play_all(Op("deliver_letter", number=node.wire.index(answer)))
    assert _state(story) == "forwarding"
    assert await story.heal(diligent=True) == []
    assert _state(story) == "settled"


async def test_a_payout_that_was_never_sent_is_sent_at_once_after_a_crash(story: Story) -> None:
    await _until_working(story)
    story.world.node.faults = [("pay", Fault.CRASH_BEFORE)]
    await story.play_all(Op("deliver", broker=0))
    assert story.world.brokers[0] is None
    assert _state(story) == "forwarding"
    await story.play_all(Op("start", broker=0))
    assert _state(story) == "settled"


async def test_the_clock_refunds_a_job_that_nobody_does(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"))
    story.world.clock.time += 601
    await story.play_all(Op("tick"))
    assert (story.hired()["status"], story.hired()["error_code"]) == ("refunded", "timed_out")


async def test_a_lease_that_is_lost_three_times_ends_in_a_refund(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"))
    for _ in range(3):
        await story.play_all(Op("lease"))
        assert story.hired()["status"] == "working"
        story.world.clock.time += 16
        await story.play_all(Op("tick"))
    assert (story.hired()["status"], story.hired()["error_code"]) == ("refunded", "provider_lost")


async def test_a_loss_is_booked_where_everybody_sees_it(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    # Both brokers die after the provider was paid, and come back when LND has given the HTLC back.
    node.faults = [("pay", Fault.CRASH_AFTER)]
    await story.play_all(Op("kill", broker=1), Op("deliver", broker=0))
    await story.play_all(Op("mine", number=7), Op("start", broker=0))
    assert payment_hash in node.given_back
    assert (_state(story), story.hired()["status"]) == ("lost", "settled")
    losses = story.books.rows(
        "SELECT SUM(amount_msat) AS lost FROM ledger_entry WHERE account = ?", "expenses:losses"
    )
    assert losses == [{"lost": 10_000 + node.payments[payment_hash].fee_msat}]
    assert await story.heal(diligent=True) == []


async def test_a_part_of_the_price_funds_nothing(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay_short"), Op("sweep"), Op("lease"))
    assert (_state(story), story.hired()["status"]) == ("open", "open")
    await story.play_all(Op("pay_short"), Op("sweep"))
    assert (_state(story), story.hired()["status"]) == ("accepted", "funded")


async def test_a_stale_epoch_delivers_nothing(story: Story) -> None:
    await _until_working(story)
    await story.play_all(Op("stale_deliver"))
    assert (story.hired()["status"], story.hired()["result"]) == ("working", None)


async def test_the_guardian_gives_the_htlc_back_before_the_node_does(story: Story) -> None:
    payment_hash = await _until_working(story)
    await story.play_all(Op("mine", number=7))
    assert (_state(story), story.hired()["status"]) == ("canceled", "refunded")
    assert payment_hash not in story.world.node.given_back


async def test_with_too_few_blocks_left_the_provider_is_not_paid_any_more(story: Story) -> None:
    payment_hash = await _until_working(story)
    node = story.world.node
    node.outcomes[payment_hash] = [Outcome(failure=PayoutFailure.NO_ROUTE)]
    await story.play_all(Op("deliver"), Op("mine", number=6))
    assert _state(story) == "releasing"
    story.world.clock.time += 2
    await story.play_all(Op("sweep"))
    assert (_state(story), story.hired()["status"]) == ("canceled", "refunded")
    assert payment_hash not in node.successes
