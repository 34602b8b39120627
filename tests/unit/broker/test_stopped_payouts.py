"""A node that spends more than it was allowed to is trusted with no further payout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from databases import Template
from escrow_checks import Books
from escrow_world import BUYER_KEY, LIMITS, PROVIDER_KEY, PROVIDER_NODE_KEY, World, open_world
from fast_folder import fast_folder
from faulty_node import OWN_NODE, Outcome

from lightwork_broker.accounts.service import AccountLimits, Accounts
from lightwork_broker.escrow import store
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.signals import Signals
from lightwork_broker.watchdog import Watchdog
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import JobId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.accounts import WithdrawalStatus
from lightwork_contracts.wire.jobs import PollWork

BUYER, PROVIDER = BUYER_KEY.public, PROVIDER_KEY.public
FAR_TOO_MUCH = Outcome(fee_msat=50_000)


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


async def _still_there() -> bool:
    return False


async def _begin(
    world: World, *, mode: PaymentMode = PaymentMode.ESCROW, outcome: Outcome | None = None
) -> JobId:
    """Hire and pay, and let the provider take the job."""
    broker = world.serving()
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO, mode=mode)
    job = await broker.jobs.hire(BUYER, quote)
    if outcome is not None:
        world.node.outcomes[job.payment_hash] = [outcome]
    await world.calm()
    world.node.buyer_pays(job.payment_hash, world.node.holds[job.payment_hash].value_msat)
    await world.calm()
    await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_jobs=1), gone=_still_there)
    return job.id


async def _deliver(world: World, job: JobId) -> str:
    """Let the provider deliver, which asks for the payout; return the state of the escrow."""
    await world.serving().queue.deliver(PROVIDER, job, epoch=1, result="done")
    await world.calm()
    return _rows(world, "SELECT state FROM escrow WHERE id = ?", job)[0]["state"]


async def _sell(world: World, *, outcome: Outcome | None = None) -> str:
    return await _deliver(world, await _begin(world, outcome=outcome))


def _rows(world: World, sql: str, *values: str) -> list[dict[str, Any]]:
    books = Books(world.place)
    try:
        return books.rows(sql, *values)
    finally:
        books.close()


async def test_a_payout_that_cost_more_than_its_reserve_stops_every_further_one_and_no_deposit(
    world: World,
) -> None:
    broker = world.serving()
    assert await _sell(world) == "settled"
    assert not broker.gate.is_closed
    later, on_credit = await _begin(world), await _begin(world, mode=PaymentMode.CREDIT)
    world.node.heeds_fee_limits = False
    # It is booked as it was, to the msat, and it is the last one.
    assert await _sell(world, outcome=FAR_TOO_MUCH) == "settled"
    assert "cost 50000 msat of routing" in str(broker.gate.reason)
    world.node.heeds_fee_limits = True
    broker.gate.open()  # as the watchdog does, which finds that the sums are right
    assert broker.gate.is_closed
    paid = dict(world.node.paid_out)
    assert await _deliver(world, later) == "releasing"
    assert world.node.paid_out == paid
    assert await _deliver(world, on_credit) == "settled"


async def test_a_broker_that_is_started_soon_after_finds_the_overspent_payout_again(world: World) -> None:
    world.node.heeds_fee_limits = False
    await _sell(world, outcome=FAR_TOO_MUCH)
    broker, gate = world.serving(), PayoutGate()
    watchdog = Watchdog(database=broker.database, node=broker.port, clock=world.clock, gate=gate, seconds=60)
    (breach,) = await watchdog.look()
    assert "cost 50000 msat of routing" in breach
    assert gate.is_closed


async def test_a_withdrawal_that_cost_more_than_its_reserve_stops_every_further_one(world: World) -> None:
    broker = world.serving()
    accounts = Accounts(
        database=broker.database,
        node=broker.port,
        clock=world.clock,
        ids=world.ids,
        signals=Signals(),
        limits=AccountLimits(
            network="regtest",
            own_node=OWN_NODE,
            ceiling_msat=LIMITS.credit_ceiling_msat,
            day_msat=Msat(0),
            day_msat_of_all=Msat(0),
            open_at_once=5,
        ),
        pending=store.credit_under_way,
        gate=broker.gate,
    )
    assert await _deliver(world, await _begin(world, mode=PaymentMode.CREDIT)) == "settled"
    world.node.heeds_fee_limits = False
    for number, status in ((1, WithdrawalStatus.PAID), (2, WithdrawalStatus.PAYING)):
        payment_hash = world.node.provider_hash(f"withdrawal {number}")
        world.node.outcomes[payment_hash] = [Outcome(fee_msat=1_500)]
        invoice = write_invoice(
            network=Network.REGTEST,
            amount_msat=Msat(1_000),
            timestamp=int(world.clock.now()),
            payment_hash=payment_hash,
            payment_secret="ab" * 32,
            private_key=PROVIDER_NODE_KEY,
            description="take",
            expiry_seconds=3_600,
            min_final_cltv=24,
        )
        made = await accounts.withdraw(PROVIDER, invoice=invoice, max_fee_msat=Msat(500), key=None)
        paying = [task for task in asyncio.all_tasks() if task.get_name() == f"withdrawal {made.id}"]
        await asyncio.wait_for(asyncio.gather(*paying), 10)
        assert (await accounts.get(PROVIDER, made.id)).status is status
        assert made.id in str(broker.gate.reason) or number == 2
    await accounts.close()


async def test_jobs_that_wait_for_a_closed_gate_write_nothing_meanwhile_and_are_paid_when_it_opens(
    world: World,
) -> None:
    job = await _begin(world)
    broker = world.serving()
    broker.gate.close("the books do not hold")
    assert await _deliver(world, job) == "releasing"
    before = _rows(world, "SELECT * FROM escrow")
    for _ in range(3):
        # Each second, of each such job: a server that must write them all down has time for nothing else.
        world.clock.time += 1
        await broker.reconciler.retry_due()
        await world.calm()
    assert _rows(world, "SELECT * FROM escrow") == before
    broker.gate.open()
    world.clock.time += 1
    await broker.reconciler.retry_due()
    await world.calm()
    assert _rows(world, "SELECT state FROM escrow") == [{"state": "settled"}]
