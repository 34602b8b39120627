"""What the second hostile review found about the gate, the ceiling, and what strangers may fill."""

from __future__ import annotations

import gc

import pytest
from databases import Template
from escrow_story import BUYER, PROVIDER, Op, Story, open_story
from escrow_world import PRICE
from faulty_node import Fault

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.errors import CreditCeiling
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import reserve_posting
from lightwork_broker.rate_limit import RateLimit, address_name
from lightwork_contracts.ids import PaymentHash, WithdrawalId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.accounts import WithdrawalStatus


async def test_a_closed_gate_lets_no_lost_payout_be_begun_a_second_time(template: Template) -> None:
    async with open_story(template, brokers=2) as story:
        for op in (Op("hire"), Op("pay"), Op("lease")):
            assert await story.play(op) == []
        other = story.world.working(1)
        assert other is not None
        other.gate.close("the books do not hold")
        # The intent is committed, and the broker dies before the node hears of it.
        story.world.node.faults = [("pay", Fault.CRASH_BEFORE)]
        await story.play(Op("deliver"))
        assert story.books.rows("SELECT state FROM escrow") == [{"state": "forwarding"}]
        for _ in range(6):
            story.world.clock.time += 31
            assert await story.play(Op("sweep", broker=1)) == []
        assert story.world.node.payments == {}
        other.gate.open()
        for _ in range(2):
            story.world.clock.time += 31
            assert await story.play(Op("sweep", broker=1)) == []
        assert story.books.rows("SELECT state FROM escrow") == [{"state": "settled"}]


async def test_what_is_being_withdrawn_counts_against_the_ceiling(story: Story) -> None:
    broker = story.world.serving()
    for job in range(2):
        quote = await story.world.add_quote(broker, acceptance=Acceptance.AUTO, mode=PaymentMode.CREDIT)
        await broker.jobs.hire(BUYER, quote)
        await story.world.calm()
        for op in ("pay", "lease", "deliver"):
            assert await story.play(Op(op, job=job)) == []
    # Whoever lets his own invoice hang could otherwise be owed any amount: it comes back when it fails.
    hanging = Withdrawal(
        id=WithdrawalId("wdr_1"),
        agent=PROVIDER,
        status=WithdrawalStatus.PAYING,
        payment_hash=PaymentHash("cd" * 32),
        invoice="lnbcrt1",
        amount_msat=Msat(2 * PRICE),
        max_fee_msat=Msat(0),
        created_at=1,
        updated_at=1,
    )
    async with broker.database.write() as tx:
        await withdrawals.insert(tx, hanging)
        await ledger.post(tx, reserve_posting(hanging.id, agent=PROVIDER, reserved_msat=2 * PRICE), now=1)
    quote = await story.world.add_quote(broker, acceptance=Acceptance.AUTO, mode=PaymentMode.CREDIT)
    with pytest.raises(CreditCeiling):
        await broker.jobs.hire(BUYER, quote)


async def test_a_job_that_nobody_pays_leaves_nothing_in_memory(story: Story) -> None:
    broker = story.world.serving()
    for job in range(3):
        assert await story.play(Op("hire")) == []
        assert len(story.books.rows("SELECT id FROM job")) == job + 1
    story.world.clock.time += 200
    story.world.node.time_passes()
    await story.world.calm()  # the node says so by its stream, before any sweep
    for _ in range(2):
        await story.play(Op("sweep"))
    assert {row["status"] for row in story.books.rows("SELECT status FROM job")} == {"expired"}
    gc.collect()
    assert dict(broker.escrows._locks) == {}


def test_addresses_of_one_network_share_what_one_address_may_ask(story: Story) -> None:
    assert address_name("2001:db8:1:2::1") == address_name("2001:db8:1:2:ffff::9")
    assert address_name("2001:db8:1:2::1") != address_name("2001:db8:1:3::1")
    assert address_name("::ffff:192.0.2.7") == address_name("192.0.2.7") == "192.0.2.7"
    assert address_name("testclient") == "testclient"
    limit = RateLimit(clock=story.world.clock, per_second=1)
    allowed = sum(limit.take(address_name(f"2001:db8::{number:x}")) for number in range(1, 100))
    assert allowed == 4
