"""The steps of a broker: each call to its node and each commit, before and after, numbered as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    CALL = "call"
    COMMIT = "commit"


class Moment(StrEnum):
    BEFORE = "before"
    """Nothing has happened yet."""
    AFTER = "after"
    """It has happened, and whoever asked for it does not know yet."""


@dataclass(frozen=True, slots=True)
class Step:
    """One moment at which a victim can be killed. `commits` counts those that are durable by then."""

    number: int
    kind: Kind
    name: str
    moment: Moment
    commits: int
    at: float
    state: str = ""

    def __str__(self) -> str:
        return f"{self.number:>3} {self.moment} {self.name}" + (f" ({self.state})" if self.state else "")


Strike = Callable[[Step], None]

STATE = (
    "SELECT job.status, escrow.state, (SELECT status FROM withdrawal WHERE withdrawal.created_at >= job.created_at "
    "ORDER BY withdrawal.id DESC LIMIT 1) FROM job JOIN escrow ON escrow.id = job.id WHERE job.id > ? "
    "ORDER BY job.id LIMIT 1"
)
"""Finds how the first job after another one stands, and the newest withdrawal of what it earned."""


def state_of(row: Sequence[str | None] | None) -> str:
    """Return what `STATE` has found in words; nothing before there is a job."""
    if row is None:
        return ""
    job, escrow, withdrawal = row
    said = f"job {job}, escrow {escrow}"
    return said if withdrawal is None else f"{said}, withdrawal {withdrawal}"


@dataclass
class Steps:
    """Counts the steps of one run; at step number `kill_at` it calls `strike`, which may raise.

    `saw_commit` is told of each commit once it is durable, with its number; `describe` says how the job stands.
    """

    now: Callable[[], float]
    kill_at: int | None = None
    strike: Strike | None = None
    saw_commit: Callable[[int], None] | None = None
    describe: Callable[[], str] | None = None
    taken: list[Step] = field(default_factory=list[Step])
    commits: int = 0
    counting: bool = False

    def reach(self, kind: Kind, name: str, moment: Moment) -> None:
        """Take note of a step; it may be somebody's last."""
        if not self.counting:
            return
        if kind is Kind.COMMIT and moment is Moment.AFTER:
            self.commits += 1
            if self.saw_commit is not None:
                self.saw_commit(self.commits)
        state = self.describe() if self.describe is not None else ""
        step = Step(len(self.taken) + 1, kind, name, moment, self.commits, self.now(), state)
        self.taken.append(step)
        if step.number == self.kill_at and self.strike is not None:
            self.strike(step)

    def restart(self, *, kill_at: int, strike: Strike) -> None:
        """Count anew, up to another kill."""
        self.taken.clear()
        self.kill_at, self.strike, self.counting = kill_at, strike, True
