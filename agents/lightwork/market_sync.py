"""The market for programs without asyncio: the same methods, blocking, on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar

from pydantic import JsonValue

from lightwork.job import Job
from lightwork.market import HireWhat, Market
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.info import BrokerInfo
from lightwork_contracts.wire.jobs import JobEvent, JobForBuyer
from lightwork_contracts.wire.market import ListingView, QuoteView

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, so that a caller who is already in a loop is not disturbed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lightwork-market", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[None, None, T]) -> T:
        """Run to the end and return the result; an interrupted wait cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop, and the threads that it made."""
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncJob:
    """A running job, blocking. See `Job` for what each method raises."""

    def __init__(self, job: Job, thread: LoopThread) -> None:
        self._job = job
        self._thread = thread

    @property
    def id(self) -> JobId:
        return self._job.id

    @property
    def status(self) -> JobStatus:
        return self._job.status

    @property
    def view(self) -> JobForBuyer:
        return self._job.view

    def __repr__(self) -> str:
        return f"Sync{self._job!r}"

    def refresh(self) -> JobForBuyer:
        return self._thread.run(self._job.refresh())

    def result(self) -> JsonValue:
        return self._thread.run(self._job.result())

    def wait(self) -> JsonValue:
        return self._thread.run(self._job.wait())

    def events(self, *, after: int = 0) -> Iterator[JobEvent]:
        events = self._job.events(after=after)

        async def following() -> JobEvent | None:
            return await anext(events, None)

        while (event := self._thread.run(following())) is not None:
            yield event

    def cancel(self) -> JobForBuyer:
        return self._thread.run(self._job.cancel())

    def accept(self) -> JobForBuyer:
        return self._thread.run(self._job.accept())

    def reject(self, reason: str) -> JobForBuyer:
        return self._thread.run(self._job.reject(reason))


class SyncMarket:
    """Open it with `with Market.sync() as market:`. See `Market` for what each method raises."""

    def __init__(self, make: Callable[[], Market]) -> None:
        self._thread = LoopThread()

        async def build() -> Market:
            return make()

        try:
            self._market = self._thread.run(build())
        except BaseException:
            self._thread.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._thread.run(self._market.close())
        self._thread.close()

    def info(self) -> BrokerInfo:
        return self._thread.run(self._market.info())

    def search(
        self, q: str | None = None, *, online: bool | None = None, limit: int = 20
    ) -> tuple[ListingView, ...]:
        return self._thread.run(self._market.search(q, online=online, limit=limit))

    def listing(self, listing_id: str) -> ListingView:
        return self._thread.run(self._market.listing(listing_id))

    def quote(
        self,
        what: str | ListingView,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat | None = None,
        **inputs: JsonValue,
    ) -> QuoteView:
        return self._thread.run(self._market.quote(what, arguments, max_price=max_price, **inputs))

    def start(
        self,
        what: HireWhat,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat,
        **inputs: JsonValue,
    ) -> SyncJob:
        job = self._thread.run(self._market.start(what, arguments, max_price=max_price, **inputs))
        return SyncJob(job, self._thread)

    def hire(
        self,
        what: HireWhat,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat,
        **inputs: JsonValue,
    ) -> JsonValue:
        return self._thread.run(self._market.hire(what, arguments, max_price=max_price, **inputs))

    def job(self, job_id: str) -> JobForBuyer:
        return self._thread.run(self._market.job(job_id))
