"""The machines on which the brokers run: each is started, killed at any step, and given back older data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_matrix.process import Gone, Process
from kill_matrix.steps import Kind, Moment, Step, Steps
from kill_matrix.watched import AnswerLost, Killed, Life
from market_machine.books import Books
from market_machine.clocks import WallClock

from lightwork_broker.escrow.reconcile import RecoveryFailed
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.webhooks.outgoing import Outgoing

MEMORY = tuple(f"SELECT id FROM {table} ORDER BY id" for table in ("job", "withdrawal", "webhook"))
"""What an older database must not have forgotten: a broker that never heard of a job is another promise."""


@dataclass
class Seat:
    """Where one broker process runs after the other."""

    process: Process | None = None
    steps: Steps | None = None

    @property
    def lives(self) -> bool:
        return self.process is not None and not self.process.life.dead


@dataclass
class House:
    """As many brokers as the database is for, on one folder and one node."""

    node: Callable[[], LightningNode]
    stop_node: Callable[[], None]
    folder: Path
    settings: BrokerSettings
    clock: WallClock
    books: Books
    outgoing: Callable[[Life], Outgoing]
    seats: list[Seat] = field(init=False)
    breaches: list[str] = field(default_factory=list[str])
    starts: int = 0
    deaths: int = 0
    restored: int = 0
    _kept: tuple[list[Any], ...] | None = None

    def __post_init__(self) -> None:
        self.seats = [Seat() for _ in range(self.books.brokers)]

    @property
    def lives(self) -> bool:
        """Whether there is a broker."""
        return any(seat.lives for seat in self.seats)

    def serving(self, turn: int) -> Process | None:
        """Return the broker that a request comes to: each that lives has its turn."""
        living = [seat.process for seat in self.seats if seat.lives]
        return living[turn % len(living)] if living else None

    async def start(self, which: int | None = None) -> bool:
        """Start one broker, or all, unless it runs; say whether it does now. It may refuse to, with a reason."""
        await self.bury()
        seats = self.seats if which is None else [self.seats[which % len(self.seats)]]
        return all([await self._start(seat) for seat in seats])

    async def _start(self, seat: Seat) -> bool:
        if seat.process is not None:
            return True
        seat.steps = Steps(now=self.clock.now, counting=True)
        seat.process = process = Process(
            self.node(),
            settings=self.settings,
            steps=seat.steps,
            database=self.books.open,
            clock=self.clock,
            outgoing=self.outgoing,
        )
        try:
            await process.start()
        except Gone:
            failure = process.failure
            if not isinstance(failure, Killed | RecoveryFailed | LightningError | None):
                self.breaches.append(f"the broker did not start: {failure!r}")
            await self.bury()
            return False
        self.starts += 1
        return True

    async def kill(self, which: int | None = None) -> None:
        """Kill one broker, or all."""
        for seat in self.seats if which is None else [self.seats[which % len(self.seats)]]:
            if seat.process is not None:
                seat.process.die()
        await self.bury()

    async def bury(self) -> None:
        """Take away the brokers that have died."""
        for seat in self.seats:
            process = seat.process
            if process is not None and process.life.dead:
                seat.process = None
                self.deaths += 1
                await process.bury()

    def kill_at(self, step: int, *, node_too: bool, which: int = 0) -> None:
        """Let a broker die at its next step but so many: a call to the node or a commit, before or after.

        With `node_too` it is the node that goes down there, with its answer, and the broker lives on.
        """
        seat = self.seats[which % len(self.seats)]
        steps, process = seat.steps, seat.process
        if steps is None or process is None:
            return

        def strike(step: Step) -> None:
            steps.kill_at = None
            if not node_too:
                process.die()
                return
            self.stop_node()
            if step.kind is Kind.CALL and step.moment is Moment.AFTER:
                raise AnswerLost

        steps.kill_at, steps.strike = len(steps.taken) + step, strike

    def disarm(self) -> None:
        for seat in self.seats:
            if seat.steps is not None:
                seat.steps.kill_at = None

    # --- older data -------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Copy the database as it is now."""
        self.books.keep()
        self._kept = self._memory()

    @property
    def may_restore(self) -> bool:
        """Whether there is a copy that has heard of everything that was begun, and nobody who runs."""
        return not self.lives and self._kept is not None and self._kept == self._memory()

    def restore(self) -> None:
        """Put the copy in place of the database of dead brokers."""
        self.books.restore()
        self.restored += 1

    def _memory(self) -> tuple[list[Any], ...]:
        return tuple([row["id"] for row in self.books.rows(query)] for query in MEMORY)
