"""What a hostile review found about staying alive and serving, kept as promises: each test is named for one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from databases import Template
from escrow_checks import Books
from escrow_story import BUYER, PROVIDER, Op, Story
from escrow_world import (
    BROKER_KEY,
    LEASE_SECONDS,
    LIMITS,
    PREIMAGES,
    PRICE,
    PROVIDER_KEY,
    PROVIDER_NODE_KEY,
    REVIEW_SECONDS,
    WORK_SECONDS,
    Broker,
    ManualClock,
    World,
    open_world,
)
from fast_folder import fast_folder
from faulty_node import Fault, FaultyNode
from faulty_port import Port

from lightwork_broker.app import Rooms, create_app
from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.errors import InvoiceRefused, LightningDown, WrongStatus, code_of
from lightwork_broker.escrow.machine import EscrowEvent
from lightwork_broker.escrow.reconcile import RecoveryFailed, probe_permissions, require_permissions
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.escrow.underwriting import EscrowUnderwriter
from lightwork_broker.escrow.wrap import invoice_seconds
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.lightning.ports import Allowance, NodeSummary, Payout, PayoutStatus
from lightwork_broker.market.quotes import Quotes
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import JobId, ListingId, PaymentHash, QuoteId
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.jobs import PollWork
from lightwork_contracts.wire.market import RequestQuote

PATIENCE_SECONDS = 5
INPUT = {"text": "hello"}


@pytest.fixture
async def world(template: Template) -> AsyncGenerator[World]:
    """A world without an auditor, for tests that write into its database."""
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as opened:
            yield opened


async def _still_there() -> bool:
    return False


def _rows(world: World, sql: str) -> list[dict[str, Any]]:
    books = Books(world.place)
    try:
        return books.rows(sql)
    finally:
        books.close()


def _statuses(world: World) -> dict[str, str]:
    return {row["id"]: row["status"] for row in _rows(world, "SELECT id, status FROM job ORDER BY id")}


# --- H7: a stuck payout -----------------------------------------------------------------------------------------


async def test_sweeping_over_a_stuck_payout_again_and_again_keeps_one_task_for_it(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    story.world.node.faults = [("pay", Fault.SLOW_BEFORE)]
    await story.play_all(Op("deliver"))
    job = story.job(0)
    assert job is not None
    for _ in range(30):
        await story.play_all(Op("sweep"))
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert names.count(f"escrow {job['id']}") <= 1
    await story.play_all(Op("deliver_letter"))
    assert story.books.rows("SELECT state FROM escrow") == [{"state": "settled"}]


# --- H8: a broker that was away ---------------------------------------------------------------------------------


@asynccontextmanager
async def _application(
    folder: Path, node: Port, clock: ManualClock, *, database: Database | None = None
) -> AsyncGenerator[Rooms]:
    """The whole broker as it is served, but for the socket."""
    settings = BrokerSettings(
        data_dir=folder,
        lease_seconds=LEASE_SECONDS,
        # Wider than when the escrows were opened: delivered work must be paid for all the same.
        guardian_margin_blocks=LIMITS.guardian_margin_blocks + 16,
    )
    app = create_app(settings, node, clock=clock, database=database)
    async with app.router.lifespan_context(app):
        rooms = app.state.rooms
        assert isinstance(rooms, Rooms)
        yield rooms


async def test_a_provider_that_worked_on_while_the_broker_was_away_delivers(
    story: Story, tmp_path: Path
) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"), Op("kill"))
    job = story.job(0)
    assert job is not None
    world = story.world
    world.clock.time += LEASE_SECONDS + 1
    world.node.observer = None  # it knows no probes for a hash that nobody has
    database = open_database(world.place)
    async with _application(tmp_path, Port(world.node), world.clock, database=database) as rooms:
        await rooms.jobs.tick()
        beat = await rooms.queue.heartbeat(PROVIDER, job["id"], epoch=job["epoch"], progress=0.5, note=None)
        assert not beat.stop
        await rooms.queue.deliver(PROVIDER, job["id"], epoch=job["epoch"], result="done")
        await rooms.escrows.drive(JobId(job["id"]))
        await story.world.activity.calm()
        settled = await rooms.jobs.get(job["id"])
    assert (settled.status, settled.leases_lost) == ("settled", 0)
    assert await story.heal(diligent=True) == []


# --- H11: one bad item ------------------------------------------------------------------------------------------


async def _deliver_two(world: World) -> list[JobId]:
    """Bring two jobs to the buyer's review."""
    broker, jobs = world.serving(), list[JobId]()
    for _ in range(2):
        quote = await world.add_quote(broker, acceptance=Acceptance.REVIEW)
        job = await broker.jobs.hire(BUYER, quote)
        world.node.buyer_pays(job.payment_hash, world.node.holds[job.payment_hash].value_msat)
        await world.calm()
        work = await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_jobs=1), gone=_still_there)
        assert [item.kind for item in work.work] == ["job"]
        await broker.queue.deliver(PROVIDER, job.id, epoch=1, result="done")
        jobs.append(job.id)
    await world.calm()
    assert set(_statuses(world).values()) == {"delivered"}
    return jobs


@pytest.mark.parametrize("broken", [0, 1])
async def test_a_job_that_cannot_be_moved_does_not_keep_the_next_one_from_its_end(
    world: World, broken: int
) -> None:
    jobs = await _deliver_two(world)
    books = Books(world.place)
    books.unguard("escrow")
    books.change("UPDATE escrow SET state = 'canceling' WHERE id = ?", jobs[broken])
    books.close()
    world.clock.time += REVIEW_SECONDS + 1
    await world.serving().jobs.tick()
    await world.calm()
    assert _statuses(world) == {jobs[broken]: "delivered", jobs[1 - broken]: "settled"}


class Refusing:
    """The jobs' listener, but one job has moved on whenever its time is over."""

    def __init__(self, jobs: Jobs, *, refused: JobId) -> None:
        self._jobs = jobs
        self._refused = refused

    async def escrow_changed(self, tx: Transaction, escrow: Escrow, event: EscrowEvent) -> None:
        await self._jobs.escrow_changed(tx, escrow, event)

    async def escrow_out_of_time(self, escrow_id: JobId) -> None:
        if escrow_id == self._refused:
            raise WrongStatus("the job has moved on meanwhile")
        await self._jobs.escrow_out_of_time(escrow_id)


@pytest.mark.parametrize("broken", [0, 1])
async def test_an_escrow_that_moved_on_does_not_keep_the_guardian_from_the_next_one(
    world: World, broken: int
) -> None:
    jobs = await _deliver_two(world)
    broker = world.serving()
    broker.escrows.attach(Refusing(broker.jobs, refused=jobs[broken]))
    release_by = max(row["release_by"] for row in _rows(world, "SELECT release_by FROM escrow"))
    world.node.height = release_by
    await broker.escrows.guard(release_by)
    await world.calm()
    assert _statuses(world) == {jobs[broken]: "delivered", jobs[1 - broken]: "settled"}


# --- H12: a node that the broker cannot work with ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"), [("lookup", "look up invoices"), ("track", "track payments"), ("cancel", "cancel")]
)
async def test_a_macaroon_that_lacks_a_permission_is_named_before_anything_is_held(
    call: str, says: str
) -> None:
    node = FaultyNode(ManualClock())
    node.faults = [(call, Fault.NO_PERMISSION)]
    with pytest.raises(RecoveryFailed, match=says):
        await probe_permissions(Port(node))


async def test_the_probe_changes_nothing_on_a_node_that_allows_everything() -> None:
    node = FaultyNode(ManualClock())
    await probe_permissions(Port(node))
    assert (node.holds, node.payments) == ({}, {})


@pytest.mark.parametrize("forgets", [True, False])
async def test_a_node_that_keeps_no_record_of_htlcs_is_warned_of_with_the_setting_that_helps(
    forgets: bool,
) -> None:
    node = FaultyNode(ManualClock())
    node.allowance = Allowance(forgets_htlcs=forgets)
    with structlog.testing.capture_logs() as lines:
        await require_permissions(Port(node))
    assert [line["event"] for line in lines] == ["node.forgets_htlcs"] * forgets
    assert all("store-final-htlc-resolutions=true" in line["hint"] for line in lines)


async def test_a_broker_without_the_permission_to_cancel_does_not_start(tmp_path: Path) -> None:
    clock = ManualClock()
    node = FaultyNode(clock)
    node.faults = [("cancel", Fault.NO_PERMISSION)]
    with pytest.raises(RecoveryFailed, match="cancel invoices"):
        async with _application(tmp_path, Port(node), clock):
            pass


async def test_a_broker_whose_recovery_gets_no_answer_does_not_start(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("kill"), Op("node_down"), Op("start"))
    # What it owes could not be compared with its node, so it serves nobody.
    assert story.world.brokers == [None]
    await story.play_all(Op("node_up"), Op("start"))
    assert story.world.working(0) is not None


class Unsynced(Port):
    async def summary(self) -> NodeSummary:
        return replace(await super().summary(), synced_to_chain=False)


def _commit(world: World, *, quote_id: QuoteId, listing_id: ListingId) -> SignedEvent:
    """Answer a quote as a provider does, with an invoice of its own wallet."""
    now = int(world.clock.now())
    payment_hash = world.node.provider_hash(f"answer to {quote_id}")
    invoice = write_invoice(
        network=Network.REGTEST,
        amount_msat=PRICE,
        timestamp=now,
        payment_hash=payment_hash,
        payment_secret=hashlib.sha256(payment_hash.encode()).hexdigest(),
        private_key=PROVIDER_NODE_KEY,
        description="a job",
        expiry_seconds=invoice_seconds(LIMITS, work_seconds=WORK_SECONDS, review_seconds=0),
        min_final_cltv=24,
    )
    commitment = Commitment(
        quote_id=quote_id,
        listing_id=listing_id,
        listing_version=1,
        input_hash=input_hash(dict(INPUT)),
        price_msat=PRICE,
        payment_hash=payment_hash,
        invoice=invoice,
        expires_at=now + 60,
    )
    return sign_commitment(commitment, key=PROVIDER_KEY, created_at=now)


async def _asked(world: World, quotes: Quotes, *, key: str | None = None) -> asyncio.Task[Any]:
    """Ask for a quote, as a buyer that waits for it."""
    request = RequestQuote(listing_id=world.listings[Acceptance.AUTO], input=dict(INPUT))
    task = asyncio.create_task(quotes.request(BUYER, request, key=key))
    await world.activity.calm()
    return task


async def _taken(broker: Broker) -> QuoteId:
    """Take the quote that waits for the provider."""
    work = await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_quotes=1), gone=_still_there)
    (item,) = work.work
    assert item.kind == "quote"
    return item.quote_id


@pytest.mark.parametrize("synced", [True, False])
async def test_nothing_is_quoted_on_a_node_that_does_not_know_the_present_height(
    world: World, *, synced: bool
) -> None:
    broker = world.serving()
    node = Port(world.node) if synced else Unsynced(world.node)
    underwriter = EscrowUnderwriter(
        database=broker.database,
        node=node,
        escrows=broker.escrows,
        clock=world.clock,
        limits=LIMITS,
        preimages=PREIMAGES,
    )
    listing = await broker.market.get(world.listings[Acceptance.AUTO], version=1)
    event = _commit(world, quote_id=QuoteId(world.ids.new("qte")), listing_id=listing.id)
    commitment = Commitment.model_validate_json(event.content)
    if synced:
        assert (await underwriter.underwrite(commitment, listing)).pay_seconds == LIMITS.pay_seconds
    else:
        with pytest.raises(LightningDown, match="not synced"):
            await underwriter.underwrite(commitment, listing)


# --- a hash that the node has used for something else -------------------------------------------------------------


class SilentAboutPayments(Port):
    async def track(self, payment_hash: PaymentHash) -> Payout:
        return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)


@pytest.mark.parametrize("known_as", ["payment", "invoice", "silence"])
async def test_nothing_is_quoted_on_a_hash_that_the_node_has_paid_or_has_an_invoice_for(
    world: World, known_as: str
) -> None:
    # A payment of the node's past would pass for the payout: the buyer would be charged for a job that failed.
    broker = world.serving()
    underwriter = EscrowUnderwriter(
        database=broker.database,
        node=SilentAboutPayments(world.node) if known_as == "silence" else Port(world.node),
        escrows=broker.escrows,
        clock=world.clock,
        limits=LIMITS,
        preimages=PREIMAGES,
    )
    listing = await broker.market.get(world.listings[Acceptance.AUTO], version=1)
    event = _commit(world, quote_id=QuoteId(world.ids.new("qte")), listing_id=listing.id)
    commitment = Commitment.model_validate_json(event.content)
    assert commitment.invoice is not None
    assert commitment.payment_hash is not None
    match known_as:
        case "payment":
            world.node.pay(commitment.invoice, commitment.payment_hash, fee_limit_msat=100, cltv_limit=500)
        case "invoice":
            world.node.add_hold(commitment.payment_hash, 5, 600, 80, "of somebody else")
        case _:
            with pytest.raises(LightningDown):
                await underwriter.underwrite(commitment, listing)
            return
    with pytest.raises(InvoiceRefused) as caught:
        await underwriter.underwrite(commitment, listing)
    assert code_of(caught.value) == "invoice_hash_used"


# --- H19: the same request again --------------------------------------------------------------------------------


async def test_the_same_request_again_waits_for_the_answer_to_the_first(world: World) -> None:
    broker = world.serving()
    await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0), gone=_still_there)
    first = await _asked(world, broker.quotes, key="one key")
    second = await _asked(world, broker.quotes, key="one key")
    quote_id = await _taken(broker)
    assert not first.done()
    assert not second.done()
    event = _commit(world, quote_id=quote_id, listing_id=world.listings[Acceptance.AUTO])
    await broker.quotes.answer(PROVIDER, quote_id, event)
    answers = await asyncio.wait_for(asyncio.gather(first, second), PATIENCE_SECONDS)
    assert [answer.id for answer in answers] == [quote_id, quote_id]
    assert answers[0].event == answers[1].event
    assert _rows(world, "SELECT COUNT(*) AS quotes FROM quote") == [{"quotes": 1}]
    assert BROKER_KEY.public in answers[0].event
