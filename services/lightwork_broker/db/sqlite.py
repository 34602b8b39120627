"""One SQLite file: one writer, several readers, short transactions.

SQLite runs in WAL mode with `synchronous=FULL`, so that a committed row outlives a power cut, and every
write begins with BEGIN IMMEDIATE, so that a transaction never fails half-way for want of the write lock.

Statements are SQLAlchemy Core's and run where they are called: they touch cached pages and are over in less
time than handing them to a thread and back takes. What waits for the disk, the commit, runs in a thread;
whoever wants to write meanwhile waits and then shares the next commit, so one sync of the disk serves all of
them (group commit).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from lightwork_broker.db.engine import (
    BUSY_SECONDS,
    Database,
    DatabaseUnavailable,
    Outcome,
    Row,
    Transaction,
    TransactionLost,
    forbid_second_transaction,
    writing,
)

T = TypeVar("T")

BUSY_POLL_SECONDS = 0.01
SCANS_AT_ONCE = 4


class SqliteTransaction(Transaction):
    """A transaction whose statements run where they are called."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__()
        self._connection = connection

    async def call(self, statement: sa.Executable, values: dict[str, object]) -> Outcome:
        return self._execute(statement, values)

    def _execute(self, statement: sa.Executable, values: dict[str, object]) -> Outcome:
        result = cast("sa.CursorResult[Any]", self._connection.execute(statement, values or None))
        if result.returns_rows:
            return Outcome(cast("Sequence[Row]", result.mappings().all()), 0, 0)
        return Outcome((), result.rowcount, result.lastrowid if result.context.isinsert else 0)


class _Scan(SqliteTransaction):
    """A read transaction whose statements may look at many rows: each runs in a thread."""

    async def call(self, statement: sa.Executable, values: dict[str, object]) -> Outcome:
        loop = asyncio.get_running_loop()
        return await _to_the_end(loop.run_in_executor(None, lambda: self._execute(statement, values)))


class _Batch:
    """The transactions that one commit will make durable."""

    def __init__(self) -> None:
        self.durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.actions: list[Callable[[], object]] = []

    def fail(self, error: Exception) -> None:
        self.durable.set_exception(error)
        self.durable.exception()  # looked at: each that waits for it raises it


class SqliteDatabase(Database):
    """The doors to one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        # BEGIN and COMMIT are ours to say: AUTOCOMMIT keeps SQLAlchemy from saying them too.
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: _connect(path),
            poolclass=sa.NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,  # an error must not show the preimage that was being stored
        )
        self._writer: _Connection | None = None
        self._readers: list[_Connection] = []
        self._turn = asyncio.Lock()
        self._scans = asyncio.Semaphore(SCANS_AT_ONCE)
        self._batch: _Batch | None = None
        self._commit_asked = False
        self._committing: set[asyncio.Task[None]] = set()
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="commit")

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        async with self._join() as (transaction, batch):
            yield transaction
        await asyncio.shield(batch.durable)

    @asynccontextmanager
    async def _join(self) -> AsyncGenerator[tuple[Transaction, _Batch]]:
        """Open a transaction of the batch that is committed next; that it is durable is not waited for."""
        forbid_second_transaction()
        async with self._turn:
            writer = self._open_writer()
            batch = self._batch = self._batch or await self._begin(writer)
            transaction = SqliteTransaction(writer.core)
            writer.raw.execute("SAVEPOINT one")
            try:
                with writing():
                    yield transaction, batch
            except BaseException:
                self._undo(writer, batch)
                raise
            else:
                writer.raw.execute("RELEASE one")
                batch.actions.extend(transaction.after_commit_actions)
            finally:
                self._ask_for_commit()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        connection = self._open_snapshot()
        try:
            yield SqliteTransaction(connection.core)
        finally:
            self._close_snapshot(connection)

    @asynccontextmanager
    async def scan(self) -> AsyncGenerator[Transaction]:
        async with self._scans:
            connection = self._open_snapshot()
            try:
                yield _Scan(connection.core)
            finally:
                self._close_snapshot(connection)

    async def add_once(self, table: sa.Table, **values: object) -> bool:
        async with self._join() as (transaction, _):
            adding = sqlite_insert(table).on_conflict_do_nothing().returning(*table.primary_key)
            return await transaction.one(adding, **values) is not None

    async def close(self) -> None:
        await asyncio.gather(*self._committing, return_exceptions=True)
        for connection in (*self._readers, *([self._writer] if self._writer else [])):
            connection.core.close()
        self._readers.clear()
        self._writer = None
        self._disk.shutdown()

    async def _begin(self, writer: _Connection) -> _Batch:
        """Take the write lock. Another program may have it: then ask again, without holding up the loop."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BUSY_SECONDS
        while True:
            try:
                writer.raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                if loop.time() > deadline:
                    raise DatabaseUnavailable("another program keeps the write lock") from error
                await asyncio.sleep(BUSY_POLL_SECONDS)
            else:
                return _Batch()

    def _ask_for_commit(self) -> None:
        # By a task of its own: it takes its turn behind all who wait now, so they share the commit, and no
        # cancellation of any of them leaves the others without it.
        if not self._commit_asked:
            self._commit_asked = True
            task = asyncio.create_task(self._commit(), name="commit")
            self._committing.add(task)
            task.add_done_callback(self._committing.discard)

    async def _commit(self) -> None:
        async with self._turn:
            self._commit_asked = False
            batch, writer, self._batch = self._batch, self._open_writer(), None
            if batch is None:
                return
            loop = asyncio.get_running_loop()
            try:
                await _to_the_end(loop.run_in_executor(self._disk, lambda: writer.raw.execute("COMMIT")))
            except asyncio.CancelledError:
                batch.durable.cancel()
                raise
            except sqlite3.Error as error:
                if writer.raw.in_transaction:
                    writer.raw.execute("ROLLBACK")
                batch.fail(error)
            else:
                for action in batch.actions:
                    loop.call_soon(action)
                batch.durable.set_result(None)

    def _undo(self, writer: _Connection, batch: _Batch) -> None:
        if writer.raw.in_transaction:
            writer.raw.execute("ROLLBACK TO one")
            writer.raw.execute("RELEASE one")
        else:
            # A full disk, for one, makes SQLite roll back everything that was open.
            self._batch = None
            batch.fail(TransactionLost("the database gave up the transactions that were open"))

    def _open_writer(self) -> _Connection:
        if self._writer is None:
            self._writer = self._open()
            # It must not sleep on the event loop: `_begin` waits in its stead.
            self._writer.raw.execute("PRAGMA busy_timeout=0")
        return self._writer

    def _open_snapshot(self) -> _Connection:
        connection = self._readers.pop() if self._readers else self._open()
        connection.raw.execute("BEGIN")
        return connection

    def _close_snapshot(self, connection: _Connection) -> None:
        connection.raw.execute("ROLLBACK")
        self._readers.append(connection)

    def _open(self) -> _Connection:
        core = self._engine.connect()
        return _Connection(core, cast("sqlite3.Connection", core.connection.dbapi_connection))


@dataclass(frozen=True, slots=True)
class _Connection:
    """One connection, for statements (`core`) and for the words around them (`raw`)."""

    core: sa.Connection
    raw: sqlite3.Connection


async def _to_the_end(work: asyncio.Future[T]) -> T:
    """Wait for work in a thread, also through a cancellation: its connection is not free before its end."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        raise


def _connect(path: str) -> sqlite3.Connection:
    # One connection works for one caller at a time, in whichever thread.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
