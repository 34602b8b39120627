"""The buyer's side of an escrow: what counts as held, what is watched, and what goes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from databases import Template
from escrow_story import BUYER, Op, Story, open_story
from escrow_world import LIMITS
from faulty_node import Fault

from lightwork_broker.errors import InvoiceRefused
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.conclusion import GRACE_SECONDS
from lightwork_broker.lightning.ports import InvoiceState
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance

THIRTY_BLOCKS, A_HUNDRED_AND_TWENTY_BLOCKS = 6, 7


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    async with open_story(template, brokers=2) as opened:
        yield opened


def _state(story: Story) -> tuple[str, str]:
    return story.hired()["status"], story.books.rows("SELECT state FROM escrow")[0]["state"]


async def _until_working(story: Story) -> PaymentHash:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    assert _state(story) == ("working", "accepted")
    return PaymentHash(story.hired()["payment_hash"])


async def test_a_hold_that_is_accepted_short_funds_nothing(story: Story) -> None:
    await story.play_all(Op("hire"))
    job, node = story.hired(), story.world.node
    total = node.holds[job["payment_hash"]].value_msat
    (offered,) = node.seen[job["payment_hash"]]
    short = replace(
        offered, state=InvoiceState.ACCEPTED, accepted_msat=Msat(total - 1), min_expiry_height=1_115
    )
    await story.world.serving().escrows.observe(short, escrow_id=job["id"])
    await story.world.calm()
    assert _state(story) == ("open", "open")
    await story.play_all(Op("pay"))
    assert _state(story) == ("funded", "accepted")


@pytest.mark.parametrize("ending", ["deliver", "fail"])
async def test_late_and_repeated_news_of_the_node_changes_nothing(story: Story, ending: str) -> None:
    payment_hash = await _until_working(story)
    await story.play_all(Op(ending))
    ended = ("settled", "settled") if ending == "deliver" else ("refunded", "canceled")
    assert _state(story) == ended
    heard = story.world.node.seen[payment_hash]
    assert len({hold.state for hold in heard}) == 3
    before = _everything(story)
    for hold in (*heard, *reversed(heard)):
        await story.world.serving(1).escrows.observe(hold, escrow_id=story.hired()["id"])
    await story.world.calm()
    assert _everything(story) == before


def _everything(story: Story) -> dict[str, list[dict[str, Any]]]:
    return {table: story.books.rows(f"SELECT * FROM {table}") for table in story.books.tables()}


async def test_blocks_that_came_in_a_burst_while_no_broker_ran_lead_to_a_refund_at_its_start(
    story: Story,
) -> None:
    payment_hash = await _until_working(story)
    await story.play_all(Op("kill", broker=0), Op("kill", broker=1), Op("mine", number=THIRTY_BLOCKS))
    await story.play_all(Op("start"))
    assert _state(story) == ("refunded", "canceled")
    assert payment_hash not in story.world.node.given_back


async def test_a_hash_that_was_withdrawn_to_guards_no_job(story: Story) -> None:
    broker = story.world.serving()
    quote = await story.world.add_quote(broker, acceptance=Acceptance.AUTO)
    assert quote.payment_hash is not None
    async with broker.database.write() as tx:
        assert await ledger.claim(tx, quote.payment_hash, purpose="withdrawal:wdr_1")
    with pytest.raises(InvoiceRefused):
        await broker.jobs.hire(BUYER, quote)
    assert story.job(0) is None
    assert story.world.node.holds == {}


async def test_a_hold_invoice_that_comes_after_its_job_was_given_up_is_cancelled(story: Story) -> None:
    node, clock = story.world.node, story.world.clock
    await story.play_all(Op("node_down"), Op("hire"))
    clock.time += LIMITS.pay_seconds - 10
    await story.play_all(Op("node_up"))
    node.faults = [("add_hold", Fault.SLOW_BEFORE)]
    await story.play_all(Op("sweep", broker=0))
    clock.time += 15
    await story.play_all(Op("sweep", broker=1))
    # This broker has not seen the call begin, so it waits by its own time until none can be on its way.
    clock.time += GRACE_SECONDS + 1
    await story.play_all(Op("sweep", broker=1))
    assert _state(story) == ("expired", "canceled")
    await story.play_all(Op("deliver_letter"))
    assert [hold.state for hold in node.holds.values()] == [InvoiceState.CANCELED]


async def test_a_job_that_is_given_up_waits_for_the_invoice_that_may_still_come(story: Story) -> None:
    node = story.world.node
    node.faults = [("add_hold", Fault.SLOW_BEFORE)]
    await story.play_all(Op("hire", broker=0))
    other = story.world.serving(1)
    async with other.database.write() as tx:
        await other.escrows.ask_cancel(tx, JobId(story.hired()["id"]), reason="given up")
    await story.play_all(Op("kill", broker=0), Op("sweep", broker=1))
    # Nobody is left who would cancel it, so the broker that is there must not forget it.
    await story.play_all(Op("deliver_letter"), Op("sweep", broker=1))
    assert [hold.state for hold in node.holds.values()] == [InvoiceState.CANCELED]
    assert _state(story) == ("expired", "canceled")


@pytest.mark.parametrize("before", ["nothing", "a restart", "a cut stream"])
async def test_a_broker_hears_of_a_payment_at_once_also_after_a_restart_and_a_cut_stream(
    story: Story, before: str
) -> None:
    await story.play_all(Op("hire"), Op("kill", broker=1))
    match before:
        case "a restart":
            await story.play_all(Op("kill"), Op("start"))
        case "a cut stream":
            await story.play_all(Op("cut_streams"))
            story.world.node.streaming = True
            await story.play_all(Op("sweep"))
        case _:
            pass
    await story.play_all(Op("pay"))
    assert _state(story) == ("funded", "accepted")


async def test_one_escrow_that_cannot_be_looked_at_does_not_keep_the_sweep_from_the_next_one(
    story: Story,
) -> None:
    node, broker = story.world.node, story.world.serving()
    await story.play_all(
        Op("kill", broker=1), Op("hire"), Op("hire"), Op("cut_streams"), Op("pay", 0), Op("pay", 1)
    )
    assert [row["status"] for row in story.books.rows("SELECT status FROM job")] == ["open", "open"]
    node.faults = [("lookup", Fault.NO_PERMISSION)]
    await broker.reconciler.sweep()
    await story.world.calm()
    assert sorted(row["status"] for row in story.books.rows("SELECT status FROM job")) == ["funded", "open"]
    await story.play_all(Op("sweep"))
    assert [row["status"] for row in story.books.rows("SELECT status FROM job")] == ["funded", "funded"]
