"""The runner: lists an agent's tasks, asks the broker for work, prices it, does it, and hands it over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence

from lightwork.agent import Agent
from lightwork.broker import Broker
from lightwork.errors import (
    AuthRefused,
    BrokerAnswerInvalid,
    BrokerProblem,
    BrokerUnreachable,
    LightworkError,
)
from lightwork.execution import Halt, JobRun
from lightwork.publishing import publish_tasks, tasks_of
from lightwork.reports import Report, Tell, log_report, logger
from lightwork.selling import Offered, QuoteDesk
from lightwork.wallet import Wallet
from lightwork_contracts.ids import ListingId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.jobs import Fail, JobWork, PollWork, WorkList
from lightwork_contracts.wire.market import QuoteWork
from lightwork_contracts.wire.problems import ProblemCode

POLL_SECONDS = 20.0
QUOTES_AT_ONCE = 16
CONCURRENCY = 8
FINISH_SECONDS = 30.0


class Runner:
    """Sells the tasks of some agents at one broker, under one key, until it is stopped.

    Two questions are always open at the broker: one for quotes, one for jobs (while a slot is free). So
    neither waits for the other, and a full runner still answers quotes and still counts as online.

    Without a wallet it sells in credit mode: the broker owes what is earned until it is withdrawn.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        *,
        broker: Broker,
        key: SecretKey,
        wallet: Wallet | None,
        concurrency: int = CONCURRENCY,
        poll_seconds: float = POLL_SECONDS,
        finish_seconds: float = FINISH_SECONDS,
        tell: Tell = log_report,
    ) -> None:
        if concurrency < 1:
            raise ValueError("a runner needs at least one slot")
        mode = PaymentMode.CREDIT if wallet is None else PaymentMode.ESCROW
        self._tasks = tasks_of(agents, mode=mode)
        self._broker = broker
        self._key = key
        self._tell = tell
        self._poll_seconds = poll_seconds
        self._finish_seconds = finish_seconds
        self._offered: dict[ListingId, Offered] = {}
        self._desk = QuoteDesk(broker=broker, key=key, wallet=wallet, offered=self._offered, tell=tell)
        self._free = concurrency
        self._slot_freed = asyncio.Event()
        self._stop = asyncio.Event()
        self._abandon = asyncio.Event()
        self._runs: set[JobRun] = set()
        self._children: set[asyncio.Task[None]] = set()
        self._away = False
        self._accepted = False
        self.ready = asyncio.Event()
        """Set once the tasks are listed."""

    def stop(self) -> None:
        """Ask for no more work, finish what runs, then return from `run`. A second call stops at once."""
        if self._stop.is_set():
            self._abandon.set()
        self._stop.set()

    async def run(self) -> None:
        """List the tasks and serve until `stop`.

        Raises:
            AuthRefused: the broker does not accept this key or this clock.
            BrokerProblem: the broker does not accept a listing.
        """
        stopped = asyncio.create_task(self._stop.wait())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
        finally:
            stopped.cancel()
            serving.cancel()
            await asyncio.wait({serving})
            await self._finish()

    async def _serve(self) -> None:
        await self._publish()
        self.ready.set()
        asking = {asyncio.create_task(self._ask_for_quotes()), asyncio.create_task(self._ask_for_jobs())}
        try:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)

    async def _publish(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                offered = await publish_tasks(
                    self._tasks, broker=self._broker, key=self._key, tell=self._tell
                )
            except (BrokerUnreachable, BrokerAnswerInvalid) as error:
                await self._lost(attempt, error)
            else:
                self._offered.update({item.listing_id: item for item in offered})
                return

    async def _ask_for_quotes(self) -> None:
        attempt = 0
        while True:
            poll = PollWork(wait_seconds=self._poll_seconds, max_quotes=QUOTES_AT_ONCE, max_jobs=0)
            attempt = await self._ask(poll, attempt=attempt)

    async def _ask_for_jobs(self) -> None:
        attempt = 0
        while True:
            while self._free == 0:
                self._slot_freed.clear()
                await self._slot_freed.wait()
            poll = PollWork(wait_seconds=self._poll_seconds, max_quotes=0, max_jobs=min(self._free, 64))
            attempt = await self._ask(poll, attempt=attempt)

    async def _ask(self, poll: PollWork, *, attempt: int) -> int:
        """Ask once and start what came; return how many questions in a row have failed."""
        try:
            answer = await self._broker.poll(poll)
        except AuthRefused as error:
            # A broker that starts again takes nothing that was signed before, by whichever clock.
            restarted = self._accepted and error.code == ProblemCode.AUTH_STALE
            if not restarted and error.code != ProblemCode.AUTH_REPLAYED:
                raise
            return await self._lost(attempt + 1, error)
        except (BrokerUnreachable, BrokerAnswerInvalid, BrokerProblem) as error:
            return await self._lost(attempt + 1, error)
        self._accepted = True
        if self._away:
            self._away = False
            self._tell(Report(kind="broker.back", text="the broker is back"))
        self._start(answer)
        return 0

    def _start(self, answer: WorkList) -> None:
        for work in answer.work:
            match work:
                case QuoteWork():
                    self._spawn(self._desk.answer(work))
                case JobWork():
                    self._free -= 1
                    self._spawn(self._do(work))

    async def _do(self, work: JobWork) -> None:
        try:
            offered = self._offered.get(work.listing_id)
            if offered is None or not self._desk.agrees(work):
                await self._refuse(work, sold=offered is not None)
                return
            run = JobRun(work=work, task=offered.task, broker=self._broker, tell=self._tell)
            self._runs.add(run)
            try:
                await run.run()
            finally:
                self._runs.discard(run)
            await run.function_ended()
        finally:
            self._free += 1
            self._slot_freed.set()

    async def _refuse(self, work: JobWork, *, sold: bool) -> None:
        reason = "the job is not what was quoted" if sold else "this provider does not sell that any more"
        self._tell(Report(kind="job.refused", text=f"{work.task} {work.job_id}: {reason}"))
        try:
            await self._broker.fail(work.job_id, Fail(epoch=work.epoch, code="task_refused", message=reason))
        except LightworkError as error:
            logger.warning("job %s: could not be refused: %s", work.job_id, error.message)

    async def _lost(self, attempt: int, error: LightworkError) -> int:
        connection = self._broker.connection
        delay = connection.backoff.delay(attempt, chance=connection.chance())
        if not self._away:
            self._away = True
            self._tell(Report(kind="broker.away", text=f"{error.message}; trying again until it is back"))
        await connection.sleep(delay)
        return attempt

    async def _finish(self) -> None:
        """Let running work end within the limit, then give it up and tell the broker so."""
        if not self._children:
            return
        self._tell(Report(kind="runner.finishing", text=f"finishing {len(self._runs)} running jobs"))
        abandon = asyncio.create_task(self._abandon.wait())
        everything = asyncio.gather(*self._children, return_exceptions=True)
        await asyncio.wait(
            {everything, abandon}, timeout=self._finish_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        abandon.cancel()
        if everything.done():
            return
        for run in self._runs:
            run.halt(Halt.RUNNER_STOPS)
        await asyncio.wait({everything}, timeout=5)
        for child in self._children:
            child.cancel()
        await asyncio.wait({everything}, timeout=1)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        child = asyncio.create_task(work)
        self._children.add(child)
        child.add_done_callback(self._children.discard)
