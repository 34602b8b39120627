"""Reading a job: what each party sees, waiting for the next event, and the numbered stream of them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable

from lightwork_broker.clock import Steady
from lightwork_broker.db.engine import Database
from lightwork_broker.jobs import store
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.jobs.store import Job, Mine
from lightwork_broker.market.quotes import Quotes, quote_view
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import JobId, Pubkey
from lightwork_contracts.status import CAPABILITIES, JobStatus
from lightwork_contracts.wire.jobs import JobError, JobEvent, JobForBuyer, JobForProvider

RECHECK_SECONDS = 2.0
PING_SECONDS = 15.0


class JobReader:
    """The reading half of the jobs."""

    def __init__(
        self, *, database: Database, steady: Steady, signals: Signals, jobs: Jobs, quotes: Quotes
    ) -> None:
        self._database = database
        self._steady = steady
        self._signals = signals
        self._jobs = jobs
        self._quotes = quotes

    async def view(self, caller: Pubkey, job: Job) -> JobForBuyer | JobForProvider:
        """Return a job as the caller may see it. Who hires himself is shown the buyer's half."""
        if caller == job.buyer:
            return await self._for_buyer(job)
        return _for_provider(job)

    async def wait(
        self, caller: Pubkey, job_id: str, *, after_event: int | None, seconds: float
    ) -> JobForBuyer | JobForProvider:
        """Return a job as soon as it has an event after `after_event` or has ended, or after `seconds`."""

        def enough(job: Job) -> bool:
            news = after_event is None or job.last_event > after_event
            return news or CAPABILITIES[job.status].terminal

        return await self._wait(caller, job_id, enough=enough, seconds=seconds)

    async def wait_for_result(
        self, caller: Pubkey, job_id: str, *, seconds: float
    ) -> JobForBuyer | JobForProvider:
        """Return a job as soon as its result can be seen or it has ended, or after `seconds`."""

        def enough(job: Job) -> bool:
            can = CAPABILITIES[job.status]
            return can.result_visible or can.terminal

        return await self._wait(caller, job_id, enough=enough, seconds=seconds)

    async def _wait(
        self, caller: Pubkey, job_id: str, *, enough: Callable[[Job], bool], seconds: float
    ) -> JobForBuyer | JobForProvider:
        deadline = self._steady() + seconds
        with self._signals.listen(f"job:{job_id}") as listener:
            while True:
                job = await self._jobs.of_party(caller, job_id)
                left = deadline - self._steady()
                if enough(job) or left <= 0 or listener.closing:
                    return await self.view(caller, job)
                await listener.wait(min(left, RECHECK_SECONDS))

    async def mine(
        self, caller: Pubkey, *, as_buyer: bool, status: JobStatus | None, limit: int, cursor: str | None
    ) -> tuple[list[JobForBuyer | JobForProvider], str | None]:
        """Return one page of the caller's jobs, newest first."""
        query = Mine(pubkey=caller, as_buyer=as_buyer, status=status, after=cursor, limit=limit + 1)
        async with self._database.read() as tx:
            found = await store.mine(tx, query)
        more = found[limit - 1].id if len(found) > limit else None
        views = [await self._for_buyer(job) if as_buyer else _for_provider(job) for job in found[:limit]]
        return views, more

    async def stream(self, job_id: JobId, *, after_event: int) -> AsyncGenerator[JobEvent | None]:
        """Yield every event after `after_event`, in order, until the job has ended; None is a sign of life."""
        seen = after_event
        quiet_since = self._steady()
        with self._signals.listen(f"job:{job_id}") as listener:
            while True:
                async with self._database.read() as tx:
                    events = await store.events(tx, job_id, after_seq=seen)
                for event in events:
                    seen = event.seq
                    yield event
                    if CAPABILITIES[event.status].terminal:
                        return
                if events:
                    quiet_since = self._steady()
                    continue
                job = await self._jobs.get(job_id)
                if CAPABILITIES[job.status].terminal and job.last_event <= seen:
                    return
                if listener.closing:
                    return
                if self._steady() - quiet_since >= PING_SECONDS:
                    quiet_since = self._steady()
                    yield None
                await listener.wait(RECHECK_SECONDS)

    async def _for_buyer(self, job: Job) -> JobForBuyer:
        quote = quote_view(await self._quotes.get(job.quote_id))
        can = CAPABILITIES[job.status]
        return JobForBuyer(
            id=job.id,
            status=job.status,
            quote=quote,
            input=json.loads(job.input),
            invoice=job.invoice,
            pay_by=job.pay_by,
            result=json.loads(job.result) if can.result_visible and job.result is not None else None,
            result_hash=job.result_hash,
            error=_error(job),
            progress=job.progress,
            progress_note=job.progress_note,
            deadline=None if job.deadline is None else int(job.deadline),
            routing_paid_msat=job.routing_paid_msat,
            preimage=job.preimage.hex() if job.preimage and job.status is JobStatus.SETTLED else None,
            last_event=job.last_event,
            created_at=int(job.created_at),
            updated_at=int(job.updated_at),
        )


def _for_provider(job: Job) -> JobForProvider:
    return JobForProvider(
        id=job.id,
        status=job.status,
        listing_id=job.listing_id,
        listing_version=job.listing_version,
        task=job.task,
        price_msat=job.price_msat,
        payment_hash=job.payment_hash,
        input=json.loads(job.input),
        error=_error(job),
        deadline=None if job.deadline is None else int(job.deadline),
        last_event=job.last_event,
        created_at=int(job.created_at),
        updated_at=int(job.updated_at),
    )


def _error(job: Job) -> JobError | None:
    if job.error_code is None:
        return None
    return JobError(code=job.error_code, message=job.error_message or job.error_code)
