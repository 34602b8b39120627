"""Running jobs at a given concurrency, and the arithmetic of repeated measurements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Spread:
    """Some repeats of one measurement."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Round:
    """One closed-loop round: how many jobs were done in how many seconds."""

    jobs: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.jobs / self.seconds


async def closed_loop(workers: Sequence[Callable[[], Awaitable[T]]], *, jobs: int) -> tuple[Round, list[T]]:
    """Let each worker do one job after the other until `jobs` are done by all of them together."""
    left = iter(range(jobs))
    done: list[T] = []

    async def work(worker: Callable[[], Awaitable[T]]) -> None:
        done.extend([await worker() for _ in left])

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(work(worker))
    return Round(jobs, time.monotonic() - begun), done
