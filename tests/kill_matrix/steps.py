"""The steps of a broker: each call to its node and each commit, before and after, numbered as they come."""

from __future__ import annotations

from collections import Counter
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
    """One moment at which a victim can be killed. `commits` counts those that are durable by then.

    It is the `nth` of its name and moment in this state of the job.
    """

    number: int
    kind: Kind
    name: str
    moment: Moment
    commits: int
    at: float
    state: str = ""
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.number:>3} {self.moment} {self.name}" + (f" ({self.state})" if self.state else "")


Strike = Callable[[Step], None]

STATE = (
    "SELECT job.status AS job, escrow.state AS escrow, (SELECT status FROM withdrawal "
    "WHERE withdrawal.created_at >= job.created_at ORDER BY withdrawal.id DESC LIMIT 1) AS withdrawal "
    "FROM job JOIN escrow ON escrow.id = job.id WHERE job.id > ? ORDER BY job.id LIMIT 1"
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

    Where runs do not take the same steps each time, `aim` tells instead which step of another run it is to be.

    `saw_commit` is told of each commit once it is durable, with its number; `describe` says how the job stands.
    """

    now: Callable[[], float]
    kill_at: int | None = None
    aim: Step | None = None
    strike: Strike | None = None
    saw_commit: Callable[[int], None] | None = None
    describe: Callable[[], str] | None = None
    taken: list[Step] = field(default_factory=list[Step])
    commits: int = 0
    counting: bool = False
    seen: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])

    def reach(self, kind: Kind, name: str, moment: Moment) -> None:
        """Take note of a step; it may be somebody's last."""
        if not self.counting:
            return
        if kind is Kind.COMMIT and moment is Moment.AFTER:
            self.commits += 1
            if self.saw_commit is not None:
                self.saw_commit(self.commits)
        state = self.describe() if self.describe is not None else ""
        self.seen[name, moment, state] += 1
        nth = self.seen[name, moment, state]
        step = Step(len(self.taken) + 1, kind, name, moment, self.commits, self.now(), state, nth)
        self.taken.append(step)
        if self.strike is not None and (step.number == self.kill_at or self._is_aimed_at(step)):
            self.strike(step)

    def _is_aimed_at(self, step: Step) -> bool:
        aim = self.aim
        return aim is not None and (step.name, step.moment, step.state, step.nth) == (
            aim.name,
            aim.moment,
            aim.state,
            aim.nth,
        )

    def restart(self, *, kill_at: int, strike: Strike) -> None:
        """Count anew, up to another kill."""
        self.taken.clear()
        self.kill_at, self.aim, self.strike, self.counting = kill_at, None, strike, True
