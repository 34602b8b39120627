"""One leased job: run the task, keep the lease alive, hand the result over."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

from pydantic import JsonValue

from lightwork.agent import Task
from lightwork.broker import Broker
from lightwork.context import JobContext
from lightwork.errors import (
    BrokerAnswerInvalid,
    BrokerProblem,
    BrokerUnreachable,
    InputInvalid,
    LeaseLost,
    LightworkError,
    OutputInvalid,
    RequestRefused,
    TaskFailed,
    TaskRefused,
    WrongStatus,
)
from lightwork.reports import Report, Tell, logger
from lightwork_contracts.wire.jobs import Deliver, Fail, Heartbeat, JobWork
from lightwork_contracts.wire.problems import ProblemCode

FailCode = Literal["task_failed", "task_refused", "output_invalid"]

HEARTBEATS_PER_LEASE = 3
PROGRESS_GAP_SECONDS = 0.25
LAST_TRIES_SECONDS = 5.0
"""How long a failure is still reported after the deadline; the broker ends the job by itself anyway."""


class Halt(StrEnum):
    """Why a run was given up from outside."""

    LEASE_LOST = "lease_lost"
    NOT_WANTED = "not_wanted"
    RUNNER_STOPS = "runner_stops"


class JobRun:
    """One run of one leased job. `run` returns when the broker knows the end, or need not know it."""

    def __init__(self, *, work: JobWork, task: Task, broker: Broker, tell: Tell) -> None:
        self._work = work
        self._task = task
        self._broker = broker
        self._tell_report = tell
        self._loop = asyncio.get_running_loop()
        self._halt: asyncio.Future[Halt] = self._loop.create_future()
        self._news = asyncio.Event()
        self._progress: tuple[float, str | None] | None = None
        self._context = JobContext(
            job_id=work.job_id,
            deadline=datetime.fromtimestamp(work.deadline, UTC),
            report=lambda fraction, note: self._from_any_thread(fraction, note),
        )
        self._function: asyncio.Task[JsonValue] | None = None

    def halt(self, reason: Halt) -> None:
        """Give the run up. The first reason counts."""
        if not self._halt.done():
            self._halt.set_result(reason)

    async def run(self) -> None:
        """Run to the end and tell the broker; never raises for what the task, the buyer or the broker did."""
        self._tell("job.started", "started")
        self._function = asyncio.create_task(self._task.run(self._work.input, self._context))
        heartbeats = asyncio.create_task(self._heartbeats())
        try:
            await asyncio.wait(
                {self._function, self._halt},
                timeout=self._seconds_left(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._halt.done():
                await self._halted(self._halt.result())
            elif not self._function.done():
                self._give_up()
                await self._fail("task_failed", f"not done within {self._task.work_seconds} seconds")
            else:
                await self._finished(self._function)
        finally:
            self._give_up()
            heartbeats.cancel()

    async def function_ended(self) -> None:
        """Wait until the function itself is over: a thread cannot be stopped, and its slot stays taken."""
        if self._function is not None:
            await asyncio.wait({self._function})

    def _give_up(self) -> None:
        self._context.stop()
        if self._function is not None and self._task.is_async:
            self._function.cancel()

    async def _halted(self, reason: Halt) -> None:
        self._give_up()
        match reason:
            case Halt.LEASE_LOST:
                self._tell("job.lease_lost", "dropped: the lease went to another run")
            case Halt.NOT_WANTED:
                self._tell("job.stopped", "dropped: the job has ended without it")
            case Halt.RUNNER_STOPS:
                await self._fail("task_failed", "the provider stopped before the task was done")

    async def _finished(self, function: asyncio.Task[JsonValue]) -> None:
        if function.cancelled():
            await self._fail("task_failed", "the task was cancelled")
            return
        error = function.exception()
        match error:
            case None:
                await self._deliver(function.result())
            case TaskRefused() | InputInvalid():
                await self._fail("task_refused", error.message)
            case TaskFailed():
                await self._fail("task_failed", error.message)
            case OutputInvalid():
                logger.error("job %s: %s returned what it should not", self._work.job_id, self._task.name)
                await self._fail("output_invalid", error.message)
            case _:
                # The text of a foreign error may hold secrets of the provider: only its kind is told.
                logger.error("job %s: %s raised", self._work.job_id, self._task.name, exc_info=error)
                await self._fail("task_failed", f"the task raised {type(error).__name__}")

    async def _deliver(self, result: JsonValue) -> None:
        deliver = Deliver(epoch=self._work.epoch, result=result)
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._broker.deliver(self._work.job_id, deliver)
            except (LeaseLost, WrongStatus) as error:
                self._tell("job.lease_lost", f"the result came too late: {error.message}")
            except RequestRefused as error:
                too_large = error.code == ProblemCode.BODY_TOO_LARGE
                await self._fail("task_failed" if too_large else "output_invalid", error.message)
            except (BrokerUnreachable, BrokerAnswerInvalid, BrokerProblem) as error:
                if await self._again(attempt, error, grace=0):
                    continue
            else:
                self._tell("job.delivered", "delivered")
            return

    async def _fail(self, code: FailCode, message: str) -> None:
        fail = Fail(epoch=self._work.epoch, code=code, message=message[:2_000] or code)
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._broker.fail(self._work.job_id, fail)
            except (LeaseLost, WrongStatus) as error:
                self._tell("job.lease_lost", f"the failure came too late: {error.message}")
            except (BrokerUnreachable, BrokerAnswerInvalid, BrokerProblem) as error:
                if await self._again(attempt, error, grace=LAST_TRIES_SECONDS):
                    continue
            else:
                self._tell("job.failed", f"{code}: {message}")
            return

    async def _again(self, attempt: int, error: LightworkError, *, grace: float) -> bool:
        """Wait and say true while there is time for another try."""
        connection = self._broker.connection
        delay = connection.backoff.delay(attempt, chance=connection.chance())
        if self._seconds_left() + grace < delay:
            self._tell("job.undelivered", f"could not be handed over: {error.message}")
            return False
        await connection.sleep(delay)
        return True

    async def _heartbeats(self) -> None:
        interval = max(0.05, self._work.lease_seconds / HEARTBEATS_PER_LEASE)
        wait = interval
        while True:
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            fraction, note = self._progress or (None, None)
            wait = interval
            try:
                answer = await self._broker.heartbeat(
                    self._work.job_id, Heartbeat(epoch=self._work.epoch, progress=fraction, note=note)
                )
            except LeaseLost:
                self.halt(Halt.LEASE_LOST)
                return
            except WrongStatus:
                self.halt(Halt.NOT_WANTED)
                return
            except LightworkError as error:
                # The lease is still ours until it is not: the work goes on, and the next try comes soon.
                logger.warning("job %s: no heartbeat: %s", self._work.job_id, error.message)
                wait = min(interval, 1.0)
                continue
            if answer.stop:
                self.halt(Halt.NOT_WANTED)
                return
            await asyncio.sleep(min(interval, PROGRESS_GAP_SECONDS))

    def _from_any_thread(self, fraction: float, note: str | None) -> None:
        # The loop is closed when the runner has gone, and then nobody listens.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_progress, fraction, note)

    def _on_progress(self, fraction: float, note: str | None) -> None:
        self._progress = (fraction, note)
        self._news.set()

    def _seconds_left(self) -> float:
        return max(0.0, self._work.deadline - self._broker.connection.clock())

    def _tell(self, kind: str, text: str) -> None:
        facts: dict[str, str | int] = {
            "job": self._work.job_id,
            "task": self._work.task,
            "price_msat": self._work.price_msat,
        }
        self._tell_report(
            Report(kind=kind, text=f"{self._work.task} {self._work.job_id}: {text}", facts=facts)
        )
