"""An event loop whose time passes only when nothing else is left to do: an hour of waiting takes no time.

What would run in a thread runs where it is asked for. So the same work takes the same steps in the same order each
time, which is what lets a kill point be named by its number. Who waits for another program, such as a database server,
says so by `outside`: until it has its answer no time passes, and the order of steps is the other program's.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

from lightwork_broker.lightning.simulated.timing import Action

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = 1_800_000_000.0
"""Unix time at the start of each loop."""
OUTSIDE_SECONDS = 60.0
"""How long, by the real clock, another program may give no answer."""


class NothingLeft(RuntimeError):
    """Every task waits for something that nobody will do."""


class _Impatient(selectors.SelectSelector):
    """Never waits: where an ordinary loop would sleep, it moves the time on."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance
        self.outside = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.outside and timeout != 0:
            found = super().select(OUTSIDE_SECONDS)
            if not found:
                raise NothingLeft("another program gives no answer")
            return found
        if timeout is None:
            raise NothingLeft("every task waits, and no timer is set")
        if timeout > 0:
            self._advance(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; `asyncio.Runner(loop_factory=VirtualLoop)` runs on it."""

    def __init__(self) -> None:
        self._virtual = 0.0
        self._impatient = _Impatient(self._advance)
        super().__init__(self._impatient)

    def _advance(self, seconds: float) -> None:
        self._virtual += seconds

    def time(self) -> float:
        return self._virtual

    @contextmanager
    def outside(self) -> Generator[None]:
        """Let no time pass while this is open: somebody waits for another program."""
        self._impatient.outside += 1
        try:
            yield
        finally:
            self._impatient.outside -= 1

    def run_in_executor(  # pyright: ignore[reportIncompatibleMethodOverride]  (there is no executor in here)
        self, executor: object, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (as an executor does)
            done.set_exception(error)
        return done


class LoopTime:
    """The time of the running loop, for the broker (`Clock`) and for the simulated network (`Time`)."""

    def now(self) -> float:
        """Return Unix time in seconds."""
        return START + asyncio.get_running_loop().time()

    def call_later(self, seconds: float, action: Action) -> Action:
        """Run `action` after `seconds`; the returned function takes the alarm back."""
        return asyncio.get_running_loop().call_later(seconds, action).cancel
