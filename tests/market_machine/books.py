"""Where the brokers' database is, and a look at its committed rows, past the code under test."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import psycopg
from kill_matrix.watched import Life, WatchedDatabase
from kill_matrix.watched_server import Line, WatchedServer
from postgres_dump import dump, load
from postgres_server import PostgresServer

from lightwork_broker.db.engine import Database
from lightwork_broker.db.place import migrate

Rows = list[dict[str, Any]]


class Books(Protocol):
    """One migrated database for one market after the other."""

    brokers: int
    """How many may share it."""
    line: Line
    """Over which they tell each other."""
    coarseness: float
    """How many times longer the strides of time are: where each look costs more, there are fewer."""

    def begin(self) -> None:
        """Make it empty."""
        ...

    def rows(self, query: str, *values: object) -> Rows:
        """Return what a query finds; its parameters are `?`."""
        ...

    def one(self, query: str, *values: object) -> dict[str, Any] | None: ...

    def version(self) -> object:
        """Return what is another thing after each commit of anybody's."""
        ...

    def keep(self) -> None:
        """Copy all of it as it is now."""
        ...

    def restore(self) -> None:
        """Put the copy in its place; no broker runs."""
        ...

    def open(self, life: Life) -> Database:
        """Return the doors for one broker process."""
        ...

    def close(self) -> None: ...


class SqliteBooks:
    """A file, for one broker."""

    brokers = 1
    coarseness = 1.0

    def __init__(self, folder: Path, *, template: Path) -> None:
        self._template = template
        self._path = folder / "broker.sqlite"
        self._copy = folder / "kept.sqlite"
        self._open: sqlite3.Connection | None = None
        self.line = Line()

    def begin(self) -> None:
        self._replace(self._template)

    def rows(self, query: str, *values: object) -> Rows:
        if self._open is None:
            self._open = sqlite3.connect(self._path, isolation_level=None)
            self._open.row_factory = sqlite3.Row
        return [dict(row) for row in self._open.execute(query, values)]

    def one(self, query: str, *values: object) -> dict[str, Any] | None:
        return next(iter(self.rows(query, *values)), None)

    def version(self) -> object:
        return self.rows("PRAGMA data_version")[0]["data_version"]

    def keep(self) -> None:
        with closing(sqlite3.connect(self._path)) as source, closing(sqlite3.connect(self._copy)) as copy:
            source.backup(copy)

    def restore(self) -> None:
        self._replace(self._copy)

    def open(self, life: Life) -> Database:
        return WatchedDatabase(str(self._path), life=life)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _replace(self, source: Path) -> None:
        self.close()
        for ending in ("-wal", "-shm"):
            self._path.with_name(f"{self._path.name}{ending}").unlink(missing_ok=True)
        shutil.copyfile(source, self._path)


class ServerBooks:
    """A database on a PostgreSQL server, for two brokers. Its copies are what a dump of it would hold."""

    brokers = 2
    coarseness = 8.0

    def __init__(self, server: PostgresServer) -> None:
        self.line = Line()
        self._url = server.create("market_of_a_test")
        migrate(self._url)
        self._connection = psycopg.connect(self._url, autocommit=True)
        self._empty = self._kept = dump(self._connection)

    def begin(self) -> None:
        self.line = Line()
        load(self._connection, self._empty)

    def rows(self, query: str, *values: object) -> Rows:
        cursor = self._connection.execute(query.replace("?", "%s").encode(), values or None)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, map(_plain, row), strict=True)) for row in cursor]

    def one(self, query: str, *values: object) -> dict[str, Any] | None:
        return next(iter(self.rows(query, *values)), None)

    def version(self) -> object:
        return self.rows("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS at")[0]["at"]

    def keep(self) -> None:
        self._kept = dump(self._connection)

    def restore(self) -> None:
        load(self._connection, self._kept)

    def open(self, life: Life) -> Database:
        return WatchedServer(self._url, life=life, line=self.line)

    def close(self) -> None:
        return  # the next market is in the same database

    def end(self) -> None:
        """Let go of the server."""
        self._connection.close()


def _plain(value: object) -> object:
    """Return what SQLite would: a sum of integers is one."""
    return int(value) if isinstance(value, Decimal) else value
