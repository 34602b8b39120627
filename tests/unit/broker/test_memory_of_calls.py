"""A broker remembers the calls of what is not over, and no others, whoever ended it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from databases import Template
from escrow_story import Op, Story
from escrow_world import LIMITS
from faulty_node import Fault
from withdrawal_world import AGENT, WithdrawalWorld, open_withdrawals

from lightwork_broker.lightning.conclusion import Watch
from lightwork_contracts.money import sats
from lightwork_contracts.wire.accounts import WithdrawalStatus as S


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        yield opened


async def test_a_withdrawal_that_another_broker_ended_is_forgotten(world: WithdrawalWorld) -> None:
    both = [world.start(), world.start()]
    world.network.stall("router")
    for _ in range(3):
        invoice = await world.invoice(sats(10))
        await both[0].withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key=None)
    await world.settle_down()
    await world.sweep()  # now both know of the calls, and wait for their ends
    assert [len(accounts._watch) for accounts in both] == [3, 3]
    world.network.flow("router")
    await world.settle_down()
    assert {one.status for one in await world.withdrawals()} == {S.PAID}
    await world.sweep()
    assert [len(accounts._watch) for accounts in both] == [0, 0]


async def test_a_hold_invoice_that_could_not_be_made_is_forgotten_with_its_job(story: Story) -> None:
    for _ in range(2):
        story.world.node.faults = [("add_hold", Fault.LOST_BEFORE)]
        assert await story.play(Op("hire")) == []
    broker = story.world.serving()
    story.world.clock.time += LIMITS.pay_seconds + 60
    for _ in range(3):
        assert await story.play(Op("tick")) == []
        assert await story.play(Op("sweep")) == []
        story.world.clock.time += 31
    assert {row["state"] for row in story.books.rows("SELECT state FROM escrow")} == {"canceled"}
    assert len(broker.escrows.watch) == 0


def test_the_attempts_of_what_is_not_over_are_kept() -> None:
    watch = Watch(lambda: 0.0)
    for name in ("one", "one/1", "other", "other/1"):
        watch.begin(name)
    watch.is_last_word("other/2")
    watch.keep({"one"})
    assert len(watch) == 2
