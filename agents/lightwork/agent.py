"""Agent and its tasks: what a provider writes with."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast

from pydantic import JsonValue

from lightwork.context import JobContext
from lightwork.errors import AgentInvalid
from lightwork.pricing import Price, check_price, price_of
from lightwork.schema import Signature, read_signature, where
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.base import JsonInput, type_name

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(type_name)


@dataclass(frozen=True, slots=True)
class Task:
    """One function that an agent sells, with everything that its listing says of it."""

    name: str
    function: Callable[..., object]
    signature: Signature
    price: Price
    acceptance: Acceptance
    work_seconds: int
    review_seconds: int
    tags: tuple[str, ...]

    @property
    def is_async(self) -> bool:
        """True when the function can be cancelled; a plain one runs in a thread, to its own end."""
        return inspect.iscoroutinefunction(self.function)

    async def quote(self, value: JsonInput) -> Msat:
        """Return the price of this input in msat.

        Raises:
            InputInvalid: it does not fit the signature.
            TaskRefused: the price function does not want it.
        """
        return await price_of(self.price, self.signature.read_input(value), where=where(self.function))

    async def run(self, value: JsonInput, context: JobContext) -> JsonValue:
        """Run the function on JSON and return JSON; a plain function runs in a thread of its own.

        Raises:
            InputInvalid, OutputInvalid: a value does not fit the signature.
            Exception: whatever the function raises.
        """
        arguments = self.signature.read_input(value)
        if self.signature.context_parameter is not None:
            arguments[self.signature.context_parameter] = context
        if self.is_async:
            returned = await cast("Callable[..., Awaitable[object]]", self.function)(**arguments)
        else:
            returned = await _in_thread(self.function, arguments, name=f"lightwork-{self.name}")
        return self.signature.write_output(returned)


class Agent:
    """A program that sells tasks: declare one at the top of a file, decorate functions, run the file."""

    def __init__(self, name: str, *, description: str = "") -> None:
        if not _NAME.match(name):
            raise AgentInvalid(
                f"'{name}' is no name for an agent: lower-case letters, digits and '-', at most 64 characters"
            )
        self.name = name
        self.description = description
        self._tasks: dict[str, Task] = {}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name, in the order of their declaration."""
        return dict(self._tasks)

    def task(
        self,
        *,
        price: Price,
        name: str | None = None,
        acceptance: Acceptance = Acceptance.AUTO,
        work_seconds: int = 60,
        review_seconds: int = 0,
        tags: tuple[str, ...] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Sell the function below. It stays what it was: call it in a test as any other function.

        Args:
            price: `sats(10)`, or a function of the task's own parameters that returns msat.
            name: what buyers hire it by; the function's name with '-' for '_' if not given.
            acceptance: `Acceptance.REVIEW` gives the buyer `review_seconds` to reject the result.
            work_seconds: how long one run may take; after it the buyer is refunded.
            review_seconds: the buyer's window; an hour if acceptance is review and none is given.
            tags: words to be found by.

        Raises:
            AgentInvalid: it cannot be sold as it stands; the message names file, line and function.
        """

        def declare(function: Callable[P, R]) -> Callable[P, R]:
            task = _task(
                function,
                price=price,
                name=name,
                acceptance=acceptance,
                work_seconds=work_seconds,
                review_seconds=review_seconds,
                tags=tags,
            )
            if task.name in self._tasks:
                raise AgentInvalid(
                    f"{where(function)}: agent '{self.name}' already sells a task '{task.name}'"
                )
            self._tasks[task.name] = task
            return function

        return declare

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, tasks={list(self._tasks)})"


def _task(
    function: Callable[..., object],
    *,
    price: Price,
    name: str | None,
    acceptance: Acceptance,
    work_seconds: int,
    review_seconds: int,
    tags: tuple[str, ...],
) -> Task:
    place = where(function)
    public = (
        name if name is not None else getattr(function, "__name__", "").strip("_").replace("_", "-").lower()
    )
    if not _NAME.match(public):
        raise AgentInvalid(
            f"{place}: '{public}' is no name for a task: lower-case letters, digits and '-', at most 64",
            hint="give the decorator name='...'",
        )
    if work_seconds < 1:
        raise AgentInvalid(f"{place}: work_seconds is at least 1, not {work_seconds}")
    if acceptance is Acceptance.REVIEW and review_seconds == 0:
        review_seconds = 3_600
    if acceptance is Acceptance.AUTO and review_seconds != 0:
        raise AgentInvalid(f"{place}: review_seconds needs acceptance=Acceptance.REVIEW")
    signature = read_signature(function)
    check_price(price, parameters=frozenset(signature.parameters), where=place)
    return Task(
        name=public,
        function=function,
        signature=signature,
        price=price,
        acceptance=acceptance,
        work_seconds=work_seconds,
        review_seconds=review_seconds,
        tags=tags,
    )


async def _in_thread(
    function: Callable[..., object], arguments: Mapping[str, object], *, name: str
) -> object:
    """Run a plain function in a daemon thread of its own.

    A pool's threads are joined when the interpreter exits: one stuck task would keep the runner from
    stopping.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[object] = loop.create_future()
    state = contextvars.copy_context()

    def hand_over(result: object, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration | KeyboardInterrupt | SystemExit):
            # A future refuses the first, and the other two would stop the runner instead of the job.
            future.set_exception(RuntimeError(f"the task raised {type(error).__name__}"))
        else:
            future.set_exception(error)

    def work() -> None:
        result: object = None
        failure: BaseException | None = None
        try:
            result = state.run(lambda: function(**arguments))
        except BaseException as error:  # noqa: BLE001 - the edge of the author's code; raised again in the loop
            failure = error
        # The loop is closed when the runner has gone, and then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(hand_over, result, failure)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
