"""Payments that are held for the broker and that its database forgot: each ends, and nobody loses by it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog.testing
from databases import Template
from e2e_waiting import until
from escrow_world import BROKER_KEY, BUYER_KEY
from faulty_node import FaultyNode
from faulty_port import Port
from unit.lightning.simulated_scene import AMOUNT, Scene, going, invoice, looked_up, pay, secret, settle_down

from lightwork_broker.app import create_app
from lightwork_broker.clock import SystemClock
from lightwork_broker.db.engine import Database
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow import orphans, store
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.orphans import Orphans, find_orphans, mark_of
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.conclusion import GRACE_SECONDS
from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState
from lightwork_broker.lightning.simulated import Fault
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.money import Msat

OURS = f"Lightwork echo job_1 {mark_of(BROKER_KEY.public)}"
PRICE = Msat(AMOUNT - 10_000)


@dataclass
class Forgetful:
    """A broker's node with what it holds, and a database that knows nothing of it."""

    scene: Scene
    database: Database
    orphans: Orphans

    async def hold(self, payment_hash: PaymentHash, *, memo: str = OURS) -> str:
        return await self.scene.broker.add_hold(
            payment_hash=payment_hash, value_msat=AMOUNT, expiry_seconds=600, cltv_blocks=80, memo=memo
        )

    async def found(self) -> list[HoldInvoice]:
        return await find_orphans(self.database, self.scene.broker, owner=BROKER_KEY.public)

    async def state(self, payment_hash: PaymentHash) -> InvoiceState:
        return (await looked_up(self.scene.broker, payment_hash)).state

    async def balances(self) -> list[int]:
        scene = self.scene
        return [await node.local_balance_msat() for node in (scene.buyer, scene.broker, scene.provider)]


@asynccontextmanager
async def forgetful(template: Template) -> AsyncGenerator[Forgetful]:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        scene = Scene()
        database = open_database(template.copy(Path(folder)))
        stack.push_async_callback(database.close)
        yield Forgetful(
            scene,
            database,
            Orphans(
                database=database,
                node=scene.broker,
                steady=scene.clock.now,
                owner=BROKER_KEY.public,
                seconds=600,
            ),
        )


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[Forgetful]:
    async with forgetful(template) as opened:
        yield opened


async def test_an_orphan_whose_provider_was_not_paid_goes_back_to_the_buyer(world: Forgetful) -> None:
    before = await world.balances()
    hidden = secret()
    text = await world.hold(hidden.payment_hash)
    async with going(pay(world.scene.buyer, text, hidden.payment_hash)) as paying:
        assert await world.orphans.look() == 1
        # A call that an earlier life of the broker made may still be on its way to the node.
        assert await world.state(hidden.payment_hash) is InvoiceState.ACCEPTED
        world.scene.clock.advance(GRACE_SECONDS)
        assert await world.orphans.look() == 0
        assert await world.state(hidden.payment_hash) is InvoiceState.CANCELED
        await settle_down()
        assert paying.done()
    assert await world.balances() == before


async def test_an_orphan_whose_provider_was_paid_is_settled_with_the_preimage_that_the_node_has(
    world: Forgetful,
) -> None:
    buyer, broker, provider = await world.balances()
    providers, payment_hash = await invoice(world.scene.provider, msat=PRICE)
    text = await world.hold(payment_hash)
    async with going(pay(world.scene.buyer, text, payment_hash)) as paying:
        await pay(world.scene.broker, providers, payment_hash)
        assert await world.orphans.look() == 0
        await settle_down()
        assert paying.done()
    assert await world.balances() == [buyer - AMOUNT, broker + AMOUNT - PRICE, provider + PRICE]


async def test_an_orphan_whose_payout_is_under_way_waits_for_its_end(world: Forgetful) -> None:
    hidden = secret(7)
    providers = await world.scene.provider.add_hold(
        payment_hash=hidden.payment_hash, value_msat=PRICE, expiry_seconds=600, cltv_blocks=40, memo=""
    )
    text = await world.hold(hidden.payment_hash)
    async with going(pay(world.scene.buyer, text, hidden.payment_hash)):
        async with going(pay(world.scene.broker, providers, hidden.payment_hash, cltv_limit=60)):
            for _ in range(3):
                assert await world.orphans.look() == 1
                world.scene.clock.advance(GRACE_SECONDS)
            assert await world.state(hidden.payment_hash) is InvoiceState.ACCEPTED
            await world.scene.provider.settle(hidden)
            await settle_down()
        assert await world.orphans.look() == 0
    assert await world.state(hidden.payment_hash) is InvoiceState.SETTLED


async def test_an_answer_that_does_not_come_cancels_no_orphan(world: Forgetful) -> None:
    hidden = secret()
    text = await world.hold(hidden.payment_hash)
    async with going(pay(world.scene.buyer, text, hidden.payment_hash)):
        await world.orphans.look()
        world.scene.clock.advance(GRACE_SECONDS)
        world.scene.faults.plan(Fault.UNKNOWN_OUTCOME, method="track")
        assert await world.orphans.look() == 1
        assert await world.state(hidden.payment_hash) is InvoiceState.ACCEPTED
        # What was not heard does not count: the whole time must pass again.
        assert await world.orphans.look() == 1
        assert await world.state(hidden.payment_hash) is InvoiceState.ACCEPTED
        world.scene.clock.advance(GRACE_SECONDS)
        assert await world.orphans.look() == 0


async def test_an_unpaid_orphan_cannot_be_paid_any_more(world: Forgetful) -> None:
    hidden = secret()
    text = await world.hold(hidden.payment_hash)
    await world.orphans.look()
    world.scene.clock.advance(GRACE_SECONDS)
    await world.orphans.look()
    before = await world.balances()
    await pay(world.scene.buyer, text, hidden.payment_hash)
    assert await world.state(hidden.payment_hash) is InvoiceState.CANCELED
    assert await world.balances() == before


@pytest.mark.parametrize(
    "memo",
    ["", "somebody's own", "Lightwork echo job_1", f"Lightwork echo job_1 {mark_of(BUYER_KEY.public)}"],
    ids=["none", "the operator's", "without a mark", "of another broker"],
)
async def test_what_is_held_for_somebody_else_on_the_same_node_is_left_alone(
    world: Forgetful, memo: str
) -> None:
    hidden = secret()
    text = await world.hold(hidden.payment_hash, memo=memo)
    async with going(pay(world.scene.buyer, text, hidden.payment_hash)):
        assert await world.found() == []
        world.scene.clock.advance(10 * GRACE_SECONDS)
        assert await world.orphans.look() == 0
        assert await world.state(hidden.payment_hash) is InvoiceState.ACCEPTED
        await world.scene.broker.cancel(hidden.payment_hash)


async def test_a_hold_invoice_that_has_its_row_is_no_orphan(world: Forgetful) -> None:
    hidden = secret()
    await world.hold(hidden.payment_hash)
    async with world.database.write() as tx:
        await store.insert(
            tx,
            store.Escrow(
                id=JobId("job_1"),
                state=EscrowState.CREATED,
                payment_hash=hidden.payment_hash,
                price_msat=PRICE,
                fee_msat=Msat(10_000),
                routing_msat=Msat(0),
                total_msat=AMOUNT,
                provider_invoice="",
                hold_cltv_blocks=80,
                outgoing_cltv_blocks=40,
                forward_seconds=60,
                memo=OURS,
                pay_by=0,
                created_at=0,
                updated_at=0,
            ),
        )
    assert await world.found() == []


async def test_an_orphan_is_not_settled_with_what_was_paid_for_something_else(world: Forgetful) -> None:
    # Somebody has withdrawn to the invoice that had guarded the forgotten job: the buyer owes nothing for that.
    providers, payment_hash = await invoice(world.scene.provider, msat=PRICE)
    text = await world.hold(payment_hash)
    async with world.database.write() as tx:
        assert await ledger.claim(tx, payment_hash, purpose="withdrawal:wdr_1")
    async with going(pay(world.scene.buyer, text, payment_hash)):
        await pay(world.scene.broker, providers, payment_hash)
        world.scene.clock.advance(GRACE_SECONDS)
        assert await world.orphans.look() == 1
        assert await world.state(payment_hash) is InvoiceState.ACCEPTED
        await world.scene.broker.cancel(payment_hash)


async def test_a_node_that_gives_no_answer_leaves_orphans_for_later(world: Forgetful) -> None:
    await world.hold(secret().payment_hash)
    world.scene.faults.plan(Fault.LOST_BEFORE, method="pending_holds")
    with pytest.raises(LightningUnavailable):
        await world.orphans.look()
    assert await world.orphans.look() == 1
    assert orphans.LOOK_AGAIN_SECONDS < GRACE_SECONDS


class Denying(Port):
    """A connection whose macaroon does not allow to list invoices, until it is replaced."""

    asked = 0
    allowed = False
    followed = False

    async def blocks(self) -> AsyncGenerator[int, None]:
        self.followed = True
        yield 1_000
        await asyncio.Event().wait()

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.allowed:
            raise PermissionMissing("the macaroon does not allow this")
        return await super().pending_holds()


async def test_a_broker_that_may_not_look_says_so_once_and_asks_again_at_its_own_pace(
    tmp_path: Path,
) -> None:
    node = Denying(FaultyNode(SystemClock()))
    app = create_app(BrokerSettings(data_dir=tmp_path, orphans_seconds=600), node)
    with structlog.testing.capture_logs() as logs:
        async with app.router.lifespan_context(app):
            await until(lambda: _has_followed_blocks(node), what="the loops have begun")
    assert node.asked == 1
    assert [line["event"] for line in logs].count("orphans.not_looked_for") == 1


async def test_a_broker_that_may_look_again_finds_what_was_forgotten_meanwhile(world: Forgetful) -> None:
    clock = world.scene.clock
    node = Denying(FaultyNode(clock))
    looking = Orphans(
        database=world.database, node=node, steady=clock.now, owner=BROKER_KEY.public, seconds=0
    )
    with structlog.testing.capture_logs() as logs:
        async with going(looking.run()) as run:
            await until(lambda: _was_asked(node, 5), what="it has asked again")
            assert not run.done()
            node.allowed = True
            await until(lambda: _was_asked(node, 10), what="it has asked again")
            assert not run.done()
    assert [line["event"] for line in logs] == ["orphans.not_looked_for"]


async def _was_asked(node: Denying, times: int) -> bool:
    return node.asked >= times


async def _has_followed_blocks(node: Denying) -> bool:
    return node.followed
