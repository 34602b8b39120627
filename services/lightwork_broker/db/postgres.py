"""A PostgreSQL database that several brokers share.

Each write begins with one advisory lock, held until its commit: only one broker writes at a time, and it sees all
that the others have written. This is SQLite's promise kept on a server, so no room needs to know where it works;
what it costs is measured in docs/adr/0006. The lock is the transaction's: of a broker that is killed the server takes
it back at once, of one that hangs after `HANGS_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from lightwork_broker.db.engine import (
    BUSY_SECONDS,
    Database,
    DatabaseUnavailable,
    NotStorable,
    Outcome,
    Row,
    Transaction,
    forbid_second_transaction,
    writing,
)
from lightwork_broker.db.postgres_relay import PostgresRelay

READERS = 10
SCANS_AT_ONCE = 4
HANGS_SECONDS = 30
"""How long a transaction may wait for its broker, or a statement take, before the server ends it."""
WRITE_LOCK = 0x11687770726B  # any number, the same in every broker
TAKE_WRITE_LOCK = sa.text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

_OPTIONS = {
    "synchronous_commit": "on",
    "lock_timeout": f"{BUSY_SECONDS:.0f}s",
    "statement_timeout": f"{HANGS_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{HANGS_SECONDS}s",
}
"""What a server's own configuration must not weaken: above all, a commit that has returned is on the disk."""


class PostgresTransaction(Transaction):
    """A transaction on one connection."""

    def __init__(self, connection: AsyncConnection) -> None:
        super().__init__()
        self._connection = connection

    async def call(self, statement: sa.Executable, values: dict[str, object]) -> Outcome:
        result = cast("sa.CursorResult[Any]", await self._connection.execute(statement, values or None))
        if result.context.isinsert:
            # RETURNING brings the key, so an insert has rows here.
            key: object = cast("sa.Row[Any]", result.inserted_primary_key)[0]
            return Outcome((), result.rowcount, key if isinstance(key, int) else 0)
        if result.returns_rows:
            return Outcome(cast("Sequence[Row]", result.mappings().all()), 0, 0)
        return Outcome((), result.rowcount, 0)


class PostgresDatabase(Database):
    """The doors to a server, given as `postgresql://user@host:port/name`."""

    def __init__(self, url: str) -> None:
        self._writer = _engine(url, connections=1, isolation_level="READ COMMITTED")
        self._readers = _engine(
            url, connections=READERS, isolation_level="REPEATABLE READ"
        ).execution_options(postgresql_readonly=True)
        self._adders = self._readers.execution_options(
            isolation_level="AUTOCOMMIT", postgresql_readonly=False
        )
        self.relay = PostgresRelay(url, arguments=connect_arguments())
        self._turn = asyncio.Lock()
        self._scans = asyncio.Semaphore(SCANS_AT_ONCE)
        self._commits: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        forbid_second_transaction()
        with translated():
            # First in line among our own, then among the brokers: one connection is enough.
            async with self._turn, _connection(self._writer) as connection:
                await connection.execute(TAKE_WRITE_LOCK)
                transaction = PostgresTransaction(connection)
                with writing():
                    yield transaction
                await self._to_the_end(_commit(connection, transaction))

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        with translated():
            async with _connection(self._readers) as connection:
                yield PostgresTransaction(connection)

    @asynccontextmanager
    async def scan(self) -> AsyncGenerator[Transaction]:
        async with self._scans, self.read() as transaction:
            yield transaction

    async def add_once(self, table: sa.Table, **values: object) -> bool:
        with translated():
            async with _connection(self._adders) as connection:
                adding = postgres_insert(table).on_conflict_do_nothing().returning(*table.primary_key)
                return (await connection.execute(adding, values)).first() is not None

    async def close(self) -> None:
        await asyncio.gather(*self._commits, return_exceptions=True)
        await self._writer.dispose()
        await self._readers.dispose()

    async def _to_the_end(self, commit: asyncio.Task[None]) -> None:
        """Wait for a commit, also through a cancellation: its connection is not free before its end."""
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait({commit})
            raise


@asynccontextmanager
async def _connection(engine: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Lend a connection. One that is being opened for a task that is cancelled is closed, not forgotten."""
    opening = asyncio.create_task(engine.connect().start(), name="connect")
    try:
        connection = await asyncio.shield(opening)
    except asyncio.CancelledError:
        await asyncio.wait({opening})
        if opening.exception() is None:
            await opening.result().close()
        raise
    try:
        yield connection
    finally:
        await connection.close()


def _commit(connection: AsyncConnection, transaction: PostgresTransaction) -> asyncio.Task[None]:
    async def commit() -> None:
        await connection.commit()
        loop = asyncio.get_running_loop()
        for action in transaction.after_commit_actions:
            loop.call_soon(action)

    return asyncio.create_task(commit(), name="commit")


def url_of(where: str) -> sa.URL:
    """Return the URL with the driver that we bring."""
    return sa.make_url(where).set(drivername="postgresql+psycopg")


def connect_arguments(**more: str) -> dict[str, object]:
    """Return what each connection asks of the server, and after how long a silent network is a dead one."""
    options = " ".join(f"-c {name}={value}" for name, value in (_OPTIONS | more).items())
    return {
        "options": options,
        "application_name": "lightwork-broker",
        "connect_timeout": int(BUSY_SECONDS),
        "tcp_user_timeout": HANGS_SECONDS * 1_000,
    }


def _engine(url: str, *, connections: int, isolation_level: str) -> AsyncEngine:
    return create_async_engine(
        url_of(url),
        isolation_level=isolation_level,
        pool_size=connections,
        max_overflow=0 if connections == 1 else connections,
        pool_timeout=BUSY_SECONDS,
        # A server that was restarted must not cost the first request of each connection.
        pool_pre_ping=True,
        connect_args=connect_arguments(),
        # An error must not show the preimage that was being stored.
        hide_parameters=True,
    )


@contextmanager
def translated() -> Generator[None]:
    """Say in a word what the driver says in many: no connection, cut off, no lock to be had, or not storable."""
    try:
        yield
    except (
        exc.OperationalError,
        exc.InterfaceError,
        exc.TimeoutError,
        psycopg.OperationalError,
    ) as error:
        # The driver's text may name the server and the user, which are nobody else's business.
        raise DatabaseUnavailable(f"PostgreSQL gives no answer ({type(error).__name__})") from error
    except exc.DataError as error:
        raise NotStorable("a text holds a zero byte, or a number is out of range") from error
    except exc.IntegrityError as error:
        # The server's DETAIL repeats the row, which may hold a preimage, or the key that was taken.
        told = psycopg.IntegrityError(str(error.orig).partition("\n")[0])
        raise exc.IntegrityError(error.statement, None, told, hide_parameters=True) from None
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise DatabaseUnavailable(f"PostgreSQL gives no answer ({type(error).__name__})") from error
