"""The watchdog is not fooled by silence, a restart or a clock, and no stranger can make it stop payouts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from databases import Look, Template
from escrow_story import Op, open_story
from escrow_world import LIMITS, PREIMAGES
from faulty_node import Htlc
from faulty_port import Port
from withdrawal_world import WithdrawalWorld, open_withdrawals

from lightwork_broker.audit import compare_with_node
from lightwork_broker.escrow import store as escrows
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.terms import Terms
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.watchdog import OVERLAP_SECONDS, Watchdog, acknowledge
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.money import Msat, sats

HOUR = 3_600


class Watched:
    """A world, what watches over its payouts, and a wrong hand that changes rows."""

    def __init__(self, world: WithdrawalWorld) -> None:
        self.world = world
        self.look = Look(world.place)
        self.restart()

    def restart(self) -> None:
        """Let another life of the broker watch, which remembers only what is stored."""
        self.gate = PayoutGate()
        self.dog = Watchdog(
            database=self.world.database,
            node=self.world.network.node("broker"),
            clock=self.world.clock,
            gate=self.gate,
            seconds=60,
        )

    def forge(self) -> None:
        """Add a withdrawal that the books call paid and that the node has never heard of."""
        now = self.world.clock.now()
        columns = (
            "id, agent, status, payment_hash, invoice, amount_msat, max_fee_msat, fee_paid_msat, preimage, "
            "created_at, updated_at"
        )
        row = f"'wdr_0', 'a', 'paid', '{'ab' * 32}', 'x', 5, 0, 0, '{'cd' * 32}', {now}, {now}"
        self.look.unguard("withdrawal")
        self.look.change(f"INSERT INTO withdrawal ({columns}) VALUES ({row})")


@pytest.fixture
async def watched(template: Template, tmp_path: Path) -> AsyncGenerator[Watched]:
    async with open_withdrawals(tmp_path, template) as world:
        made = Watched(world)
        yield made
        made.look.close()


async def test_a_node_that_falls_silent_opens_no_gate(watched: Watched) -> None:
    watched.forge()
    assert await watched.dog.look() != ()
    watched.world.network.stop("broker")
    await watched.dog.look()
    assert watched.gate.is_closed
    watched.world.network.start("broker")
    await watched.dog.look()
    assert watched.gate.is_closed


async def test_what_a_silent_node_was_not_asked_about_is_asked_later(watched: Watched) -> None:
    await watched.dog.look()
    watched.world.clock.advance(HOUR)
    watched.forge()
    watched.world.network.stop("broker")
    for _ in range(3):
        watched.world.clock.advance(2 * OVERLAP_SECONDS)
        assert await watched.dog.look() == ()
    watched.world.network.start("broker")
    assert await watched.dog.look() != ()


async def test_a_restart_forgets_no_breach_however_old_it_is(watched: Watched) -> None:
    watched.forge()
    assert await watched.dog.look() != ()
    watched.world.clock.advance(24 * HOUR)
    await watched.dog.look()
    watched.restart()
    assert await watched.dog.look() != ()
    assert watched.gate.is_closed


async def test_a_restart_beside_a_silent_node_opens_no_gate_that_was_closed(watched: Watched) -> None:
    watched.forge()
    await watched.dog.look()
    watched.restart()
    watched.world.network.stop("broker")
    await watched.dog.look()
    assert watched.gate.is_closed
    watched.world.network.start("broker")


async def test_what_its_operator_has_looked_into_stops_payouts_no_longer(watched: Watched) -> None:
    watched.forge()
    assert await watched.dog.look() != ()
    watched.world.clock.advance(1)
    await acknowledge(watched.world.database, now=watched.world.clock.now())
    for _ in range(2):
        assert await watched.dog.look() == ()
        watched.restart()
    assert not watched.gate.is_closed


async def test_what_ended_while_no_broker_watched_is_looked_at_at_the_next_start(watched: Watched) -> None:
    await watched.dog.look()
    watched.world.clock.advance(HOUR)
    watched.forge()
    watched.world.clock.advance(24 * HOUR)
    watched.restart()
    assert await watched.dog.look() != ()


async def test_a_clock_that_ran_ahead_and_came_back_leaves_no_time_unwatched(watched: Watched) -> None:
    watched.world.clock.advance(24 * HOUR)
    await watched.dog.look()
    watched.world.clock.advance(-24 * HOUR)
    watched.forge()
    assert await watched.dog.look() != ()


@pytest.mark.parametrize("settled", [False, True])
async def test_a_provider_that_takes_the_hash_of_a_foreign_invoice_of_the_node_stops_nobody(
    watched: Watched, settled: bool
) -> None:
    # Such as one that the operator's shop gives to anybody, or a spontaneous payment that the node took.
    world = watched.world
    node = world.network.node("broker")
    foreign = await node.add_invoice(value_msat=sats(5), expiry_seconds=HOUR, memo="a book", final_cltv=40)
    if settled:
        world.network.open_channel("payee", "broker", capacity_msat=sats(100_000))
        paid = await world.network.node("payee").pay(
            invoice=foreign.payment_request,
            payment_hash=foreign.payment_hash,
            fee_limit_msat=sats(5),
            cltv_limit=500,
            timeout_seconds=10,
        )
        assert paid.preimage is not None
    await _hire(world, payment_hash=foreign.payment_hash)
    assert await watched.dog.look() == ()
    assert not watched.gate.is_closed


async def _hire(world: WithdrawalWorld, *, payment_hash: PaymentHash) -> None:
    escrows_of = EscrowService(
        database=world.database,
        node=world.network.node("broker"),
        clock=world.clock,
        limits=LIMITS,
        preimages=PREIMAGES,
    )
    terms = Terms(
        id=JobId("job_1"),
        payment_hash=payment_hash,
        price_msat=Msat(3_000),
        fee_msat=Msat(1_000),
        routing_msat=Msat(1_000),
        hold_cltv_blocks=100,
        outgoing_cltv_blocks=40,
        pay_seconds=600,
        forward_seconds=600,
        memo="Lightwork echo job_1",
        provider_invoice="lnbcrt1",
    )
    async with world.database.write() as tx:
        await escrows_of.open(tx, terms)
    assert (await escrows_of.drive(terms.id)).state is EscrowState.CANCELED
    await escrows_of.close()


async def test_who_pays_a_settled_invoice_once_more_stops_nobody(template: Template) -> None:
    # Whoever knows the preimage may send it along: LND takes that for the invoice, settled or not.
    async with open_story(template, brokers=1) as story:
        for op in (Op("hire"), Op("pay"), Op("lease"), Op("deliver")):
            assert await story.play(op) == []
        broker = story.world.working(0)
        assert broker is not None
        (hold,) = story.world.node.holds.values()
        hold.htlcs.append(Htlc(hold.value_msat, story.world.node.height + 100, story.world.clock.now()))
        async with broker.database.read() as tx:
            (ended,) = await escrows.ended(tx, since=0)
        assert ended.accepted_msat is not None
        assert hold.amount_msat > ended.accepted_msat
        assert (await compare_with_node(broker.database, Port(story.world.node))).breaches == ()


async def test_a_payout_that_cost_more_than_was_collected_for_it_is_a_breach(template: Template) -> None:
    # The node was given a limit. If it has spent more all the same, nobody knows what it does next.
    async with open_story(template, brokers=1) as story:
        for op in (Op("hire"), Op("pay"), Op("lease"), Op("deliver")):
            assert await story.play(op) == []
        broker = story.world.working(0)
        assert broker is not None
        (payment,) = story.world.node.payments.values()
        payment.fee_msat = payment.fee_limit_msat + 1
        story.books.change(f"UPDATE escrow SET routing_paid_msat = {payment.fee_msat}")
        (breach,) = (await compare_with_node(broker.database, Port(story.world.node))).breaches
        assert "more than" in breach
