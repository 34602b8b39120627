"""What goes wrong between the broker and its node: planned faults that strike its calls, and only its."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from kill_matrix.virtual_time import LoopTime

from lightwork_broker.lightning.simulated import Fault, PlannedFaults
from lightwork_broker.lightning.simulated.faults import Call, Strike

LONGEST_SECONDS = 25.0
"""A call that is under way for longer than the broker's grace of 30 s is a documented limit, and not tried."""


class Weather:
    """The port `Faults`. What the tests themselves ask of the node passes while it is `calm`."""

    def __init__(self) -> None:
        self._planned = PlannedFaults()
        self._calm = False
        self._late_until = 0.0
        self.struck: Counter[Fault] = Counter()

    def plan(self, fault: Fault, *, method: str | None, seconds: float) -> None:
        """Let the broker's next call of this method be struck; None is any method."""
        self._planned.plan(fault, method=method, node="broker", seconds=min(seconds, LONGEST_SECONDS))

    def clear(self) -> None:
        """Take back what has not struck."""
        self._planned.clear()

    @property
    def is_fair(self) -> bool:
        """Whether nothing is planned, and no call is still on its way."""
        return self._planned.is_used_up and LoopTime().now() > self._late_until

    @contextmanager
    def calm(self) -> Generator[None]:
        before, self._calm = self._calm, True
        try:
            yield
        finally:
            self._calm = before

    def strike(self, call: Call) -> Strike | None:
        """Return what happens to this call."""
        if self._calm:
            return None
        strike = self._planned.strike(call)
        if strike is not None:
            self.struck[strike.fault] += 1
            if strike.fault in (Fault.LATE_CALL, Fault.LATE_ANSWER):
                self._late_until = max(self._late_until, LoopTime().now() + strike.seconds)
        return strike
