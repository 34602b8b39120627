"""The books against the chain of a simulated network: what is found, looked at again, said, and booked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog
from databases import Look, Template, WrappedDatabase

from lightwork_broker.audit import compare_money
from lightwork_broker.chain_audit import AFTER_BLOCKS, ChainAudit, OnChain, span_of
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow import store as escrows
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import LOSSES, NODE, Entry, Posting, balance_account
from lightwork_broker.lightning.closures import Closure, HtlcEnd, IncomingHtlc
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import InvoiceState, NodeSummary
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import (
    Fault,
    ManualTime,
    PlannedFaults,
    SimulatedNetwork,
    SimulatedNode,
)
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.watchdog import Watchdog, acknowledge
from lightwork_contracts.ids import JobId, PaymentHash, Pubkey
from lightwork_contracts.money import Msat, sats

PRICE = sats(20_000)
AGENT = Pubkey("ab" * 32)


@dataclass
class Scene:
    """A broker's books, and a market in which its node and the buyer's come and go."""

    database: WrappedDatabase
    clock: ManualTime
    faults: PlannedFaults
    network: SimulatedNetwork
    jobs: int = 0
    gate: PayoutGate = field(default_factory=PayoutGate)

    def __post_init__(self) -> None:
        self.node = self.network.node("broker")
        self.dog = Watchdog(
            database=self.database, node=self.node, clock=self.clock, gate=self.gate, seconds=60
        )

    async def paid(self) -> tuple[Preimage, int]:
        """Let the buyer pay an invoice of the broker, which waits; return when its HTLC expires."""
        self.jobs += 1
        preimage = Preimage(self.jobs.to_bytes(32, "big"))
        text = await self.node.add_hold(
            payment_hash=preimage.payment_hash, value_msat=PRICE, expiry_seconds=600, cltv_blocks=80, memo=""
        )
        begun = await self.network.node("buyer").begin(
            invoice=text, payment_hash=preimage.payment_hash, fee_limit_msat=Msat(0), cltv_limit=0
        )
        assert begun.outcome.failure is None
        found = await self.node.lookup(preimage.payment_hash)
        assert found is not None
        assert found.state is InvoiceState.ACCEPTED
        assert found.min_expiry_height is not None
        return preimage, found.min_expiry_height

    async def book(self, preimage: Preimage, expiry: int, state: EscrowState = EscrowState.SETTLED) -> JobId:
        """Write that a job with this payment is over."""
        job = JobId(f"job_{self.jobs}")
        now = self.clock.now()
        async with self.database.write() as tx:
            await escrows.insert(
                tx,
                Escrow(
                    id=job,
                    state=state,
                    payment_hash=preimage.payment_hash,
                    price_msat=PRICE,
                    fee_msat=Msat(0),
                    routing_msat=Msat(0),
                    total_msat=PRICE,
                    provider_invoice="",
                    hold_invoice="lnbcrt",
                    hold_cltv_blocks=80,
                    outgoing_cltv_blocks=0,
                    forward_seconds=60,
                    memo="",
                    pay_by=0,
                    accepted_msat=PRICE,
                    min_expiry_height=expiry,
                    preimage=preimage,
                    credited_to=AGENT,
                    created_at=now,
                    updated_at=now,
                ),
            )
        return job

    async def taken_back(self) -> JobId:
        """Let the payer take back on the chain what was settled while one of the two was away."""
        preimage, expiry = await self.paid()
        self.network.stop("buyer")
        await self.node.settle(preimage)
        job = await self.book(preimage, expiry)
        self.network.stop("broker")
        self.network.start("buyer")
        self.network.mine(expiry - self.network.height)
        self.network.start("broker")
        return job

    async def kept(self) -> JobId:
        """Sell one job of which the chain never hears."""
        preimage, expiry = await self.paid()
        await self.node.settle(preimage)
        return await self.book(preimage, expiry)

    async def losses(self) -> int:
        async with self.database.read() as tx:
            return await ledger.balance(tx, LOSSES)


def said(job: JobId) -> str:
    return f"{job} is settled, but {PRICE} msat of it went back to the payer"


@pytest.fixture
async def scene(template: Template, tmp_path: Path) -> AsyncGenerator[Scene]:
    clock, faults = ManualTime(), PlannedFaults()
    network = SimulatedNetwork.market(seed=b"chain", clock=clock, faults=faults)
    place = template.copy(tmp_path)
    look = Look(place)
    look.unguard("escrow")  # whose rows are written here as they are at their end
    look.close()
    database = WrappedDatabase(open_database(place))
    yield Scene(database, clock, faults, network)
    await database.close()
    network.check()


async def test_the_watchdog_stops_payouts_for_what_a_payer_took_back_long_after_its_job_was_over(
    scene: Scene,
) -> None:
    preimage, expiry = await scene.paid()
    scene.network.stop("buyer")
    await scene.node.settle(preimage)
    job = await scene.book(preimage, expiry)
    for _ in range(3):
        assert await scene.dog.look() == ()
        scene.clock.advance(3_600)
    scene.network.stop("broker")
    scene.network.start("buyer")
    scene.network.mine(expiry - scene.network.height)
    scene.network.start("broker")
    assert await scene.dog.look() == (said(job),)
    assert scene.gate.is_closed
    assert await scene.dog.look() == (said(job),)


async def test_jobs_that_the_chain_has_nothing_to_do_with_are_not_named(scene: Scene) -> None:
    await scene.kept()
    lost = await scene.taken_back()
    await scene.kept()
    (found,) = (await ChainAudit(scene.database, scene.node).look()).findings
    assert (found.subject, found.lost_msat) == (lost, PRICE)


async def test_a_second_loss_in_the_same_channel_is_found_by_one_who_has_looked_before(scene: Scene) -> None:
    audit = ChainAudit(scene.database, scene.node)
    first = await scene.taken_back()
    assert [found.subject for found in (await audit.look()).findings] == [first]
    second = await scene.taken_back()
    assert {found.subject for found in (await audit.look()).findings} == {first, second}


async def test_a_job_that_was_well_at_one_look_is_asked_about_when_another_channel_has_closed(
    scene: Scene,
) -> None:
    audit = ChainAudit(scene.database, scene.node)
    first = await scene.taken_back()
    preimage, expiry = await scene.paid()
    scene.network.stop("buyer")
    await scene.node.settle(preimage)
    second = await scene.book(preimage, expiry)
    assert [found.subject for found in (await audit.look()).findings] == [first]
    scene.network.stop("broker")
    scene.network.start("buyer")
    scene.network.mine(expiry - scene.network.height)
    scene.network.start("broker")
    assert {found.subject for found in (await audit.look()).findings} == {first, second}


async def test_what_the_node_has_said_for_good_is_not_asked_again_until_another_channel_closes(
    scene: Scene,
) -> None:
    lost = await scene.taken_back()
    await scene.kept()
    audit = ChainAudit(scene.database, scene.node)
    first = await audit.look()
    scene.faults.plan(Fault.LOST_BEFORE, method="incoming_htlcs")
    assert await audit.look() == first
    assert [found.subject for found in first.findings] == [lost]
    assert scene.faults.waiting == 1
    scene.faults.clear()
    await scene.taken_back()
    scene.faults.plan(Fault.LOST_BEFORE, method="incoming_htlcs")
    with pytest.raises(LightningUnavailable):
        await audit.look()
    assert len((await audit.look()).findings) == 2


@dataclass
class Undecided:
    """What a node says of the chain that has not heard yet how it ended an HTLC."""

    node: SimulatedNode
    told: bool = False

    async def closures(self) -> tuple[Closure, ...]:
        return (*await self.node.closures(), Closure(point="that is being closed:0"))

    async def summary(self) -> NodeSummary:
        return await self.node.summary()

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        found = await self.node.incoming_htlcs(payment_hash)
        return found if self.told else tuple(replace(htlc, end=HtlcEnd.WAITING) for htlc in found)


async def test_an_htlc_without_an_end_is_asked_about_until_it_has_one(scene: Scene) -> None:
    lost = await scene.taken_back()
    node = Undecided(scene.node)
    audit = ChainAudit(scene.database, node)
    assert (await audit.look()).findings == ()
    node.told = True
    assert [found.subject for found in (await audit.look()).findings] == [lost]


async def test_a_closure_of_long_ago_in_which_all_agreed_is_forgotten_and_one_with_a_loss_never(
    scene: Scene,
) -> None:
    await scene.taken_back()
    audit = ChainAudit(scene.database, scene.node)
    scene.network.mine(AFTER_BLOCKS + 1)
    first = await audit.look()
    assert len(first.findings) == 1
    await acknowledge(scene.database, now=scene.clock.now(), findings=first.findings)
    assert (await audit.look()).findings == ()
    # Of one that is done not even the height is asked for.
    scene.faults.plan(Fault.LOST_BEFORE, method="summary")
    assert (await audit.look()).findings == ()
    assert scene.faults.waiting == 1
    scene.faults.clear()


async def test_what_is_acknowledged_is_booked_once_and_payouts_go_on(scene: Scene) -> None:
    await scene.taken_back()
    assert await scene.dog.look() != ()
    scene.clock.advance(1)
    findings = (await ChainAudit(scene.database, scene.node).look()).findings
    for _ in range(2):
        await acknowledge(scene.database, now=scene.clock.now(), findings=findings)
    assert await scene.losses() == PRICE
    assert await scene.dog.look() == ()
    assert not scene.gate.is_closed
    assert (await ChainAudit(scene.database, scene.node).look()).findings == ()


async def test_a_macaroon_that_may_not_ask_of_the_chain_is_said_once_and_stops_nothing(scene: Scene) -> None:
    await scene.taken_back()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            scene.faults.plan(Fault.NO_PERMISSION, method="closures")
            assert await scene.dog.look() == ()
    assert not scene.gate.is_closed
    assert [line["event"] for line in logs] == ["watchdog.chain_not_compared"]
    scene.faults.plan(Fault.NO_PERMISSION, method="closures")
    assert await ChainAudit(scene.database, scene.node).look() == OnChain(None)


async def test_a_node_that_is_silent_about_the_chain_hides_no_other_breach_and_opens_no_gate(
    scene: Scene,
) -> None:
    preimage, expiry = await scene.paid()
    job = await scene.book(preimage, expiry)
    scene.faults.plan(Fault.LOST_BEFORE, method="closures")
    breaches = await scene.dog.look()
    assert any(breach.startswith(f"{job} is settled, the node says ACCEPTED") for breach in breaches)
    await scene.node.settle(preimage)
    scene.faults.plan(Fault.LOST_BEFORE, method="closures")
    assert await scene.dog.look() == ()
    assert scene.gate.is_closed
    assert await scene.dog.look() == ()
    assert not scene.gate.is_closed


async def test_money_on_its_way_on_the_chain_is_no_hole_and_covers_what_is_owed(scene: Scene) -> None:
    held = await scene.node.local_balance_msat()
    entries = (
        Entry(NODE, 1_000_000),
        Entry(LOSSES, held),
        Entry(balance_account(AGENT), -(held + 1_000_000)),
    )
    async with scene.database.write() as tx:
        await ledger.set_node(tx, "node", opening_msat=held)
        await ledger.post(tx, Posting(key="settle:job", cause="work", entries=entries), now=0)
    nothing, going = OnChain(Msat(0)), OnChain(Msat(1_000_000), channels=1)
    money, (breach,) = await compare_money(scene.database, scene.node, owner=AGENT, chain=nothing)
    assert "agents are owed" in breach
    assert money.outside_msat == -1_000_000
    money, breaches = await compare_money(scene.database, scene.node, owner=AGENT, chain=going)
    assert breaches == []
    assert (money.outside_msat, money.limbo_msat, money.closing) == (0, 1_000_000, 1)


def test_the_jobs_that_are_compared_are_those_whose_htlcs_may_have_been_there() -> None:
    lowest, highest = span_of(Closure(point="a:0", channel=1, height=10_000), height=50_000)
    assert (lowest, highest) == (10_000 - 1_008, 10_000 + AFTER_BLOCKS)
    lowest, highest = span_of(Closure(point="a:0"), height=50_000)
    assert (lowest, highest) == (50_000 - AFTER_BLOCKS - 1_008, 50_000 + AFTER_BLOCKS)
