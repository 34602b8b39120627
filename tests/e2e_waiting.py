"""Waiting for a condition with a bound: asked again and again, never a fixed wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS = 60.0
"""Far more than anything takes, on a machine that is busy, too: it tells what hangs from what is slow."""


async def until(
    condition: Callable[[], Awaitable[T | None]], *, what: str, seconds: float = SECONDS, every: float = 0.05
) -> T:
    """Return the first answer that is neither None nor False; fail when it does not come in time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await condition()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(every)
