"""Where the time of a hire goes: the broker's own event logs, put beside the buyer's clock."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from hires import HireMarks

from lightwork_contracts.ids import JobId

STEPS = (
    "sign, send, authenticate, choose a listing",
    "provider asked, its invoice made, quote signed",
    "job and intent committed, hold invoice made (LND)",
    "answer to the buyer, every check",
    "buyer pays, HTLC held (LND)",
    "job handed to the provider",
    "task run, result delivered",
    "intent to pay committed",
    "provider paid (LND)",
    "hold invoice settled (LND)",
    "buyer's wallet hears it, result fetched",
)


@dataclass(frozen=True, slots=True)
class JobTimes:
    """When the result could be seen by the buyer, and when the broker's books were closed. Unix seconds."""

    delivered: float
    settled: float
    steps: tuple[float, ...]


class JobLog:
    """Reads the broker's database while the broker runs. Times are those written inside each transaction."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def times(self, hire: HireMarks) -> JobTimes | None:
        """Return the times of one job, None while it is not settled."""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection:
            job = dict(connection.execute("SELECT kind, at FROM job_event WHERE job_id = ?", (hire.job_id,)))
            escrow = dict(
                connection.execute("SELECT event, at FROM escrow_event WHERE escrow_id = ?", (hire.job_id,))
            )
            quoted = connection.execute(
                "SELECT quote.created_at FROM quote JOIN job ON job.quote_id = quote.id WHERE job.id = ?",
                (hire.job_id,),
            ).fetchone()[0]
        if "job.settled" not in job:
            return None
        marks = (
            hire.called_at,
            quoted,
            job["job.quoted"],
            escrow["hold_added"],
            hire.paying_at,
            escrow["htlc_accepted"],
            job["job.leased"],
            job["job.delivered"],
            escrow["payout_intended"],
            escrow["payout_succeeded"],
            escrow["settle_confirmed"],
            hire.ended_at,
        )
        return JobTimes(
            delivered=job["job.delivered"],
            settled=job["job.settled"],
            steps=tuple(after - before for before, after in pairwise(marks)),
        )

    def settled(self, hires: Sequence[HireMarks], *, seconds: float = 20.0) -> list[JobTimes]:
        """Wait until every one of these jobs is settled in the broker's database; return their times.

        Raises:
            TimeoutError: one is not.
        """
        deadline = time.monotonic() + seconds
        found: dict[JobId, JobTimes] = {}
        while len(found) < len(hires):
            for hire in hires:
                if hire.job_id not in found and (times := self.times(hire)) is not None:
                    found[hire.job_id] = times
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(hires) - len(found)} jobs are not settled at the broker")
        return [found[hire.job_id] for hire in hires]


def median_steps(jobs: Sequence[JobTimes]) -> list[tuple[str, float]]:
    """The median of each step, in seconds."""
    return [(name, median(job.steps[number] for job in jobs)) for number, name in enumerate(STEPS)]
