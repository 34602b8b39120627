"""The cells of the matrix: which step of which flow, who is killed there, and what happens before it comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kill_matrix.flows import Flow
from kill_matrix.steps import Kind, Moment, Step

REPEATS = 2
"""How often the same step in the same state of the job is a cell: sweeps and polls come again and again."""


MOST_RECOVERY_STEPS = 23
"""How far into a recovery it is killed again; its first nine steps are the probe of the permissions."""


class Victim(StrEnum):
    BROKER = "broker"
    LND = "LND"
    DATABASE = "database"
    """SQLite dies with the broker; the disk lied, so the last commit that it acknowledged is gone too.

    A PostgreSQL server dies alone, with the answer to a commit that it has just made.
    """


class Aftermath(StrEnum):
    AT_ONCE = "restart at once"
    BLOCKS = "after blocks"
    """So many that the guardian must act, and not so many that LND has acted by itself."""
    AGAIN = "killed again"
    """Restart at once; what recovers is killed too, some steps later. Only for the broker."""
    BACKUP = "older backup"
    """The broker starts from a copy of its database that was made at an earlier step of this job."""
    OUTAGE = "beyond the margin"
    """LND's own deadline has passed while nobody could act: what the broker has paid by then is its own loss."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kill. `backup` is the number of commits that the database has at the restart; None is all of them.

    `again` is the step of the recovery at which the broker is killed once more.
    """

    flow: Flow
    step: Step
    victim: Victim
    aftermath: Aftermath
    backup: int | None = None
    again: int | None = None
    on_server: bool = False

    @property
    def takes_down_broker(self) -> bool:
        return not (self.takes_down_lnd or self.takes_down_server) or self.aftermath is Aftermath.BACKUP

    @property
    def takes_down_server(self) -> bool:
        return self.victim is Victim.DATABASE and self.on_server

    @property
    def takes_down_lnd(self) -> bool:
        return self.victim is Victim.LND

    def __str__(self) -> str:
        copy = "" if self.backup is None else f", database of commit {self.backup}"
        again = "" if self.again is None else f" at step {self.again} of the recovery"
        return f"{self.flow.name}: {self.victim} killed at {self.step}; {self.aftermath}{copy}{again}"


def cells_of(flow: Flow, trace: Sequence[Step], *, on_server: bool = False) -> Iterator[Cell]:
    """Yield every cell of a flow whose undisturbed run took these steps, on SQLite or on a server."""
    seen: Counter[tuple[str, str, str]] = Counter()
    hired = next((step.commits for step in trace if step.kind is Kind.COMMIT and step.state), None)
    for step in trace:
        seen[step.name, step.moment, step.state] += 1
        if seen[step.name, step.moment, step.state] > REPEATS or not (step.state or flow.from_the_quote):
            continue
        for victim in Victim:
            on_its_own = on_server and victim is Victim.DATABASE
            if not on_its_own and _is_the_same_as_the_step_before(victim, step):
                continue
            for aftermath in Aftermath:
                cell = _cell(flow, step, victim, aftermath, hired=hired, on_server=on_server)
                if cell is not None:
                    yield cell


def _is_the_same_as_the_step_before(victim: Victim, step: Step) -> bool:
    """Nobody but the broker can tell a moment before a commit from the moment before that."""
    before_commit = step.kind is Kind.COMMIT and step.moment is Moment.BEFORE
    return victim is not Victim.BROKER and (before_commit or step.commits == 0)


def _cell(
    flow: Flow, step: Step, victim: Victim, aftermath: Aftermath, *, hired: int | None, on_server: bool
) -> Cell | None:
    lost = step.commits - 1 if victim is Victim.DATABASE and not on_server else None
    if aftermath is Aftermath.AGAIN:
        if victim is not Victim.BROKER:
            return None
        again = 1 + 3 * step.number % MOST_RECOVERY_STEPS
        return Cell(flow, step, victim, aftermath, again=again, on_server=on_server)
    if aftermath is not Aftermath.BACKUP:
        return Cell(flow, step, victim, aftermath, backup=lost, on_server=on_server)
    # A database that never heard of the job is another promise: see docs.
    if hired is None or step.commits <= hired:
        return None
    choice = step.commits - hired
    match victim:
        case Victim.BROKER:
            backup = hired + (7 * step.number) % choice
        case Victim.LND:
            backup = hired + (5 * step.number + 1) % choice
        case Victim.DATABASE:
            backup = hired
    return Cell(flow, step, victim, aftermath, backup=backup, on_server=on_server)
