"""Time, ids and randomness: passed in, so that rules and tests decide them."""

from __future__ import annotations

import secrets
import time
from typing import Protocol

from lightwork_contracts.ids import sortable_id


class Clock(Protocol):
    def now(self) -> float:
        """Return Unix time in seconds."""
        ...


class SystemClock:
    def now(self) -> float:
        return time.time()


class Ids:
    """New sortable ids."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self, prefix: str) -> str:
        return sortable_id(prefix, now_ms=int(self._clock.now() * 1000), entropy=secrets.token_bytes(10))
