"""Work for providers: they ask, are given a lease, keep it alive, and deliver or fail.

A lease carries an epoch. A provider that lost its lease writes nothing any more: its epoch is stale.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable

import structlog
from pydantic import JsonValue

from lightwork_broker.clock import Clock, Steady
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import LeaseLost, NotFound, OutputInvalid
from lightwork_broker.jobs import store
from lightwork_broker.jobs.machine import Actor, JobChange
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.jobs.store import Job
from lightwork_broker.market import quote_store
from lightwork_broker.market.quotes import Quotes
from lightwork_broker.market.schema import fit
from lightwork_broker.market.service import Market
from lightwork_broker.signals import Signals
from lightwork_contracts.errors import CanonicalError
from lightwork_contracts.ids import Pubkey, QuoteId
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.status import CAPABILITIES, Acceptance, JobStatus
from lightwork_contracts.wire.jobs import HeartbeatAnswer, JobWork, PollWork, WorkList

log = structlog.stdlib.get_logger()

RECHECK_SECONDS = 2.0
"""How long a poll trusts its wake-up before it looks at the database by itself."""

_DELIVERED = frozenset({JobStatus.DELIVERED, JobStatus.RELEASING, JobStatus.SETTLED, JobStatus.DISPUTED})


class WorkQueue:
    """The provider's half of the jobs."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        signals: Signals,
        market: Market,
        quotes: Quotes,
        jobs: Jobs,
        lease_seconds: int,
        steady: Steady | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._steady = steady or clock.now
        self._signals = signals
        self._market = market
        self._quotes = quotes
        self._jobs = jobs
        self._being_marked: set[QuoteId] = set()
        self._marking: set[asyncio.Task[None]] = set()
        self._lease_seconds = lease_seconds

    async def poll(
        self, provider: Pubkey, request: PollWork, *, gone: Callable[[], Awaitable[bool]]
    ) -> WorkList:
        """Return quotes to answer and jobs to do, as soon as there are any, or nothing after the wait.

        Whoever has hung up while waiting (`gone`) is given nothing: a lease would be lost on him.
        """
        await self._market.seen(provider)
        deadline = self._steady() + request.wait_seconds
        with self._signals.listen(f"work:{provider}") as listener:
            while True:
                work = await self._take(provider, request)
                left = deadline - self._steady()
                if work.work or left <= 0 or listener.closing:
                    break
                await listener.wait(min(left, RECHECK_SECONDS))
                if await gone():
                    return WorkList(work=())
        await self._market.seen(provider)
        return work

    async def _take(self, provider: Pubkey, request: PollWork) -> WorkList:
        now = self._clock.now()
        quotes = await self._quotes.waiting(provider, most=request.max_quotes) if request.max_quotes else []
        async with self._database.read() as tx:
            ready = (
                await store.funded(tx, provider, now=now, limit=request.max_jobs) if request.max_jobs else []
            )
        if not quotes and not ready:
            return WorkList(work=())
        quotes = [quote for quote in quotes if quote.id not in self._being_marked]
        if quotes:
            self._mark_handed([quote.id for quote in quotes], now=now)
        leased = await self._lease(ready, now=now) if ready else []
        return WorkList(
            work=(
                *[await self._quotes.work(quote) for quote in quotes],
                *[_job_work(job, lease_seconds=self._lease_seconds) for job in leased],
            )
        )

    def _mark_handed(self, quote_ids: list[QuoteId], *, now: float) -> None:
        """Remember that quotes are with their provider; the provider does not wait for the disk.

        A mark that is lost has the quote handed over once more, and its provider answers it in the same way.
        """

        async def mark() -> None:
            try:
                async with self._database.write() as tx:
                    await quote_store.mark_handed(tx, quote_ids, now=now)
            finally:
                self._being_marked.difference_update(quote_ids)

        self._being_marked.update(quote_ids)
        task = asyncio.create_task(mark(), name="mark quotes as handed")
        self._marking.add(task)
        task.add_done_callback(self._marked)

    def _marked(self, task: asyncio.Task[None]) -> None:
        self._marking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work.mark_failed", exc_info=error)

    async def _lease(self, ready: list[Job], *, now: float) -> list[Job]:
        leased: list[Job] = []
        async with self._database.write() as tx:
            for job in ready:
                moved = await store.change(
                    tx,
                    job,
                    JobChange.LEASED,
                    actor=Actor.PROVIDER,
                    now=now,
                    epoch=job.epoch + 1,
                    lease_until=now + self._lease_seconds,
                )
                if moved is not None:
                    leased.append(moved)
                    topic = f"job:{moved.id}"
                    tx.after_commit(lambda topic=topic: self._signals.notify(topic))
        return leased

    async def heartbeat(
        self, provider: Pubkey, job_id: str, *, epoch: int, progress: float | None, note: str | None
    ) -> HeartbeatAnswer:
        """Prolong the lease and record progress; `stop` tells a provider whose work is not wanted any more.

        Raises:
            NotFound
        """
        job = await self._own(provider, job_id)
        now = self._clock.now()
        held = False
        if job.status is JobStatus.WORKING and job.epoch == epoch:
            async with self._database.write() as tx:
                held = await store.note_progress(
                    tx, job, lease_until=now + self._lease_seconds, progress=progress, note=note, now=now
                )
                tx.after_commit(lambda: self._signals.notify(f"job:{job.id}"))
        return HeartbeatAnswer(stop=not held, status=job.status, deadline=int(job.work_deadline or now))

    async def deliver(self, provider: Pubkey, job_id: str, *, epoch: int, result: JsonValue) -> None:
        """Take a result that fits the output schema; with automatic acceptance the payout starts at once.

        The same delivery again is answered in the same way and changes nothing.

        Raises:
            NotFound, LeaseLost
            OutputInvalid: nothing has changed; deliver another result or fail the job.
        """
        job = await self._own(provider, job_id)
        try:
            digest = hashlib.sha256(canonical_json(result)).hexdigest()
        except CanonicalError as error:
            raise OutputInvalid(
                f"the result cannot be kept: {error.message}", hint="fix it or fail the job"
            ) from error
        if job.status in _DELIVERED and job.epoch == epoch and job.result_hash == digest:
            return
        self._require_lease(job, epoch)
        listing = await self._market.get(job.listing_id, version=job.listing_version)
        if errors := await fit(result, listing.content.output_schema):
            raise OutputInvalid(
                f"the result does not fit what {job.task!r} promises",
                errors=errors,
                hint="fix it or fail the job",
            )
        now = self._clock.now()
        auto = job.acceptance is Acceptance.AUTO
        async with self._database.write() as tx:
            moved = await store.change(
                tx,
                job,
                JobChange.DELIVERED,
                actor=Actor.PROVIDER,
                now=now,
                data={"result_hash": digest},
                result=json.dumps(result, ensure_ascii=False, separators=(",", ":")),
                result_hash=digest,
                lease_until=None,
                progress=1.0,
                deadline=None if auto else now + job.review_seconds,
            )
            if moved is None:
                raise LeaseLost("the job was taken away while this result was on its way")
            if auto:
                await self._jobs.release_in(tx, moved, JobChange.ACCEPTED, actor=Actor.BROKER)
            tx.after_commit(lambda: self._signals.notify(f"job:{job.id}"))

    async def fail(self, provider: Pubkey, job_id: str, *, epoch: int, code: str, message: str) -> None:
        """Give a job up; the buyer is refunded. The same again changes nothing.

        Raises:
            NotFound, LeaseLost
        """
        job = await self._own(provider, job_id)
        refunded = job.status in (JobStatus.REFUNDING, JobStatus.REFUNDED)
        if refunded and job.epoch == epoch and job.error_code == code:
            return
        self._require_lease(job, epoch)
        await self._jobs.fail(job, code=code, message=message)

    async def _own(self, provider: Pubkey, job_id: str) -> Job:
        job = await self._jobs.get(job_id)
        if job.provider != provider:
            raise NotFound(f"there is no job {job_id}")
        return job

    @staticmethod
    def _require_lease(job: Job, epoch: int) -> None:
        if job.status is not JobStatus.WORKING or job.epoch != epoch:
            raise LeaseLost(
                f"epoch {epoch} holds no lease on this job: it is {job.status}, epoch {job.epoch}",
                hint=CAPABILITIES[job.status].meaning,
                context={"status": job.status.value, "epoch": job.epoch},
            )


def _job_work(job: Job, *, lease_seconds: int) -> JobWork:
    return JobWork(
        job_id=job.id,
        epoch=job.epoch,
        lease_seconds=lease_seconds,
        deadline=int(job.work_deadline or 0),
        quote_id=job.quote_id,
        listing_id=job.listing_id,
        listing_version=job.listing_version,
        task=job.task,
        buyer=job.buyer,
        price_msat=job.price_msat,
        payment_hash=job.payment_hash,
        input=json.loads(job.input),
    )
