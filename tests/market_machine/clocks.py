"""The time of a market under test: hours pass in no time, and the broker's own clock can be set."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from kill_matrix.virtual_time import LoopTime, VirtualLoop


class StridingLoop(VirtualLoop):
    """A loop whose time can pass in strides: what would have happened within one happens at its end.

    A machine that is busy or asleep does the same to its timers. It is what makes hours cheap.
    """

    def __init__(self, *, coarseness: float = 1.0) -> None:
        self._stride = 0.0
        self._coarseness = coarseness
        super().__init__()

    def _advance(self, seconds: float) -> None:
        super()._advance(max(seconds, self._stride))

    @contextmanager
    def strides(self, seconds: float) -> Generator[None]:
        before, self._stride = self._stride, seconds * self._coarseness
        try:
            yield
        finally:
            self._stride = before


async def let_pass(seconds: float, *, stride: float) -> None:
    """Let virtual time pass in strides of so many seconds."""
    with cast("StridingLoop", asyncio.get_running_loop()).strides(stride):
        await asyncio.sleep(seconds)


class WallClock:
    """The broker's clock, which somebody may set; timers and the node go by the loop's own time."""

    def __init__(self) -> None:
        self.shift = 0.0
        self._time = LoopTime()

    def now(self) -> float:
        """Return Unix time in seconds, as the broker believes."""
        return self._time.now() + self.shift
