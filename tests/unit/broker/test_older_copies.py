"""An older copy of the database, from before the buyer paid: what the node pays out meanwhile is not given back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from databases import Backup, Template
from escrow_checks import Auditor, Books
from escrow_story import BUYER, Op, Story
from escrow_world import LIMITS, World, open_world
from fast_folder import fast_folder
from faulty_node import Fault, Outcome

from lightwork_broker.lightning.ports import InvoiceState
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.status import Acceptance


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


def _rows(world: World, sql: str) -> list[dict[str, Any]]:
    books = Books(world.place)
    try:
        return books.rows(sql)
    finally:
        books.close()


async def _copy_of(world: World, state: str) -> Backup:
    """Hire, and copy the database while the escrow is in this state; then the broker is up and it is open."""
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    if state == "created":
        world.node.faults = [("add_hold", Fault.CRASH_BEFORE)]
    await world.ask(broker, broker.jobs.hire(BUYER, quote), name="hire")
    assert _rows(world, "SELECT state FROM escrow") == [{"state": state}]
    backup = Backup(world.place)
    await world.start(0)
    return backup


async def _until_the_payout_is_under_way(world: World) -> PaymentHash:
    payment_hash = PaymentHash(_rows(world, "SELECT payment_hash FROM job")[0]["payment_hash"])
    world.node.outcomes[payment_hash] = [Outcome()]
    # Without the auditor between the steps: it remembers a path that a restored database has not gone.
    books = Books(world.place)
    story = Story(world, books, Auditor(books, world.node))
    for op in (Op("pay"), Op("lease"), Op("deliver")):
        assert await story.play(op) == []
    books.close()
    assert _rows(world, "SELECT state FROM escrow") == [{"state": "forwarding"}]
    return payment_hash


@pytest.mark.parametrize(
    ("state", "meanwhile"),
    [
        ("created", "its pay window ends"),
        ("open", "its peer is full"),
        ("open", "its node tells of no peers"),
    ],
)
async def test_a_copy_from_before_the_payment_gives_nothing_back_while_the_payout_is_under_way(
    world: World, state: str, meanwhile: str
) -> None:
    backup = await _copy_of(world, state)
    payment_hash = await _until_the_payout_is_under_way(world)
    await world.stop(0)
    backup.restore()
    world.clock.time += LIMITS.pay_seconds + 60
    match meanwhile:
        case "its peer is full":
            world.node.forwarded_msat = LIMITS.held_msat_of_peer
        case "its node tells of no peers":
            world.node.faults = [("waiting_htlcs", Fault.LOST_BEFORE)] * 2
        case _:
            pass
    await world.start(0)
    broker = world.serving()
    await world.ask(broker, broker.jobs.tick(), name="tick")
    world.node.faults = []
    await world.ask(broker, broker.reconciler.sweep(), name="sweep")
    assert world.node.holds[payment_hash].state is InvoiceState.ACCEPTED
    world.node.resolve(payment_hash, Outcome(fee_msat=1))
    await world.ask(broker, broker.reconciler.sweep(), name="sweep")
    books = Books(world.place)
    assert Auditor(books, world.node).check_end() == []
    books.close()
    assert _rows(world, "SELECT state FROM escrow") == [{"state": "settled"}]
    assert _rows(world, "SELECT status FROM job") == [{"status": "settled"}]
    assert world.surprises == []
