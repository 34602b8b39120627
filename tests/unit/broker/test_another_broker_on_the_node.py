"""Two brokers with databases of their own may use one node: what one of them has done there is not the other's."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from databases import Template
from escrow_checks import Books
from escrow_story import BUYER
from escrow_world import World, open_world
from fast_folder import fast_folder
from faulty_node import Hold, Payment

from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.watchdog import Watchdog
from lightwork_contracts.status import Acceptance


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


async def test_a_job_that_another_broker_settled_under_the_same_invoice_is_neither_taken_on_nor_a_breach(
    world: World,
) -> None:
    """A provider has given one invoice to both, and the other one was faster: it has paid it, and was paid."""
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    payment_hash, price = quote.payment_hash, quote.price_msat
    assert payment_hash is not None
    assert price is not None
    total = price + (quote.fee_msat or 0) + (quote.routing_msat or 0)
    world.node.holds[payment_hash] = Hold(
        payment_hash,
        total,
        world.clock.now() + 600,
        80,
        memo="Lightwork echo job_of_another_broker",
        state=InvoiceState.SETTLED,
    )
    world.node.payments[payment_hash] = Payment(
        payment_hash, price, 1_000, world.node.height + 40, status=PayoutStatus.SUCCEEDED
    )
    job = await broker.jobs.hire(BUYER, quote)
    await world.calm()
    gate = PayoutGate()
    watchdog = Watchdog(database=broker.database, node=broker.port, clock=world.clock, gate=gate, seconds=60)
    assert await watchdog.look() == ()
    assert not gate.is_closed
    books = Books(world.place)
    assert [row["status"] for row in books.rows("SELECT status FROM job WHERE id = ?", job.id)] == ["expired"]
    # Nothing came in here, and nothing went out.
    assert books.rows("SELECT * FROM ledger_entry") == []
    books.close()
