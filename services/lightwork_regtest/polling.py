"""Waiting for a condition: asked again and again until it is true, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lightwork_regtest.errors import NodeFailedError

T = TypeVar("T")


def until(
    condition: Callable[[], T | None],
    *,
    what: str,
    seconds: float,
    every: float = 0.1,
) -> T:
    """Return the condition's first answer that counts as true (an empty list does not).

    Raises:
        NodeFailedError: it did not come within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise NodeFailedError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)
