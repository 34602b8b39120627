"""The doors to the database: one writer at a time, several readers, and work to do after a commit.

SQLite (`sqlite.py`) is for one machine, PostgreSQL (`postgres.py`) for several brokers. Both keep the same promises:
a write sees everything that was committed before it, nobody else writes meanwhile, and what `write()` has returned
from is on the disk. So the rooms read, decide and write without a thought for others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast

import sqlalchemy as sa
from sqlmodel import SQLModel

Row = Mapping[str, Any]

BUSY_SECONDS = 10.0
"""How long a write waits for another program that has the write lock."""

_writing: ContextVar[bool] = ContextVar("lightwork_writing", default=False)
# PostgreSQL's INTEGER ends at 2**31, where times in seconds arrive in 2038; SQLite's does not.
_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def table_of(model: type[SQLModel]) -> sa.Table:
    """Return the Core table behind a SQLModel class, for targeted updates."""
    table = cast("sa.Table", sa.inspect(model).local_table)
    for column in table.columns:
        if type(column.type) is sa.Integer:
            column.type = _INTEGER
    return table


class TransactionOpen(RuntimeError):
    """A node was about to be called while a database transaction was open (design §3, rule 2)."""


class TransactionLost(RuntimeError):
    """The database rolled back a transaction that another one's failure took with it; nothing was stored."""


class DatabaseUnavailable(RuntimeError):
    """The database gives no answer. What was not committed is not stored; a commit may be or may not be."""


class NotStorable(ValueError):
    """A value that this database cannot hold, such as a text with a zero byte on PostgreSQL."""


def forbid_open_transaction() -> None:
    """Raise `TransactionOpen` inside a write transaction; called before each RPC that moves money."""
    if _writing.get():
        raise TransactionOpen("no RPC while a transaction is open")


def forbid_second_transaction() -> None:
    """Raise `TransactionOpen` where a task that has a write transaction open asks for another one."""
    if _writing.get():
        raise TransactionOpen("a write transaction is already open in this task")


@contextmanager
def writing() -> Generator[None]:
    """Mark the task as one that has a write transaction open. What is started after it must not inherit that."""
    token = _writing.set(True)
    try:
        yield
    finally:
        _writing.reset(token)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one statement has brought: its rows, or how many it changed and the new row's integer key."""

    rows: Sequence[Row]
    changed: int
    key: int


class Transaction(ABC):
    """One open transaction: targeted statements, and callbacks for after the commit.

    Values for a statement that is a constant of its module are given by the names of its parameters or columns.
    """

    def __init__(self) -> None:
        self.after_commit_actions: list[Callable[[], object]] = []

    async def run(self, statement: sa.Executable, **values: object) -> int:
        """Execute a statement and return how many rows it changed."""
        return (await self.call(statement, values)).changed

    async def insert(self, statement: sa.Insert, **values: object) -> int:
        """Execute an insert and return the new row's integer primary key."""
        return (await self.call(statement, values)).key

    async def one(self, statement: sa.Executable, **values: object) -> Row | None:
        rows = (await self.call(statement, values)).rows
        return rows[0] if rows else None

    async def all(self, statement: sa.Executable, **values: object) -> Sequence[Row]:
        return (await self.call(statement, values)).rows

    async def value(self, statement: sa.Executable, **values: object) -> Any:
        row = await self.one(statement, **values)
        return next(iter(row.values())) if row else None

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` once the transaction is durable; not at all if it is rolled back."""
        self.after_commit_actions.append(action)

    @abstractmethod
    async def call(self, statement: sa.Executable, values: dict[str, object]) -> Outcome:
        """Execute one statement."""


class Relay(Protocol):
    """Wake-ups between the brokers on one database."""

    def tell(self, topic: str) -> None:
        """Wake those who wait for this topic at other brokers."""
        ...

    async def run(self, *, hear: Callable[[str], None], stir: Callable[[], None]) -> None:
        """Call `hear` with each topic that others tell, and `stir` when some may have been missed; for ever."""
        ...


class Database(ABC):
    """The doors: `write()` for one short transaction at a time, `read()` and `scan()` for any number.

    Raises `DatabaseUnavailable` where the database gives no answer.
    """

    relay: Relay | None = None
    """Between brokers on several machines; None where there is only one."""

    @abstractmethod
    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a write transaction; on return it is durable, after an error it has left no trace."""

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a read transaction, one consistent snapshot, for statements that find rows by an index."""

    @abstractmethod
    def scan(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a read transaction for statements that may look at many rows; nobody else waits for them."""

    @abstractmethod
    async def add_once(self, table: sa.Table, **values: object) -> bool:
        """Add a row by itself if there is none with its key; tell whether there was none.

        For what nobody decides by together with other rows. It is not waited for until it is on the disk: a crash
        may forget it, and then everything that was written after it as well.
        """

    @abstractmethod
    async def close(self) -> None:
        """Wait for the last commit and close the connections."""
