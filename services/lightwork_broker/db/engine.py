"""The database: one writer, several readers, short transactions, and work to do after a commit.

SQLite runs in WAL mode with `synchronous=FULL`, so that a committed row outlives a power cut, and every
write begins with BEGIN IMMEDIATE, so that a transaction never fails half-way for want of the write lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import SQLModel

_writing: ContextVar[bool] = ContextVar("lightwork_writing", default=False)

Row = sa.RowMapping


def table_of(model: type[SQLModel]) -> sa.Table:
    """Return the Core table behind a SQLModel class, for targeted updates."""
    return cast("sa.Table", sa.inspect(model).local_table)


class TransactionOpen(RuntimeError):
    """A node was about to be called while a database transaction was open (design §3, rule 2)."""


def forbid_open_transaction() -> None:
    """Raise `TransactionOpen` inside a write transaction; called before each RPC that moves money."""
    if _writing.get():
        raise TransactionOpen("no RPC while a transaction is open")


class Transaction:
    """One open transaction: targeted statements, and callbacks for after the commit."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._after_commit: list[Callable[[], object]] = []

    async def run(self, statement: sa.Executable) -> int:
        """Execute a statement and return how many rows it changed."""
        result = await self._connection.execute(statement)
        return cast("sa.CursorResult[Any]", result).rowcount

    async def insert(self, statement: sa.Insert) -> int:
        """Execute an insert and return the new row's integer primary key."""
        result = await self._connection.execute(statement)
        key = cast("sa.CursorResult[Any]", result).inserted_primary_key
        return int(key[0]) if key and isinstance(key[0], int) else 0

    async def one(self, statement: sa.Executable) -> Row | None:
        return (await self._connection.execute(statement)).mappings().first()

    async def all(self, statement: sa.Executable) -> list[Row]:
        return list((await self._connection.execute(statement)).mappings().all())

    async def value(self, statement: sa.Executable) -> Any:
        return (await self._connection.execute(statement)).scalar()

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` once the transaction is durable; not at all if it is rolled back."""
        self._after_commit.append(action)

    def committed(self) -> None:
        for action in self._after_commit:
            action()


class Database:
    """The two doors: `write()` for one short transaction at a time, `read()` for any number."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._writer = _sqlite_engine(path, readers=0)
        self._readers = _sqlite_engine(path, readers=4)
        self._write_lock = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        """Open the write transaction; commit at the end, roll back on any error."""
        if _writing.get():
            raise TransactionOpen("a write transaction is already open in this task")
        async with self._write_lock:
            token = _writing.set(True)
            try:
                async with self._writer.begin() as connection:
                    transaction = Transaction(connection)
                    yield transaction
            finally:
                _writing.reset(token)
        transaction.committed()

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        """Open a read transaction: one consistent snapshot."""
        async with self._readers.connect() as connection:
            yield Transaction(connection)

    async def close(self) -> None:
        await self._writer.dispose()
        await self._readers.dispose()


def _sqlite_engine(path: str, *, readers: int) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=max(readers, 1),
        max_overflow=0,
        pool_timeout=30,
        connect_args={"timeout": 10},
    )
    begin = "BEGIN" if readers else "BEGIN IMMEDIATE"

    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # pyright: ignore[reportAttributeAccessIssue]  (sqlite3's own attribute)
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine.sync_engine, "connect", on_connect)
    event.listen(engine.sync_engine, "begin", on_begin)
    return engine
