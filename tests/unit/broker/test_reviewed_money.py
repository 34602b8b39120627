"""What a hostile review found about money, kept as promises: each test is named for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from databases import Backup, Template
from escrow_checks import Auditor, Books
from escrow_story import BUYER, Op, Story, open_story
from escrow_world import (
    LIMITS,
    PREIMAGES,
    REVIEW_SECONDS,
    START,
    WORK_SECONDS,
    World,
    open_world,
)
from fast_folder import fast_folder
from faulty_node import HOLD_EXPIRY_DELTA, OWN_NODE, Fault, FaultyNode, Outcome
from faulty_port import Port
from late_database import LateDatabase

from lightwork_broker.clock import Ids
from lightwork_broker.db.place import open_database
from lightwork_broker.errors import WrongStatus
from lightwork_broker.escrow.reconcile import Reconciler, RecoveryFailed
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.wrap import invoice_seconds, plan_timers
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.lightning.ports import InvoiceState, NodeSummary, PayoutFailure
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.status import Acceptance, JobStatus

OTHER_NODE = "03" + "22" * 32
AUTO, REVIEW = 0, 1
NO_ROUTE = Outcome(failure=PayoutFailure.NO_ROUTE)


@pytest.fixture
async def story(template: Template) -> AsyncGenerator[Story]:
    async with open_story(template, brokers=2) as opened:
        yield opened


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    """A world without an auditor, for tests that put its database back in time."""
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


async def _until_working(story: Story, acceptance: int = AUTO) -> PaymentHash:
    await story.play_all(Op("hire", number=acceptance), Op("pay"), Op("lease"))
    assert _state(story) == ("working", "accepted")
    return PaymentHash(story.hired()["payment_hash"])


async def _pass(story: Story, seconds: float) -> None:
    story.world.clock.time += seconds
    story.world.node.time_passes()
    await story.play_all(Op("sweep"))


def _state(story: Story) -> tuple[str, str]:
    return story.hired()["status"], story.books.rows("SELECT state FROM escrow")[0]["state"]


# --- H1: the node that holds the money is the one that is asked about it -------------------------------------


class OtherWallet(Port):
    """The same network, seen from another wallet that knows nothing of our escrows."""

    async def summary(self) -> NodeSummary:
        return replace(await super().summary(), pubkey=OTHER_NODE)


@asynccontextmanager
async def _on_another_wallet(world: World) -> AsyncGenerator[Reconciler]:
    database = open_database(world.place)
    node = OtherWallet(FaultyNode(world.clock))
    escrows = EscrowService(
        database=database,
        node=node,
        clock=world.clock,
        limits=LIMITS,
        preimages=PREIMAGES,
    )
    try:
        yield Reconciler(database=database, node=node, escrows=escrows, clock=world.clock, sweep_seconds=10)
    finally:
        await escrows.close()
        await database.close()


async def test_a_broker_on_another_wallet_does_not_start_while_escrows_are_open(story: Story) -> None:
    await _until_working(story)
    await story.play_all(Op("kill", broker=0), Op("kill", broker=1))
    async with _on_another_wallet(story.world) as reconciler:
        with pytest.raises(RecoveryFailed, match=OWN_NODE):
            await reconciler.boot(patience_seconds=0)
    assert _state(story) == ("working", "accepted")
    await story.play_all(Op("start"), Op("deliver"))
    assert _state(story) == ("settled", "settled")


async def test_a_broker_may_move_to_another_wallet_when_no_escrow_is_open(story: Story) -> None:
    await _until_working(story)
    await story.play_all(Op("deliver"), Op("kill", broker=0), Op("kill", broker=1))
    async with _on_another_wallet(story.world) as reconciler:
        assert await reconciler.boot(patience_seconds=0) == 0
    known = story.books.rows("SELECT pubkey FROM escrow_node")
    assert known == [{"pubkey": OTHER_NODE}]


async def _hire_and_lease(world: World) -> dict[str, Any]:
    """Hire without an auditor: it remembers a path that a restored database has not gone."""
    books = Books(world.place)
    story = Story(world, books, Auditor(books, world.node))
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    job = story.hired()
    books.close()
    assert job["status"] == "working"
    return job


async def _deliver(world: World, job: dict[str, Any]) -> None:
    broker = world.working(0)
    assert broker is not None
    work = broker.queue.deliver(job["provider"], job["id"], epoch=job["epoch"], result="done")
    await world.ask(broker, work, name="deliver")


def _read(world: World, sql: str) -> list[dict[str, Any]]:
    books = Books(world.place)
    try:
        return books.rows(sql)
    finally:
        books.close()


def _check_end(world: World) -> None:
    books = Books(world.place)
    try:
        assert Auditor(books, world.node).check_end() == []
    finally:
        books.close()
    assert _read(world, "SELECT state FROM escrow") == [{"state": "settled"}]
    assert _read(world, "SELECT status FROM job") == [{"status": "settled"}]
    assert world.surprises == []


async def test_an_older_database_that_does_not_know_of_the_payout_settles_it(world: World) -> None:
    """Restored to the time of the work, after the provider was paid: time runs out, but nobody is refunded."""
    job = await _hire_and_lease(world)
    backup = Backup(world.place)
    world.node.faults = [("pay", Fault.CRASH_AFTER)]
    await _deliver(world, job)
    assert world.working(0) is None
    assert world.node.paid_out == {job["payment_hash"]: job["price_msat"]}
    backup.restore()
    world.clock.time += WORK_SECONDS + 1
    await world.start(0)
    broker = world.working(0)
    assert broker is not None
    await world.ask(broker, broker.jobs.tick(), name="tick")
    await world.ask(broker, broker.reconciler.sweep(), name="sweep")
    _check_end(world)


async def test_an_order_to_pay_that_the_node_has_carried_out_and_settled_ends_settled(world: World) -> None:
    """H10: the database is of the moment before the payout, the node has paid and settled since."""
    job = await _hire_and_lease(world)
    world.node.faults = [("lookup", Fault.CRASH_BEFORE)]
    await _deliver(world, job)
    assert _read(world, "SELECT state FROM escrow") == [{"state": "releasing"}]
    backup = Backup(world.place)
    await world.start(0)
    _check_end(world)
    await world.stop(0)
    backup.restore()
    await world.start(0)
    _check_end(world)


async def test_an_invoice_that_an_older_database_takes_for_unpaid_ends_settled(world: World) -> None:
    """The database is of the moment before the buyer paid; the node has held, paid on and settled since."""
    books = Books(world.place)
    story = Story(world, books, Auditor(books, world.node))
    await story.play_all(Op("hire"))
    backup = Backup(world.place)
    await story.play_all(Op("pay"), Op("lease"))
    job = story.hired()
    books.close()
    await _deliver(world, job)
    _check_end(world)
    await world.stop(0)
    backup.restore()
    assert _read(world, "SELECT status FROM job") == [{"status": "open"}]
    world.clock.time += LIMITS.pay_seconds + 60
    await world.start(0)
    broker = world.working(0)
    assert broker is not None
    await world.ask(broker, broker.jobs.tick(), name="tick")
    await world.ask(broker, broker.reconciler.sweep(), name="sweep")
    _check_end(world)


async def test_a_database_from_before_the_hold_invoice_ends_settled(world: World) -> None:
    """The node refuses the hold invoice, as it has settled one under this hash: the job was paid for."""
    broker = world.working(0)
    assert broker is not None
    quote = await world.add_quote(broker, acceptance=Acceptance.AUTO)
    world.node.faults = [("add_hold", Fault.CRASH_BEFORE)]
    await world.ask(broker, broker.jobs.hire(BUYER, quote), name="hire")
    backup = Backup(world.place)
    await world.start(0)
    books = Books(world.place)
    story = Story(world, books, Auditor(books, world.node))
    await story.play_all(Op("pay"), Op("lease"))
    job = story.hired()
    books.close()
    await _deliver(world, job)
    _check_end(world)
    await world.stop(0)
    backup.restore()
    assert _read(world, "SELECT state FROM escrow") == [{"state": "created"}]
    await world.start(0)
    _check_end(world)


async def test_an_older_database_does_not_refund_while_the_payout_it_forgot_is_under_way(
    world: World,
) -> None:
    job = await _hire_and_lease(world)
    payment_hash = PaymentHash(job["payment_hash"])
    backup = Backup(world.place)
    world.node.outcomes[payment_hash] = [Outcome()]
    await _deliver(world, job)
    assert _read(world, "SELECT state FROM escrow") == [{"state": "forwarding"}]
    await world.stop(0)
    backup.restore()
    world.clock.time += WORK_SECONDS + 1
    await world.start(0)
    broker = world.working(0)
    assert broker is not None
    await world.ask(broker, broker.jobs.tick(), name="tick")
    assert world.node.holds[payment_hash].state is InvoiceState.ACCEPTED
    world.node.resolve(payment_hash, Outcome(fee_msat=1))
    await world.ask(broker, broker.reconciler.sweep(), name="sweep")
    _check_end(world)


# --- H2: refused attempts, not time, end a payout -------------------------------------------------------------


async def test_an_outage_after_the_release_refunds_nobody_while_blocks_are_left(story: Story) -> None:
    payment_hash = await _until_working(story)
    await story.play_all(Op("node_down"), Op("deliver"))
    assert _state(story) == ("releasing", "releasing")
    await _pass(story, 10 * LIMITS.forward_seconds)
    assert _state(story) == ("releasing", "releasing")
    await story.play_all(Op("node_up"), Op("sweep"))
    assert _state(story) == ("settled", "settled")
    assert payment_hash in story.world.node.paid_out


async def test_five_refused_attempts_and_the_forward_window_end_a_payout(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.node.outcomes[payment_hash] = [NO_ROUTE] * 6
    await story.play_all(Op("deliver"))
    for attempts in range(1, 5):
        escrow = story.books.rows("SELECT state, attempts FROM escrow")[0]
        assert escrow == {"state": "releasing", "attempts": attempts}
        await _pass(story, LIMITS.forward_seconds + 1)
    assert story.books.rows("SELECT state, attempts FROM escrow") == [{"state": "releasing", "attempts": 5}]
    await _pass(story, LIMITS.forward_seconds + 1)
    assert _state(story) == ("refunded", "canceled")
    assert await story.heal(diligent=True) == []


async def test_refused_attempts_alone_do_not_end_a_payout_within_its_window(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.node.outcomes[payment_hash] = [NO_ROUTE] * 6
    await story.play_all(Op("deliver"))
    for wait in (1, 2, 4, 8, 16):
        await _pass(story, wait)
    escrow = story.books.rows("SELECT state, attempts FROM escrow")[0]
    assert escrow == {"state": "releasing", "attempts": 6}
    await _pass(story, 32)
    assert _state(story) == ("settled", "settled")


# --- H3: the provider's invoice lives as long as it may be needed ---------------------------------------------


async def test_a_payment_that_is_noticed_late_still_pays_the_provider(story: Story) -> None:
    await story.play_all(Op("hire"), Op("kill", broker=0), Op("kill", broker=1), Op("pay"))
    story.world.clock.time += 6 * 3_600
    story.world.node.time_passes()
    await story.play_all(Op("start"))
    assert _state(story) == ("funded", "accepted")
    await story.play_all(Op("lease"), Op("deliver"))
    assert _state(story) == ("settled", "settled")


async def _until_disputed(story: Story) -> None:
    await _until_working(story, REVIEW)
    await story.play_all(Op("deliver"))
    story.world.clock.time += REVIEW_SECONDS - 5
    await story.play_all(Op("reject"))
    assert _state(story) == ("disputed", "accepted")


async def test_a_ruling_hours_after_the_rejection_pays_the_provider(story: Story) -> None:
    await _until_disputed(story)
    story.world.clock.time += 12 * 3_600
    await story.play_all(Op("rule", number=0))
    assert _state(story) == ("settled", "settled")


async def test_a_ruling_for_an_invoice_that_has_expired_is_refused_and_changes_nothing(story: Story) -> None:
    await _until_disputed(story)
    story.world.clock.time = START + invoice_seconds(
        LIMITS, work_seconds=WORK_SECONDS, review_seconds=REVIEW_SECONDS
    )
    broker = story.world.working(0)
    assert broker is not None
    with pytest.raises(WrongStatus, match="expired"):
        await broker.jobs.rule(story.hired()["id"], release=True, reason="good work")
    assert _state(story) == ("disputed", "accepted")
    await story.play_all(Op("rule", number=1))
    assert _state(story) == ("refunded", "canceled")


@pytest.mark.parametrize("margin", [8, 24, 40, 100])
@pytest.mark.parametrize("final_cltv", [18, 80, 144])
@pytest.mark.parametrize("work_seconds", [1, 600, 100_000])
def test_the_invoice_that_is_asked_for_outlives_the_last_moment_to_pay_it(
    work_seconds: int, final_cltv: int, margin: int
) -> None:
    limits = replace(LIMITS, guardian_margin_blocks=margin)
    timers = plan_timers(
        work_seconds=work_seconds,
        review_seconds=REVIEW_SECONDS,
        final_cltv=final_cltv,
        route_blocks=final_cltv + 40,
        hold_expiry_delta=HOLD_EXPIRY_DELTA,
        limits=limits,
    )
    held = timers.hold_cltv_blocks * limits.seconds_per_block
    lasts = invoice_seconds(limits, work_seconds=work_seconds, review_seconds=REVIEW_SECONDS)
    assert lasts >= timers.pay_seconds + held


# --- H4, H20: what was decided on an older state does not meet a newer one ------------------------------------


@asynccontextmanager
async def _late_jobs(story: Story) -> AsyncGenerator[tuple[Jobs, LateDatabase]]:
    world, broker = story.world, story.world.working(0)
    assert broker is not None
    database = LateDatabase(world.place)
    jobs = Jobs(
        database=database,
        clock=world.clock,
        ids=Ids(world.clock),
        signals=Signals(),
        escrows=broker.escrows,
        limits=LIMITS,
    )
    try:
        yield jobs, database
    finally:
        await database.close()


async def test_a_cancel_that_read_open_does_nothing_to_a_job_that_was_released_meanwhile(
    story: Story,
) -> None:
    await story.play_all(Op("hire"))
    async with _late_jobs(story) as (jobs, database):
        cancel = asyncio.create_task(jobs.cancel(BUYER, story.hired()["id"]))
        await asyncio.wait_for(database.waiting.wait(), 5)
        await story.play_all(Op("pay", broker=1), Op("lease", broker=1))
        story.world.node.faults = [("lookup", Fault.SLOW_BEFORE)]
        await story.play_all(Op("deliver", broker=1))
        assert _state(story) == ("releasing", "releasing")
        database.turn.set()
        with pytest.raises(WrongStatus):
            await asyncio.wait_for(cancel, 5)
    assert _state(story) == ("releasing", "releasing")
    await story.play_all(Op("deliver_letter"))
    assert _state(story) == ("settled", "settled")
    assert story.hired()["error_code"] is None


async def test_a_release_that_is_decided_is_not_taken_back_by_request(story: Story) -> None:
    await _until_working(story)
    story.world.node.faults = [("lookup", Fault.SLOW_BEFORE)]
    await story.play_all(Op("deliver"))
    broker = story.world.working(1)
    assert broker is not None
    with pytest.raises(WrongStatus):
        async with broker.database.write() as tx:
            await broker.escrows.ask_cancel(tx, JobId(story.hired()["id"]), reason="changed my mind")
    assert _state(story) == ("releasing", "releasing")


async def test_a_pay_window_that_ended_does_nothing_to_a_job_that_was_paid_for_meanwhile(
    story: Story,
) -> None:
    await story.play_all(Op("hire"))
    async with _late_jobs(story) as (jobs, database):
        story.world.clock.time += LIMITS.pay_seconds + 6
        tick = asyncio.create_task(jobs.tick())
        await asyncio.wait_for(database.waiting.wait(), 5)
        await story.play_all(Op("pay", broker=1))
        assert _state(story) == ("open", "open")  # the node has it expired by now
        story.world.clock.time -= 30
        await story.play_all(Op("pay", broker=1))
        assert _state(story) == ("funded", "accepted")
        database.turn.set()
        await asyncio.wait_for(tick, 5)
    assert _state(story) == ("funded", "accepted")


async def test_a_rejection_that_an_acceptance_has_overtaken_is_refused(story: Story) -> None:
    await _until_working(story, REVIEW)
    await story.play_all(Op("deliver"))
    async with _late_jobs(story) as (jobs, database):
        reject = asyncio.create_task(jobs.reject(BUYER, story.hired()["id"], reason="no"))
        await asyncio.wait_for(database.waiting.wait(), 5)
        await story.play_all(Op("accept", broker=1))
        database.turn.set()
        with pytest.raises(WrongStatus):
            await asyncio.wait_for(reject, 5)
    assert story.hired()["status"] == JobStatus.SETTLED


# --- H9: a clock that is put back ------------------------------------------------------------------------------


async def test_a_retry_that_was_set_by_a_clock_that_ran_ahead_is_made(story: Story) -> None:
    payment_hash = await _until_working(story)
    story.world.node.outcomes[payment_hash] = [NO_ROUTE]
    await story.play_all(Op("deliver"))
    assert _state(story) == ("releasing", "releasing")
    story.world.clock.time -= 3_600
    await story.play_all(Op("sweep"))
    assert _state(story) == ("settled", "settled")
