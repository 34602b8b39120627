"""Jobs in credit mode, where chance seldom comes: crashes around the settlement, and an older database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
from databases import Backup, Template
from escrow_checks import Books
from escrow_story import BUYER, PROVIDER, Op, Story, open_story
from escrow_world import BROKER_KEY, LIMITS, PREIMAGES, PRICE
from faulty_node import Fault

from lightwork_broker.errors import CreditCeiling
from lightwork_broker.escrow.ceiling import require_below_ceiling
from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, Entry, Posting, balance_account
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import Acceptance

TOTAL = PRICE + 1_000 + 100
"""Price, base fee and 1 %: nothing is routed."""


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    async with open_story(template, brokers=2) as opened:
        yield opened


async def _hire(story: Story, acceptance: Acceptance = Acceptance.AUTO) -> None:
    broker = story.world.serving()
    quote = await story.world.add_quote(broker, acceptance=acceptance, mode=PaymentMode.CREDIT)
    await broker.jobs.hire(BUYER, quote)
    await story.world.calm()


async def _until_working(story: Story) -> None:
    await _hire(story)
    await story.play_all(Op("pay"), Op("lease"))
    assert story.hired()["status"] == "working"


def _escrow(story: Story) -> dict[str, Any]:
    return story.books.rows("SELECT * FROM escrow")[0]


def _owed(story: Story) -> int:
    rows = story.books.rows(
        "SELECT COALESCE(SUM(amount_msat), 0) AS total FROM ledger_entry WHERE account = ?",
        balance_account(PROVIDER),
    )
    return -rows[0]["total"]


async def test_a_delivered_job_is_settled_and_owed_to_its_provider_to_the_msat(story: Story) -> None:
    await _until_working(story)
    assert _owed(story) == 0
    await story.play_all(Op("deliver"))
    assert (story.hired()["status"], _escrow(story)["state"]) == ("settled", "settled")
    assert _owed(story) == PRICE
    assert story.world.node.balances["buyer"] == -TOTAL
    assert story.world.node.balances["provider"] == 0
    async with story.world.serving().database.read() as tx:
        balances = await ledger.balances(tx)
    assert balances == {
        "assets:node": TOTAL,
        balance_account(PROVIDER): -PRICE,
        "income:fees": -(TOTAL - PRICE),
    }
    assert await story.heal(diligent=True) == []


@pytest.mark.parametrize("op", ["fail", "cancel"])
async def test_a_job_that_is_not_delivered_is_given_back_and_nobody_is_owed(story: Story, op: str) -> None:
    await _hire(story)
    await story.play_all(Op("pay"), *([Op("lease")] if op == "fail" else []), Op(op))
    assert story.hired()["status"] == "refunded"
    assert _owed(story) == 0
    assert not any(story.world.node.balances.values())


@pytest.mark.parametrize(
    "fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.LOST_BEFORE, Fault.LOST_AFTER]
)
async def test_a_settlement_whose_answer_never_came_credits_the_provider_once(
    story: Story, fault: Fault
) -> None:
    await _until_working(story)
    story.world.node.faults = [("settle", fault)]
    await story.play_all(Op("deliver"))
    assert _owed(story) == 0
    assert await story.heal(diligent=True) == []
    assert _escrow(story)["state"] == "settled"
    assert _owed(story) == PRICE


async def test_two_brokers_that_settle_at_once_credit_once(story: Story) -> None:
    await _until_working(story)
    story.world.node.faults = [("settle", Fault.SLOW_BEFORE), ("settle", Fault.SLOW_AFTER)]
    await story.play_all(Op("deliver", broker=0), Op("sweep", broker=1), Op("sweep", broker=0))
    assert await story.heal(diligent=True) == []
    assert _owed(story) == PRICE


async def test_an_htlc_that_went_back_before_the_settlement_leaves_nobody_owed_and_nobody_charged(
    story: Story,
) -> None:
    await _until_working(story)
    node = story.world.node
    node.faults = [("settle", Fault.LOST_BEFORE)]
    await story.play_all(Op("deliver"))
    assert _escrow(story)["state"] == "settling"
    hold = next(iter(node.holds.values()))
    node.down = True
    story.auditor.excused.add(hold.payment_hash)
    while not hold.state.is_final:
        node.mine()
    node.down = False
    await story.play_all(Op("sweep"), Op("sweep"))
    assert (story.hired()["status"], _escrow(story)["state"]) == ("refunded", "returned")
    assert _owed(story) == 0
    assert node.balances["buyer"] == 0


async def test_what_the_node_has_settled_is_owed_although_an_older_database_would_give_it_back(
    story: Story,
) -> None:
    world = story.world
    await _until_working(story)
    for index in range(2):
        await world.stop(index)
    older = Backup(world.place)
    await world.start(0)
    await story.play_all(Op("deliver"))
    assert _owed(story) == PRICE
    await world.stop(0)
    story.books.close()
    older.restore()
    story.books = story.auditor.books = Books(world.place)
    assert _owed(story) == 0
    await world.start(0)
    # For this copy the work was never delivered, so it gives the money back: the node knows better.
    world.clock.time += 3_600
    broker = story.world.serving()
    await broker.jobs.tick()
    await world.calm()
    await broker.reconciler.sweep()
    await world.calm()
    assert (story.hired()["status"], _escrow(story)["state"]) == ("settled", "settled")
    assert _owed(story) == PRICE
    assert world.node.balances["buyer"] == -TOTAL


async def test_what_is_owed_to_all_agents_together_has_a_ceiling_whoever_they_are(story: Story) -> None:
    broker, others = story.world.serving(), [Pubkey(f"{number:064x}") for number in range(3)]
    limits = replace(LIMITS, credit_ceiling_msat_of_all=Msat(3 * PRICE))
    await _hire(story)  # under way
    async with broker.database.write() as tx:
        for number, other in enumerate(others[:2]):
            owed = Posting(
                key=f"settle:{number}",
                cause="work",
                entries=(Entry(NODE, PRICE), Entry(balance_account(other), -PRICE)),
            )
            await ledger.post(tx, owed, now=0)
    async with broker.database.read() as tx:
        # Nobody is near its own ceiling, and there is room for nobody.
        for other in others:
            await require_below_ceiling(tx, other, price_msat=PRICE, limits=LIMITS)
            with pytest.raises(CreditCeiling, match="all agents together 30000 msat; 20000 msat are owed"):
                await require_below_ceiling(tx, other, price_msat=Msat(1), limits=limits)
        roomier = replace(limits, credit_ceiling_msat_of_all=Msat(4 * PRICE))
        await require_below_ceiling(tx, others[2], price_msat=PRICE, limits=roomier)
        with pytest.raises(CreditCeiling):
            await require_below_ceiling(tx, others[2], price_msat=Msat(PRICE + 1), limits=roomier)


async def test_the_ceiling_counts_what_is_owed_and_what_is_under_way(story: Story) -> None:
    broker = story.world.serving()
    assert LIMITS.credit_ceiling_msat == 2 * PRICE
    await _hire(story)
    await _hire(story)
    third = await story.world.add_quote(broker, acceptance=Acceptance.AUTO, mode=PaymentMode.CREDIT)
    with pytest.raises(CreditCeiling):
        await broker.jobs.hire(BUYER, third)
    # In escrow mode nothing is owed, so the ceiling does not count.
    await broker.jobs.hire(
        BUYER, await story.world.add_quote(broker, acceptance=Acceptance.AUTO, mode=PaymentMode.ESCROW)
    )
    await story.play_all(Op("pay", 0), Op("lease", 0), Op("deliver", 0))
    assert _owed(story) == PRICE
    with pytest.raises(CreditCeiling):
        await broker.jobs.hire(BUYER, third)
    await story.play_all(Op("cancel", 1))
    assert (await broker.jobs.hire(BUYER, third)).status.value == "open"


async def test_no_row_holds_a_preimage_of_ours_before_the_settlement(story: Story) -> None:
    await _until_working(story)
    secret = PREIMAGES.preimage_for(_escrow(story)["credit_seed"]).hex()
    assert secret not in _everything(story)
    await story.play_all(Op("deliver"))
    assert secret in _everything(story)


def _everything(story: Story) -> str:
    return "\n".join(
        str(row) for table in story.books.tables() for row in story.books.rows(f"SELECT * FROM {table}")
    )


def test_the_same_key_makes_the_same_preimages_and_another_key_others() -> None:
    again = CreditPreimages(BROKER_KEY)
    other = CreditPreimages(SecretKey.from_hex("55" * 32))
    assert again.hash_for("qte_1") == PREIMAGES.hash_for("qte_1")
    assert len({PREIMAGES.hash_for("qte_1"), PREIMAGES.hash_for("qte_2"), other.hash_for("qte_1")}) == 3
    assert PREIMAGES.preimage_for("qte_1").matches(PREIMAGES.hash_for("qte_1"))
