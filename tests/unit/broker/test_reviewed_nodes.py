"""One database belongs to one Lightning node: asked of another one, everything would seem not to have happened."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from databases import Template
from escrow_checks import Books
from escrow_story import BUYER, Op, Story
from escrow_world import LIMITS, PREIMAGES
from faulty_node import OWN_NODE
from withdrawal_world import AGENT, OWED, WithdrawalWorld, open_withdrawals

from lightwork_broker.errors import LightningDown
from lightwork_broker.escrow.reconcile import Reconciler, RecoveryFailed
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.ledger import store as ledger
from lightwork_contracts.money import sats
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.accounts import WithdrawalStatus as S

OTHER_NODE = "03" + "22" * 32


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        async with opened.database.write() as tx:
            await ledger.set_node(tx, opened.limits.own_node, opening_msat=0)
        yield opened


async def _boot_on(world: WithdrawalWorld, name: str) -> None:
    node = world.network.node(name)
    escrows = EscrowService(
        database=world.database, node=node, clock=world.clock, limits=LIMITS, preimages=PREIMAGES
    )
    reconciler = Reconciler(
        database=world.database, node=node, escrows=escrows, clock=world.clock, sweep_seconds=10
    )
    try:
        await reconciler.boot(patience_seconds=0)
    finally:
        await escrows.close()


def _take_to(books: Books, pubkey: str) -> None:
    books.change("UPDATE escrow_node SET pubkey = ?", pubkey)


async def test_a_broker_on_another_wallet_does_not_start_while_a_withdrawal_is_under_way(
    world: WithdrawalWorld,
) -> None:
    # That wallet has never heard of the payment, so the money would be given back although it was paid.
    accounts = world.start()
    world.network.stall("router")
    await accounts.withdraw(AGENT, invoice=await world.invoice(sats(10)), max_fee_msat=sats(2), key=None)
    await world.settle_down()
    with pytest.raises(RecoveryFailed, match=world.limits.own_node):
        await _boot_on(world, "router")
    await _boot_on(world, "broker")
    world.network.flow("router")
    await world.settle_down()
    assert [one.status for one in await world.withdrawals()] == [S.PAID]
    await _boot_on(world, "router")


async def test_a_withdrawal_is_not_given_back_by_a_broker_on_another_wallet(world: WithdrawalWorld) -> None:
    accounts = world.start()
    world.network.stall("router")
    await accounts.withdraw(AGENT, invoice=await world.invoice(sats(10)), max_fee_msat=sats(2), key=None)
    await world.settle_down()
    await world.kill()
    other = world.start(node="router")
    for _ in range(6):
        await other.sweep()
        await world.pass_time(31)
    (waiting,) = await world.withdrawals()
    assert waiting.status is S.PAYING
    assert await world.owed() == OWED - sats(12)
    with pytest.raises(LightningDown):
        await other.withdraw(AGENT, invoice=await world.invoice(sats(1)), max_fee_msat=sats(2), key=None)


async def test_a_broker_opens_no_job_when_its_database_was_taken_to_another_node(story: Story) -> None:
    # Two brokers on one database, each with a node of its own: the second one started while nothing was open.
    broker = story.world.serving()
    quote = await story.world.add_quote(broker, acceptance=Acceptance.AUTO)
    _take_to(story.books, OTHER_NODE)
    with pytest.raises(LightningDown, match=OTHER_NODE):
        await broker.jobs.hire(BUYER, quote)
    assert story.books.rows("SELECT * FROM escrow") == []
    assert story.world.node.holds == {}


@pytest.mark.parametrize("script", ["cancel", "deliver"])
async def test_a_broker_ends_nothing_that_another_node_holds(story: Story, script: str) -> None:
    for op in (Op("hire"), Op("pay"), *([Op("lease")] if script == "deliver" else [])):
        assert await story.play(op) == []
    _take_to(story.books, OTHER_NODE)
    await story.play(Op(script))
    for _ in range(4):
        story.world.clock.time += 31
        await story.play(Op("sweep"))
    (escrow,) = _escrows(story)
    assert escrow["state"] == ("canceling" if script == "cancel" else "releasing")
    assert story.world.node.payments == {}
    _take_to(story.books, OWN_NODE)
    await story.play(Op("sweep"))
    (escrow,) = _escrows(story)
    assert escrow["state"] == ("canceled" if script == "cancel" else "settled")


def _escrows(story: Story) -> list[dict[str, Any]]:
    return story.books.rows("SELECT * FROM escrow")
