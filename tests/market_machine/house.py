"""The machine on which the broker runs: it is started, killed at any step, and given back older data."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_matrix.process import Gone, Process
from kill_matrix.steps import Kind, Moment, Step, Steps
from kill_matrix.watched import AnswerLost, Killed, Life
from market_machine.clocks import WallClock

from lightwork_broker.escrow.reconcile import RecoveryFailed
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.webhooks.outgoing import Outgoing

MEMORY = tuple(f"SELECT id FROM {table} ORDER BY id" for table in ("job", "withdrawal", "webhook"))
"""What an older database must not have forgotten: a broker that never heard of a job is another promise."""


class Books:
    """A look at the committed rows, past the code under test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: sqlite3.Connection | None = None

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Return what a query finds."""
        if self._open is None:
            self._open = sqlite3.connect(self._path, isolation_level=None)
            self._open.row_factory = sqlite3.Row
        return [dict(row) for row in self._open.execute(sql, values)]

    def one(self, sql: str, *values: object) -> dict[str, Any] | None:
        found = self.rows(sql, *values)
        return found[0] if found else None

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


@dataclass
class House:
    """One broker process after the other, on one folder. `crash` is called when it dies of itself at a step."""

    node: Callable[[], LightningNode]
    stop_node: Callable[[], None]
    folder: Path
    settings: BrokerSettings
    clock: WallClock
    books: Books
    outgoing: Callable[[Life], Outgoing]
    process: Process | None = None
    breaches: list[str] = field(default_factory=list[str])
    starts: int = 0
    deaths: int = 0
    restored: int = 0
    _steps: Steps | None = None
    _kept: tuple[list[Any], ...] | None = None

    @property
    def path(self) -> Path:
        return self.folder / "broker.sqlite"

    @property
    def lives(self) -> bool:
        return self.process is not None and not self.process.life.dead

    async def start(self) -> bool:
        """Start a broker, unless one runs; say whether one does now. It may refuse to, with a reason."""
        await self.bury()
        if self.process is not None:
            return True
        self._steps = Steps(now=self.clock.now, counting=True)
        self.process = Process(
            self.node(),
            settings=self.settings,
            steps=self._steps,
            path=self.path,
            clock=self.clock,
            outgoing=self.outgoing,
        )
        try:
            await self.process.start()
        except Gone:
            failure = self.process.failure
            if not isinstance(failure, Killed | RecoveryFailed | LightningError | None):
                self.breaches.append(f"the broker did not start: {failure!r}")
            await self.bury()
            return False
        self.starts += 1
        return True

    async def kill(self) -> None:
        if self.process is not None:
            self.process.die()
        await self.bury()

    async def bury(self) -> None:
        """Take away a broker that has died."""
        if self.process is not None and self.process.life.dead:
            self.deaths += 1
            await self.process.bury()
            self.process = None

    def kill_at(self, step: int, *, node_too: bool) -> None:
        """Let the broker die at the next step but so many: a call to the node or a commit, before or after.

        With `node_too` it is the node that goes down there, with its answer, and the broker lives on.
        """
        steps, process = self._steps, self.process
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
        if self._steps is not None:
            self._steps.kill_at = None

    # --- older data -------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Copy the database as it is now."""
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(self._copy)) as copy:
            source.backup(copy)
        self._kept = self._memory()

    @property
    def may_restore(self) -> bool:
        """Whether there is a copy that has heard of everything that was begun."""
        return not self.lives and self._kept is not None and self._kept == self._memory()

    def restore(self) -> None:
        """Put the copy in place of the database of a dead broker."""
        self.books.close()
        for ending in ("-wal", "-shm"):
            self.path.with_name(f"broker.sqlite{ending}").unlink(missing_ok=True)
        shutil.copyfile(self._copy, self.path)
        self.restored += 1

    @property
    def _copy(self) -> Path:
        return self.folder / "kept.sqlite"

    def _memory(self) -> tuple[list[Any], ...]:
        return tuple([row["id"] for row in self.books.rows(query)] for query in MEMORY)
