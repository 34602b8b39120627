"""Brokers on one database and one faulty node, with a clock that tests move."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from databases import Template, WrappedDatabase
from faulty_node import HOLD_EXPIRY_DELTA, OWN_NODE, ROUTE_BLOCKS, Crash, FaultyNode
from faulty_port import Port
from pydantic import JsonValue

from lightwork_broker.clock import Clock, Ids
from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import is_server, open_database
from lightwork_broker.errors import BrokerError
from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.escrow.reconcile import Reconciler, RecoveryFailed
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.underwriting import EscrowUnderwriter
from lightwork_broker.escrow.wrap import Limits, invoice_seconds, plan_timers, price_credit, price_job
from lightwork_broker.jobs.events import JobReader
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.market import quote_store
from lightwork_broker.market.quote_store import Quote, QuoteStatus
from lightwork_broker.market.quotes import Quotes
from lightwork_broker.market.service import Market
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.signals import Signals
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import ListingId, QuoteId, sortable_id
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, sign_listing
from lightwork_contracts.signed.quote import QuoteTerms, sign_quote
from lightwork_contracts.status import Acceptance

START = 1_800_000_000.0
WORK_SECONDS = 600
REVIEW_SECONDS = 300
LEASE_SECONDS = 15
FINAL_CLTV = 24
PRICE = Msat(10_000)
PATIENCE_SECONDS = 30
"""How long anything in here may take by the real clock before a test is considered stuck."""

BROKER_KEY = SecretKey.from_hex("11" * 32)
BUYER_KEY = SecretKey.from_hex("22" * 32)
PROVIDER_KEY = SecretKey.from_hex("33" * 32)
PROVIDER_NODE_KEY = bytes([0x44]) * 32
PREIMAGES = CreditPreimages(BROKER_KEY)

LIMITS = Limits(
    network="regtest",
    own_node=OWN_NODE,
    fee_base_msat=Msat(1_000),
    fee_ppm=10_000,
    min_price_msat=Msat(1_000),
    max_price_msat=Msat(1_000_000_000),
    routing_floor_msat=Msat(1_000),
    routing_cap_ppm=20_000,
    max_final_cltv=144,
    max_hold_cltv=1_000,
    guardian_margin_blocks=24,
    pay_seconds=120,
    forward_seconds=120,
    seconds_per_block=600,
    # Two jobs and no third.
    credit_ceiling_msat=Msat(20_000),
    held_msat_of_peer=Msat(10_000_000_000),
)

T = TypeVar("T")


class ManualClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class BrokersClock:
    """The clock of the brokers' machine, which may be wrong; the node and the people have the right one."""

    def __init__(self, right: ManualClock) -> None:
        self._right = right
        self.wrong_by = 0.0

    def now(self) -> float:
        return self._right.now() + self.wrong_by


class CountedIds(Ids):
    """Ids without randomness, so that a run can be repeated."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self._manual = clock
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        entropy = self._count.to_bytes(10, "big")
        return sortable_id(prefix, now_ms=int(self._manual.now() * 1000), entropy=entropy)


class Activity:
    """Counts open transactions: with none open, every task waits for a test to do something."""

    def __init__(self) -> None:
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def busy(self) -> Generator[None]:
        self._open += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._open -= 1
            if self._open == 0:
                self._idle.set()

    async def calm(self) -> None:
        """Return when nothing moves by itself any more."""
        quiet = 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while quiet < 12:
                if self._open:
                    quiet = 0
                    await self._idle.wait()
                else:
                    quiet += 1
                    await asyncio.sleep(0)


class MortalDatabase(WrappedDatabase):
    """A broker's database; with the broker dead, nothing is committed any more."""

    def __init__(self, place: str, *, activity: Activity, port: Port) -> None:
        super().__init__(open_database(place))
        self._activity = activity
        self._port = port

    @asynccontextmanager
    async def door(self, opened: AbstractAsyncContextManager[Transaction]) -> AsyncGenerator[Transaction]:
        self._live()
        with self._activity.busy():
            async with opened as tx:
                yield tx
                self._live()

    def _live(self) -> None:
        if self._port.dead:
            raise Crash


class Broker:
    """One broker process: every room that moves money, wired as the composition root does."""

    def __init__(self, place: str, node: FaultyNode, *, clock: Clock, ids: Ids, activity: Activity) -> None:
        self.port = Port(node)
        self.up = False
        self.database = MortalDatabase(place, activity=activity, port=self.port)
        signals = Signals()
        self.market = Market(
            database=self.database, clock=clock, ids=ids, max_price_msat=LIMITS.max_price_msat
        )
        self.gate = PayoutGate()
        self.escrows = EscrowService(
            database=self.database,
            node=self.port,
            clock=clock,
            limits=LIMITS,
            preimages=PREIMAGES,
            gate=self.gate,
        )
        self.quotes = Quotes(
            database=self.database,
            clock=clock,
            ids=ids,
            signals=signals,
            market=self.market,
            underwriter=EscrowUnderwriter(
                database=self.database,
                node=self.port,
                escrows=self.escrows,
                clock=clock,
                limits=LIMITS,
                preimages=PREIMAGES,
            ),
            key=BROKER_KEY,
            node=OWN_NODE,
        )
        self.jobs = Jobs(
            database=self.database,
            clock=clock,
            ids=ids,
            signals=signals,
            escrows=self.escrows,
            limits=LIMITS,
        )
        self.escrows.attach(self.jobs)
        self.queue = WorkQueue(
            database=self.database,
            clock=clock,
            signals=signals,
            market=self.market,
            quotes=self.quotes,
            jobs=self.jobs,
            lease_seconds=LEASE_SECONDS,
        )
        self.reader = JobReader(
            database=self.database, steady=clock.now, signals=signals, jobs=self.jobs, quotes=self.quotes
        )
        self.reconciler = Reconciler(
            database=self.database, node=self.port, escrows=self.escrows, clock=clock, sweep_seconds=10
        )

    async def boot(self) -> None:
        await self.reconciler.boot(patience_seconds=0)
        self.up = True

    async def bury(self) -> None:
        """Take away what a dead process leaves: its tasks and its connections."""
        self.up = False
        self.port.dead = True
        await self.escrows.close()
        await self.database.close()


@dataclass
class World:
    """The brokers, the node, and everything that was asked of the brokers and is not answered yet."""

    place: str
    """Where the database is, as the broker's setting says it."""
    clock: ManualClock
    brokers_clock: BrokersClock
    node: FaultyNode
    activity: Activity
    ids: CountedIds
    listings: dict[Acceptance, ListingId]
    brokers: list[Broker | None] = field(default_factory=list["Broker | None"])
    asked: dict[asyncio.Task[object], Broker] = field(default_factory=dict["asyncio.Task[object]", Broker])
    surprises: list[str] = field(default_factory=list[str])
    quotes: int = 0

    @property
    def path(self) -> Path:
        """The database's file; a test that asks for it is about SQLite."""
        assert not is_server(self.place), "there is no file"
        return Path(self.place)

    async def calm(self) -> None:
        """Wait until nothing moves, bury the brokers that crashed meanwhile, and read what was answered."""
        await self.activity.calm()
        for index, broker in enumerate(self.brokers):
            if broker is not None and broker.port.dead:
                await self.stop(index)
        for task in [task for task in self.asked if task.done()]:
            broker = self.asked.pop(task)
            error = None if task.cancelled() else task.exception()
            if isinstance(error, RecoveryFailed):
                await self.stop(self.brokers.index(broker))
            elif error is not None and not isinstance(error, BrokerError | Crash):
                self.surprises.append(f"{task.get_name()}: {error!r}")

    async def ask(self, broker: Broker, work: Coroutine[None, None, object], *, name: str) -> None:
        """Start a call of a client; it may stay unanswered for as long as the node is slow."""
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self.asked[task] = broker
        await self.calm()

    async def start(self, index: int) -> None:
        if self.brokers[index] is None:
            broker = Broker(
                self.place, self.node, clock=self.brokers_clock, ids=self.ids, activity=self.activity
            )
            self.brokers[index] = broker
            await self.ask(broker, broker.boot(), name="boot")

    async def stop(self, index: int) -> None:
        """Kill a broker: everything that it was doing ends where it is."""
        broker = self.brokers[index]
        if broker is None:
            return
        self.brokers[index] = None
        broker.port.dead = True
        mine = [task for task, owner in self.asked.items() if owner is broker]
        for task in mine:
            task.cancel()
            del self.asked[task]
        await asyncio.gather(*mine, return_exceptions=True)
        await broker.bury()

    def working(self, index: int) -> Broker | None:
        """Return a broker that serves requests."""
        broker = self.brokers[index % len(self.brokers)]
        return broker if broker is not None and broker.up and not broker.port.dead else None

    def serving(self, index: int = 0) -> Broker:
        """Return a broker that must serve requests by now."""
        broker = self.working(index)
        assert broker is not None
        return broker

    async def add_quote(
        self,
        broker: Broker,
        *,
        acceptance: Acceptance,
        price: Msat = PRICE,
        mode: PaymentMode = PaymentMode.ESCROW,
    ) -> Quote:
        """Store an answered quote, as `Quotes` does, with a real invoice of the provider's wallet if it needs one."""
        credit = mode is PaymentMode.CREDIT
        self.quotes += 1
        now = int(self.clock.now())
        review = REVIEW_SECONDS if acceptance is Acceptance.REVIEW else 0
        listing_id = self.listings[acceptance]
        task_input = {"text": f"job {self.quotes}"}
        quote_id = QuoteId(self.ids.new("qte"))
        if credit:
            payment_hash = PREIMAGES.hash_for(quote_id)
            terms = price_credit(price_msat=price, limits=LIMITS)
        else:
            payment_hash = self.node.provider_hash(f"preimage {self.quotes}")
            terms = price_job(price_msat=price, route_fee_msat=Msat(0), limits=LIMITS)
        timers = plan_timers(
            work_seconds=WORK_SECONDS,
            review_seconds=review,
            final_cltv=FINAL_CLTV,
            route_blocks=ROUTE_BLOCKS + FINAL_CLTV,
            hold_expiry_delta=HOLD_EXPIRY_DELTA,
            limits=LIMITS,
        )
        invoice = write_invoice(
            network=Network.REGTEST,
            amount_msat=price,
            timestamp=now,
            payment_hash=payment_hash,
            payment_secret=hashlib.sha256(payment_hash.encode()).hexdigest(),
            private_key=PROVIDER_NODE_KEY,
            description="a job",
            expiry_seconds=invoice_seconds(LIMITS, work_seconds=WORK_SECONDS, review_seconds=review),
            min_final_cltv=FINAL_CLTV,
        )
        commitment = sign_commitment(
            Commitment(
                quote_id=quote_id,
                listing_id=listing_id,
                listing_version=1,
                input_hash=input_hash(dict(task_input)),
                price_msat=price,
                mode=mode,
                payment_hash=None if credit else payment_hash,
                invoice=None if credit else invoice,
                expires_at=now + 60,
            ),
            key=PROVIDER_KEY,
            created_at=now,
        )
        signed = sign_quote(
            QuoteTerms(
                quote_id=quote_id,
                listing_id=listing_id,
                listing_version=1,
                input_hash=input_hash(dict(task_input)),
                buyer=BUYER_KEY.public,
                provider=PROVIDER_KEY.public,
                price_msat=price,
                fee_msat=terms.fee_msat,
                routing_msat=terms.routing_msat,
                total_msat=terms.total_msat,
                payment_hash=payment_hash,
                pay_seconds=timers.pay_seconds,
                work_seconds=WORK_SECONDS,
                review_seconds=review,
                forward_seconds=timers.forward_seconds,
                hold_cltv_blocks=timers.hold_cltv_blocks,
                acceptance=acceptance,
                mode=mode,
                created_at=now,
                expires_at=now + 60,
                broker_node=OWN_NODE,
            ),
            key=BROKER_KEY,
        )
        quote = Quote(
            id=quote_id,
            status=QuoteStatus.ANSWERED,
            buyer=BUYER_KEY.public,
            provider=PROVIDER_KEY.public,
            listing_id=listing_id,
            listing_version=1,
            task="echo",
            input=json.dumps(task_input),
            input_hash=input_hash(dict(task_input)),
            request_hash="00" * 32,
            answer_by=self.clock.now(),
            price_msat=price,
            fee_msat=terms.fee_msat,
            routing_msat=terms.routing_msat,
            payment_hash=payment_hash,
            provider_invoice=None if credit else invoice,
            outgoing_cltv_blocks=0 if credit else timers.outgoing_cltv_blocks,
            event=signed.model_dump_json(),
            commitment=commitment.model_dump_json(),
            expires_at=now + 60,
            created_at=self.clock.now(),
        )
        async with broker.database.write() as tx:
            await quote_store.insert(tx, quote)
        return quote

    async def close(self) -> None:
        for letter in self.node.wire:
            letter.drop()
        for index in range(len(self.brokers)):
            await self.stop(index)


@asynccontextmanager
async def open_world(template: Template, folder: Path, *, brokers: int) -> AsyncGenerator[World]:
    """Open a world of its own on a copy of the template, with its brokers running."""
    clock = ManualClock()
    world = World(
        place=template.copy(folder),
        clock=clock,
        brokers_clock=BrokersClock(clock),
        node=FaultyNode(clock),
        activity=Activity(),
        ids=CountedIds(clock),
        listings={},
        brokers=[None] * brokers,
    )
    try:
        for index in range(brokers):
            await world.start(index)
        first = world.working(0)
        if first is None:
            raise AssertionError("the broker did not start")
        for acceptance in Acceptance:
            listing = await first.market.publish(PROVIDER_KEY.public, _listing(acceptance))
            world.listings[acceptance] = listing.id
        yield world
    finally:
        await world.close()


def _listing(acceptance: Acceptance) -> SignedEvent:
    schema: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    }
    content = ListingContent(
        name=f"echo-{acceptance}",
        description="Return the text unchanged.",
        agent_name="echo",
        input_schema=schema,
        output_schema={"type": "string"},
        price=FixedPrice(msat=PRICE),
        acceptance=acceptance,
        work_seconds=WORK_SECONDS,
        review_seconds=REVIEW_SECONDS if acceptance is Acceptance.REVIEW else 0,
    )
    return sign_listing(content, key=PROVIDER_KEY, created_at=int(START))
