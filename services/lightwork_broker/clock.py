"""Time, ids and randomness: passed in, so that rules and tests decide them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

from lightwork_contracts.ids import sortable_id


class Clock(Protocol):
    def now(self) -> float:
        """Return Unix time in seconds."""
        ...


Steady = Callable[[], float]
"""Returns seconds since some moment, by a clock that nobody can set: for how long things take."""


class SystemClock:
    def now(self) -> float:
        return time.time()


class Ids:
    """New sortable ids."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self, prefix: str) -> str:
        return sortable_id(prefix, now_ms=int(self._clock.now() * 1000), entropy=secrets.token_bytes(10))
