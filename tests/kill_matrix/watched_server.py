"""A broker's connections to a real PostgreSQL server, each commit of which is a step, in a loop of virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import sqlalchemy as sa
from kill_matrix.steps import Kind, Moment
from kill_matrix.virtual_time import VirtualLoop
from kill_matrix.watched import AnswerLost, Life, WatchedDatabase

from lightwork_broker.db.engine import DatabaseUnavailable, Transaction
from lightwork_broker.db.place import is_server
from lightwork_broker.db.postgres import PostgresDatabase

HEARD_AFTER_SECONDS = 0.001


class Line:
    """What brokers tell each other over: in this process, so that news takes virtual time. It can be cut."""

    def __init__(self) -> None:
        self._ears: list[tuple[Callable[[str], None], Callable[[], None]]] = []
        self.cut = False

    def mend(self) -> None:
        """Let it be heard again, and what was missed be looked for."""
        self.cut = False
        for _, stir in list(self._ears):
            stir()

    @contextmanager
    def ear(self, hear: Callable[[str], None], stir: Callable[[], None]) -> Generator[None]:
        mine = (hear, stir)
        self._ears.append(mine)
        stir()
        try:
            yield
        finally:
            self._ears.remove(mine)

    def tell(self, topic: str, *, by: Callable[[str], None] | None) -> None:
        for hear, _ in self._ears:
            if hear is not by and not self.cut:
                asyncio.get_running_loop().call_later(HEARD_AFTER_SECONDS, hear, topic)


class LineRelay:
    """One broker's mouth and ear: the port `Relay`."""

    def __init__(self, line: Line, *, life: Life) -> None:
        self._line = line
        self._life = life
        self._hear: Callable[[str], None] | None = None

    def tell(self, topic: str) -> None:
        if not self._life.dead:
            self._line.tell(topic, by=self._hear)

    async def run(self, *, hear: Callable[[str], None], stir: Callable[[], None]) -> None:
        self._hear = hear
        with self._line.ear(hear, stir):
            await asyncio.Event().wait()


class WatchedServer(PostgresDatabase):
    """A broker's database on a server. A transaction whose process dies before the commit leaves no trace.

    Without a `line` it has no relay: there is no other broker to tell. `AnswerLost` after a commit becomes what a
    broker sees whose server made the commit and was gone then.
    """

    def __init__(self, url: str, *, life: Life, line: Line | None = None) -> None:
        super().__init__(url)
        self.relay = None if line is None else LineRelay(line, life=life)  # pyright: ignore[reportAttributeAccessIssue]
        self._life = life

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        self._life.require()
        with self._living():
            async with super().write() as tx:
                yield tx
                wakes = list(tx.after_commit_actions)
                tx.after_commit_actions.clear()
                self._life.reach(Kind.COMMIT, "commit", Moment.BEFORE)
            try:
                self._life.reach(Kind.COMMIT, "commit", Moment.AFTER)
            except AnswerLost as error:
                raise DatabaseUnavailable("the server went away with its answer") from error
        for wake in wakes:
            asyncio.get_running_loop().call_soon(wake)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        self._life.require()
        with self._living():
            async with super().read() as tx:
                yield tx

    async def add_once(self, table: sa.Table, **values: object) -> bool:
        self._life.require()
        with self._living():
            return await super().add_once(table, **values)

    @contextmanager
    def _living(self) -> Generator[None]:
        """Wait in real time. What goes wrong with the connections of a process that has died meanwhile is its death."""
        try:
            with _outside():
                yield
        except DatabaseUnavailable:
            self._life.require()
            raise

    async def close(self) -> None:
        with _outside():
            await super().close()


def watched(place: str, *, life: Life) -> WatchedDatabase | WatchedServer:
    """Open the database at a place."""
    return WatchedServer(place, life=life) if is_server(place) else WatchedDatabase(place, life=life)


@contextmanager
def _outside() -> Generator[None]:
    with cast("VirtualLoop", asyncio.get_running_loop()).outside():
        yield
