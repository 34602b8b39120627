"""The time of a simulated network: that of the machine, or one that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Protocol

Action = Callable[[], None]


class Time(Protocol):
    """A clock with alarms. Satisfies the broker's `Clock` too."""

    def now(self) -> float:
        """Return Unix time in seconds."""
        ...

    def call_later(self, seconds: float, action: Action) -> Action:
        """Run `action` after `seconds`; the returned function takes the alarm back."""
        ...


class RealTime:
    """The machine's clock; alarms ring in the running event loop."""

    def now(self) -> float:
        return time.time()

    def call_later(self, seconds: float, action: Action) -> Action:
        return asyncio.get_running_loop().call_later(seconds, action).cancel


class ManualTime:
    """A clock that stands still until `advance`; nothing ever sleeps for real."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._count = 0
        self._alarms: list[tuple[float, int]] = []
        self._actions: dict[int, Action] = {}

    def now(self) -> float:
        return self._now

    def call_later(self, seconds: float, action: Action) -> Action:
        self._count += 1
        number = self._count
        heapq.heappush(self._alarms, (self._now + max(seconds, 0.0), number))
        self._actions[number] = action

        def take_back() -> None:
            self._actions.pop(number, None)

        return take_back

    def advance(self, seconds: float) -> None:
        """Move the clock on and ring, in their order, the alarms that it passes.

        What the alarms wake runs when the caller next awaits: `await asyncio.sleep(0)` lets it.
        """
        end = self._now + seconds
        while self._alarms and self._alarms[0][0] <= end:
            self._now, number = heapq.heappop(self._alarms)
            action = self._actions.pop(number, None)
            if action is not None:
                action()
        self._now = end


async def pause(clock: Time, seconds: float) -> None:
    """Return once `seconds` have passed on this clock."""
    await woken(clock, asyncio.get_running_loop().create_future(), seconds=seconds)


async def woken(clock: Time, waiter: asyncio.Future[None], *, seconds: float | None) -> None:
    """Return when somebody wakes `waiter`, or after `seconds`; None is without limit."""

    def ring() -> None:
        if not waiter.done():
            waiter.set_result(None)

    if seconds is None:
        await waiter
        return
    take_back = clock.call_later(seconds, ring)
    try:
        await waiter
    finally:
        take_back()


class JumpingTime:
    """The machine's clock, which a test may move on at once; alarms that it passes ring, in their order."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._alarms: list[tuple[float, int]] = []
        self._ring: dict[int, Action] = {}
        self._count = 0

    def now(self) -> float:
        return time.time() + self._ahead

    def call_later(self, seconds: float, action: Action) -> Action:
        self._count += 1
        number = self._count
        heapq.heappush(self._alarms, (self.now() + seconds, number))

        def ring() -> None:
            if self._ring.pop(number, None) is not None:
                action()

        handle = asyncio.get_running_loop().call_later(seconds, ring)
        self._ring[number] = ring

        def take_back() -> None:
            handle.cancel()
            self._ring.pop(number, None)

        return take_back

    def advance(self, seconds: float) -> None:
        """Move the clock on."""
        self._ahead += seconds
        while self._alarms and self._alarms[0][0] <= self.now():
            _, number = heapq.heappop(self._alarms)
            if (ring := self._ring.get(number)) is not None:
                ring()
