"""A list of operations played on a world, with every check after each, and a happy or sad end enforced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog.testing
from databases import Template
from escrow_checks import Auditor, Books
from escrow_world import BUYER_KEY, LIMITS, PROVIDER_KEY, Broker, World, open_world
from fast_folder import fast_folder
from faulty_node import Fault, Outcome

from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_broker.watchdog import acknowledge
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.jobs import PollWork

BUYER, PROVIDER = BUYER_KEY.public, PROVIDER_KEY.public
BLOCKS = (1, 1, 1, 2, 5, 12, 30, 120)
SECONDS = (1, 1, 2, 5, 5, 11, 11, 16, 31, 31, 61, 121, 301)
FAILURES = (
    PayoutFailure.NO_ROUTE,
    PayoutFailure.TIMEOUT,
    PayoutFailure.INSUFFICIENT_BALANCE,
    PayoutFailure.INCORRECT_PAYMENT_DETAILS,
)
FAULTY_CALLS = (
    "pay",
    "pay",
    "settle",
    "cancel",
    "add_hold",
    "track",
    "lookup",
    "wait",
    "summary",
    "waiting_htlcs",
    None,
)
PREDICTED = ("job.escrow_disagrees", "escrow.settled_while_canceling")
"""Log lines that must never be written: what they tell of is a breach."""


@dataclass(frozen=True, slots=True)
class Op:
    """One step: its name, which job and which broker it is about, and a number that it reads as it likes."""

    name: str
    job: int = 0
    broker: int = 0
    number: int = 0


OPS: dict[str, int] = {
    "hire": 5,
    "progress": 16,
    "pay": 2,
    "pay_short": 1,
    "lease": 2,
    "heartbeat": 1,
    "deliver": 2,
    "stale_deliver": 1,
    "fail": 1,
    "cancel": 2,
    "accept": 1,
    "reject": 2,
    "rule": 2,
    "acknowledge": 1,
    "plan": 5,
    "resolve": 3,
    "mine": 3,
    "wait": 4,
    "fault": 9,
    "deliver_letter": 4,
    "drop_letter": 1,
    "node_down": 1,
    "node_up": 1,
    "kill": 2,
    "start": 3,
    "sweep": 4,
    "tick": 2,
    "replay": 2,
    "race": 3,
    "cut_streams": 1,
    "crowd": 2,
}
"""Every operation and how often it is wanted."""


@dataclass
class Story:
    world: World
    books: Books
    auditor: Auditor
    jobs: list[JobId] = field(default_factory=list[JobId])
    told: list[str] = field(default_factory=list[str])
    reached: set[str] = field(default_factory=set[str])
    weak_block: bool = False

    # --- reading ----------------------------------------------------------------------------------------

    def job(self, index: int) -> dict[str, Any] | None:
        found = self.books.rows("SELECT * FROM job ORDER BY id")
        return found[index % len(found)] if found else None

    def hired(self, index: int = 0) -> dict[str, Any]:
        """Return the row of a job that must be there."""
        job = self.job(index)
        assert job is not None
        return job

    # --- playing ----------------------------------------------------------------------------------------

    async def play(self, op: Op) -> list[str]:
        """Do one operation, let everything come to rest, and return every breach."""
        with structlog.testing.capture_logs() as logs:
            try:
                await self._do(op)
                await self.world.calm()
            except TimeoutError:
                return [*self.auditor.check(), "the brokers never come to rest"]
        await self._read_logs(logs)
        await self._read_views()
        for row in self.books.rows("SELECT state FROM escrow"):
            self.reached.add(row["state"])
        return [*self.auditor.check(), *self.world.surprises]

    async def play_all(self, *script: Op) -> None:
        """Play one operation after the other, none of which may breach anything."""
        for op in script:
            assert await self.play(op) == [], op

    async def _do(self, op: Op) -> None:
        world, node = self.world, self.world.node
        broker = world.working(op.broker)
        job = self.job(op.job)
        match op.name:
            case "mine":
                await self._mine(BLOCKS[op.number % len(BLOCKS)])
            case "wait":
                world.clock.time += SECONDS[op.number % len(SECONDS)]
                node.time_passes()
                await self._background()
            case "fault":
                faults = list(Fault)
                name = FAULTY_CALLS[op.number % len(FAULTY_CALLS)]
                node.faults = [*node.faults[-2:], (name, faults[(op.number // 16 + op.job) % len(faults)])]
            case "deliver_letter" if node.wire:
                node.wire.pop(op.number % len(node.wire)).deliver()
            case "drop_letter" if node.wire:
                node.wire.pop(op.number % len(node.wire)).drop()
            case "node_down":
                node.down = True
            case "node_up":
                node.down = False
            case "cut_streams":
                node.end_streams()
            case "crowd":
                node.forwarded_msat = LIMITS.held_msat_of_peer * (op.number % 2)
            case "kill":
                await world.stop(op.broker % len(world.brokers))
            case "start":
                await world.start(op.broker % len(world.brokers))
            case "hire" if broker is not None:
                await self._hire(broker, op.number)
            case "race":
                await self._race(op)
            case _ if job is not None:
                await self._act(op, job, broker)
            case _:
                return

    async def _act(self, op: Op, job: dict[str, Any], broker: Broker | None) -> None:
        node = self.world.node
        payment_hash = PaymentHash(job["payment_hash"])
        match op.name:
            case "progress":
                await self._progress(op, job, broker)
            case "pay" if job["invoice"] is not None:
                node.buyer_pays(payment_hash, node.holds[payment_hash].value_msat + op.number % 3)
            case "pay_short" if job["invoice"] is not None:
                node.buyer_pays(payment_hash, node.holds[payment_hash].value_msat // 2)
            case "plan":
                node.outcomes[payment_hash] = [_outcome(op.number), _outcome(op.number // 7)]
            case "resolve":
                node.resolve(payment_hash, _ending(op.number))
            case "replay" if broker is not None and (seen := node.seen.get(payment_hash)):
                await self._ask(
                    broker,
                    broker.escrows.observe(seen[op.number % len(seen)], escrow_id=job["id"]),
                    "late news",
                )
            case _ if broker is not None:
                work = self._call(op, job, broker)
                if work is not None:
                    await self._ask(broker, work, op.name)
            case _:
                return

    def _call(self, op: Op, job: dict[str, Any], broker: Broker) -> Coroutine[None, None, object] | None:
        """Return what a party may ask of a broker; whether it is allowed is for the broker to say."""
        job_id, epoch = job["id"], job["epoch"]
        match op.name:
            case "lease":
                return broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_jobs=2), gone=_still_there)
            case "heartbeat":
                return broker.queue.heartbeat(PROVIDER, job_id, epoch=epoch, progress=0.5, note="on it")
            case "deliver":
                return broker.queue.deliver(PROVIDER, job_id, epoch=epoch, result=f"result {op.number}")
            case "stale_deliver":
                return broker.queue.deliver(PROVIDER, job_id, epoch=epoch - 1, result="late")
            case "fail":
                return broker.queue.fail(PROVIDER, job_id, epoch=epoch, code="failed", message="could not")
            case "cancel":
                return broker.jobs.cancel(BUYER, job_id)
            case "accept":
                return broker.jobs.accept(BUYER, job_id)
            case "reject":
                return broker.jobs.reject(BUYER, job_id, reason="wrong")
            case "rule":
                return broker.jobs.rule(job_id, release=op.number % 2 == 0, reason="looked at it")
            case "acknowledge":
                return acknowledge(broker.database, now=self.world.clock.now())
            case "sweep":
                return _pass(broker)
            case "tick":
                return broker.jobs.tick()
            case _:
                return None

    async def _progress(self, op: Op, job: dict[str, Any], broker: Broker | None) -> None:
        """Do what this job waits for."""
        payment_hash = PaymentHash(job["payment_hash"])
        next_name = {
            "open": "pay",
            "funded": "lease",
            "working": "deliver",
            "delivered": "accept" if op.number % 3 else "reject",
            "disputed": "rule",
        }.get(job["status"], "sweep")
        payment = self.world.node.payments.get(payment_hash)
        if job["status"] == "releasing" and payment is not None and payment.status is PayoutStatus.IN_FLIGHT:
            next_name = "resolve"
        if job["status"] == "quoted" and broker is not None:
            await self._ask(broker, broker.escrows.drive(job["id"]), "drive")
        else:
            await self._act(Op(next_name, op.job, op.broker, op.number), job, broker)

    async def _hire(self, broker: Broker, number: int) -> None:
        if len(self.jobs) >= 3:
            return
        acceptance = Acceptance.REVIEW if number % 2 else Acceptance.AUTO
        mode = PaymentMode.CREDIT if number // 128 % 3 == 2 else PaymentMode.ESCROW
        quote = await self.world.add_quote(broker, acceptance=acceptance, mode=mode)
        self.jobs.append(JobId(quote.id))
        payment_hash = PaymentHash(quote.payment_hash or "")
        if number // 2 % 3:
            self.world.node.outcomes[payment_hash] = [_outcome(number // 6), _outcome(number // 30)]
        await self._ask(broker, broker.jobs.hire(BUYER, quote), "hire")
        # Most of what can go wrong is far from the start: go some way without a fault on it.
        for _ in range(number // 6 % 5):
            for row in self.books.rows("SELECT * FROM job WHERE quote_id = ?", quote.id):
                if row["status"] in ("open", "funded", "working") and self.world.working(0) is broker:
                    await self._progress(Op("progress", number=number), row, broker)

    async def _race(self, op: Op) -> None:
        """Let every broker and every party act on one job at the same moment."""
        job = self.job(op.job)
        if job is None:
            return
        calls = ("sweep", "tick", "sweep", "lease", "deliver", "cancel", "accept", "rule", "fail", "reject")
        work: list[asyncio.Task[object]] = []
        for index in range(2 * len(self.world.brokers)):
            broker = self.world.working(index)
            name = calls[(op.number // (1 + 3 * index)) % len(calls)]
            if broker is None:
                continue
            call = self._call(Op(name, op.job, index, op.number), job, broker)
            if call is not None:
                task = asyncio.create_task(call, name=name)
                self.world.asked[task] = broker
                work.append(task)

    async def _ask(self, broker: Broker, work: Coroutine[None, None, object], name: str) -> None:
        await self.world.ask(broker, work, name=name)

    # --- time -------------------------------------------------------------------------------------------

    async def _background(self) -> None:
        """Do what every running broker does by itself now and then."""
        for index in range(len(self.world.brokers)):
            broker = self.world.working(index)
            if broker is not None:
                await self._ask(broker, broker.jobs.tick(), "tick")
            if broker is not None and not broker.port.dead:
                await self._ask(broker, _pass(broker), "sweep")

    async def _mine(self, count: int) -> None:
        """Add blocks one by one; a broker that could act at each of them must lose nothing."""
        node = self.world.node
        for number in range(count):
            able = any(self.world.working(index) for index in range(len(self.world.brokers)))
            able = able and not node.down and not node.faults and not node.wire
            if not able:
                self._excuse()
            node.mine()
            for index in range(len(self.world.brokers)):
                broker = self.world.working(index)
                if broker is not None:
                    await self._ask(broker, _guard(broker, node.height), "guard")
            if number % 6 == 0:
                await self._background()

    def _excuse(self) -> None:
        """Note the HTLCs that come close to their end while nobody can act."""
        for hold in self.world.node.holds.values():
            if hold.min_expiry is not None and hold.state is InvoiceState.ACCEPTED:
                self.auditor.excused.add(hold.payment_hash)

    # --- reading what it did ----------------------------------------------------------------------------

    async def _read_logs(self, logs: list[Any]) -> None:
        text = repr(logs)
        for preimage in self.world.node.preimages.values():
            if preimage.hex() in text:
                self.world.surprises.append("I20 a preimage was logged")
        for line in logs:
            error = line.get("exc_info")
            if line["event"] in PREDICTED:
                self.world.surprises.append(str(line))
            elif isinstance(error, BaseException) and not _is_expected(error):
                self.world.surprises.append(f"{line['event']}: {error!r}")

    async def _read_views(self) -> None:
        """Look at each job that is being paid out as its parties do: no secret may show yet."""
        broker = next((found for index in range(2) if (found := self.world.working(index))), None)
        if broker is None or broker.port.dead:
            return
        for row in self.books.rows("SELECT job.id FROM job JOIN escrow USING (id) WHERE state = 'forwarded'"):
            job = await broker.jobs.get(row["id"])
            secret = self.world.node.preimages[job.payment_hash].hex()
            for party in (BUYER, PROVIDER):
                view = await broker.reader.view(party, job)
                if secret in view.model_dump_json():
                    self.world.surprises.append("I20 a view shows the preimage before the settlement")
            if secret in str(self.books.rows("SELECT data FROM job_event WHERE job_id = ?", row["id"])):
                self.world.surprises.append("I20 an event tells the preimage before the settlement")

    # --- the end ----------------------------------------------------------------------------------------

    async def heal(self, *, diligent: bool) -> list[str]:
        """End all faults, let everybody answer and time pass, until every job must be over.

        With `diligent` parties, what can still be worked on and accepted is. Returns every breach.
        """
        world, node = self.world, self.world.node
        with structlog.testing.capture_logs() as logs:
            node.faults.clear()
            node.down = False
            node.streaming = True
            node.forwarded_msat = 0
            while node.wire:
                node.wire.pop(0).deliver()
                await world.calm()
            for index in range(len(world.brokers)):
                await world.start(index)
            for payment_hash in list(node.payments):
                node.resolve(payment_hash, Outcome(fee_msat=1))
            if diligent:
                await self._finish_work()
            node.outcomes.clear()
            for seconds in (1, 31, 11, 1, 121, 11, 31, 11, 301, 121, 31, 11):
                if self._is_over():
                    break
                world.clock.time += seconds
                node.time_passes()
                await self._background()
                await self._background()
            for _ in range(40):
                if self._is_over():
                    break
                await self._mine(6)
                world.clock.time += 61
            world.clock.time += 3_600
            node.time_passes()
            await world.calm()
        await self._read_logs(logs)
        return [*self.auditor.check_end(), *world.surprises]

    async def _finish_work(self) -> None:
        for _ in range(5):
            for index in range(len(self.jobs)):
                job = self.job(index)
                if job is not None and job["status"] not in ("settled", "refunded", "expired"):
                    await self._act(Op("progress", index, 0, 1), job, self.world.working(0))

    def _is_over(self) -> bool:
        query = "SELECT id FROM job WHERE status NOT IN ('settled', 'refunded', 'expired')"
        return not self.books.rows(query)


@asynccontextmanager
async def open_story(template: Template, *, brokers: int) -> AsyncGenerator[Story]:
    """Open a world of its own whose every call to the node is watched."""
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=brokers) as world:
            books = Books(world.place)
            world.node.observer = auditor = Auditor(books, world.node)
            story = Story(world, books, auditor)
            try:
                yield story
            finally:
                story.books.close()


async def _pass(broker: Broker) -> None:
    """Do one round of the broker's sweep, which forgives a node that gives no answer."""
    await broker.reconciler.retry_due()
    await broker.reconciler.sweep()


async def _still_there() -> bool:
    """Answer for a provider that waits for its poll to end."""
    return False


async def _guard(broker: Broker, height: int) -> None:
    await broker.escrows.guard(height)


def _outcome(number: int) -> Outcome:
    """Return what the next attempt to pay becomes: a success, a failure, or stuck."""
    match number % 5:
        case 0 | 1:
            return Outcome(fee_msat=number % 1_001)
        case 2 | 3:
            return Outcome(failure=FAILURES[number % len(FAILURES)])
        case _:
            return Outcome()


def _ending(number: int) -> Outcome:
    return Outcome(fee_msat=number % 1_001) if number % 3 else Outcome(failure=PayoutFailure.NO_ROUTE)


def _is_expected(error: BaseException) -> bool:
    """Tell whether a task may end with this: the node's silence, or the death of its broker."""
    return isinstance(error, LightningError) or type(error).__name__ == "Crash"
