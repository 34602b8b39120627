"""JobContext: what a task may know and say about the job that it runs for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from lightwork_contracts.ids import JobId


def _ignore(_fraction: float, _note: str | None) -> None:
    return None


class JobContext:
    """One run of a task. A task asks for it by annotating a parameter with `JobContext`; buyers never see it.

    Every method may be called from a thread, so plain functions can use it too.
    """

    def __init__(
        self, *, job_id: JobId, deadline: datetime, report: Callable[[float, str | None], None] = _ignore
    ) -> None:
        self._job_id = job_id
        self._deadline = deadline
        self._report = report
        self._stopped = threading.Event()

    @property
    def job_id(self) -> JobId:
        """The job's id, the same on every retry."""
        return self._job_id

    @property
    def deadline(self) -> datetime:
        """When the result must have been delivered, in UTC. After it the buyer is refunded."""
        return self._deadline

    def remaining_seconds(self, *, now: datetime | None = None) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, (self._deadline - (now or datetime.now(UTC))).total_seconds())

    @property
    def stopped(self) -> bool:
        """True when nobody waits for this run any more; a long plain function should look and return."""
        return self._stopped.is_set()

    def progress(self, fraction: float, note: str | None = None) -> None:
        """Tell the buyer how far the work is, from 0 to 1, with a note of up to 500 characters.

        Returns at once; the news travels with the next heartbeat, so calling it often costs nothing.

        Raises:
            ValueError: the fraction is outside 0 to 1, or the note too long.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"progress is a fraction from 0 to 1, not {fraction}")
        if note is not None and len(note) > 500:
            raise ValueError("a progress note has at most 500 characters")
        self._report(fraction, note)

    def stop(self) -> None:
        """Mark this run as no longer wanted. The runner calls it; a test may."""
        self._stopped.set()
