"""A run as live lines, as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from chaos.strikes import Deed
from chaos.verdict import Facts, breaches_of
from rich.console import Console
from rich.table import Table

from lightwork_contracts.status import JobStatus


@dataclass(frozen=True, slots=True)
class Recovery:
    """How often one victim was struck in one way, and how many seconds it took to serve again."""

    victim: str
    deed: Deed
    times: int
    median: float
    worst: float


@dataclass(frozen=True, slots=True)
class Run:
    """What a run was and what it led to. Times in seconds."""

    seed: int
    brokers: int
    database: str
    seconds: float
    rest_seconds: float
    recoveries: tuple[Recovery, ...]
    tries: int
    said: Mapping[str, int]
    facts: Facts

    @property
    def breaches(self) -> tuple[str, ...]:
        return breaches_of(self.facts)

    def jobs(self) -> dict[str, int]:
        """Count the jobs by how they ended."""
        ended = Counter(job.status for job in self.facts.jobs if job.is_over)
        unknown = sum(1 for job in self.facts.jobs if not job.is_over and job.is_unknown)
        return {
            "hired": len(self.facts.jobs),
            "settled": ended[JobStatus.SETTLED],
            "refunded": ended[JobStatus.REFUNDED],
            "expired": ended[JobStatus.EXPIRED],
            "unknown": unknown,
            "not over": len(self.facts.jobs) - sum(ended.values()) - unknown,
        }


def say(line: str) -> None:
    """Write a line about what happens now to standard error."""
    print(line, file=sys.stderr, flush=True)


def recovery_of(victim: str, deed: Deed, seconds: list[float]) -> Recovery:
    """Sum up the strikes of one kind at one victim."""
    return Recovery(victim, deed, len(seconds), statistics.median(seconds), max(seconds))


def print_report(run: Run) -> None:
    """Print the tables, and each breach."""
    console = Console()
    jobs = Table(title=f"Chaos with seed {run.seed}: {run.brokers} broker(s) on {run.database}")
    for name in ("jobs", ""):
        jobs.add_column(name, justify="right" if not name else "left", no_wrap=True)
    for name, number in run.jobs().items():
        jobs.add_row(name, f"{number}")
    jobs.add_row("sats lost", f"{run.facts.lost_msat / 1_000:g}", end_section=True)
    for name in ("buyer", "broker", "provider"):
        jobs.add_row(f"{name}'s node moved", f"{run.facts.moved[name] / 1_000:,.3f} sat")
    jobs.add_row("owed on credit", f"{run.facts.owed_msat / 1_000:,.3f} sat")
    console.print(jobs)
    strikes = Table(caption_justify="left")
    for name in ("struck", "how"):
        strikes.add_column(name, no_wrap=True)
    for name in ("times", "served again, median", "worst"):
        strikes.add_column(name, justify="right", no_wrap=True)
    for one in run.recoveries:
        killed = one.deed is Deed.KILL
        strikes.add_row(
            one.victim,
            one.deed,
            f"{one.times}",
            f"{one.median:.1f} s" if killed else "",
            f"{one.worst:.1f} s" if killed else "",
        )
    strikes.caption = (
        f"{run.seconds:.0f} s of chaos; {run.rest_seconds:.0f} s later every job was over. "
        f"Buyers tried {run.tries} times and heard: "
        + ", ".join(f"{what} {number}" for what, number in sorted(run.said.items()))
        + f". Again in kind: --seed {run.seed}."
    )
    console.print(strikes)
    for breach in run.breaches:
        console.print("breach:", breach, style="red", markup=False, highlight=False)


def as_json(run: Run) -> str:
    """Return the same as one JSON document."""
    return json.dumps(
        {
            "seed": run.seed,
            "brokers": run.brokers,
            "database": run.database,
            "seconds": round(run.seconds, 1),
            "seconds_until_over": round(run.rest_seconds, 1),
            "jobs": run.jobs(),
            "sats_lost": run.facts.lost_msat / 1_000,
            "moved_msat": dict(run.facts.moved),
            "owed_msat": run.facts.owed_msat,
            "strikes": [
                {
                    "victim": one.victim,
                    "deed": one.deed.value,
                    "times": one.times,
                    "back_seconds_median": round(one.median, 2),
                    "back_seconds_worst": round(one.worst, 2),
                }
                for one in run.recoveries
            ],
            "tries": run.tries,
            "buyers_heard": dict(run.said),
            "breaches": list(run.breaches),
        },
        indent=2,
    )
