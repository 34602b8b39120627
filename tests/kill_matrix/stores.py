"""The database of a run: made anew, looked at, copied at a commit and put back. SQLite's file, or a server's."""

from __future__ import annotations

import gc
import shutil
import sqlite3
import warnings
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import psycopg
from postgres_dump import Dump, dump, load
from postgres_server import PostgresServer
from psycopg.rows import dict_row

from lightwork_broker.db.place import migrate

Rows = list[dict[str, Any]]


class Store(Protocol):
    """One database after the other, at one place."""

    on_server: bool

    @property
    def place(self) -> str:
        """Where the broker finds it: a file, or a URL."""
        ...

    def fresh(self) -> None:
        """Make it anew, migrated and empty."""
        ...

    def rows(self, query: str, *values: str) -> Rows:
        """Look at committed rows, past the code under test. The parameters of a query are `?`."""
        ...

    def keep(self) -> None:
        """Copy it as it is now."""
        ...

    def restore(self) -> None:
        """Put the copy in its place; no broker runs."""
        ...

    def cut(self) -> None:
        """Let go of what a dead broker has left open."""
        ...


class SqliteStore:
    """A file."""

    on_server = False

    def __init__(self, template: Path, folder: Path) -> None:
        self._template, self._folder = template, folder
        self._path = folder / "broker.sqlite"

    @property
    def place(self) -> str:
        return str(self._path)

    def fresh(self) -> None:
        for old in self._folder.glob("*.sqlite*"):
            old.unlink()
        shutil.copyfile(self._template, self._path)

    def rows(self, query: str, *values: str) -> Rows:
        with closing(sqlite3.connect(self._path)) as look:
            look.row_factory = sqlite3.Row
            return [dict(row) for row in look.execute(query, values)]

    def keep(self) -> None:
        with (
            closing(sqlite3.connect(self._path)) as source,
            closing(sqlite3.connect(self._folder / "backup.sqlite")) as copy,
        ):
            source.backup(copy)

    def restore(self) -> None:
        for ending in ("-wal", "-shm"):
            self._path.with_name(f"broker.sqlite{ending}").unlink(missing_ok=True)
        (self._folder / "backup.sqlite").replace(self._path)

    def cut(self) -> None:
        """The file's locks went with the broker."""


class PostgresStore:
    """A database of a server that is this run's own, and can be killed. The copy is what `pg_dump` would see."""

    on_server = True
    TEMPLATE, NAME = "template_of_the_matrix", "broker_of_the_matrix"

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        migrate(server.create(self.TEMPLATE))
        self._kept: Dump | None = None
        self._look: psycopg.Connection[Any] | None = None

    @property
    def place(self) -> str:
        return self.server.url(self.NAME)

    def fresh(self) -> None:
        self._close_look()
        self.server.create(self.NAME, template=self.TEMPLATE)

    def rows(self, query: str, *values: str) -> Rows:
        if self._look is None or self._look.closed:
            self._look = psycopg.connect(self.place, autocommit=True)
        cursor = self._look.cursor(row_factory=dict_row)
        return cursor.execute(query.replace("?", "%s").encode(), values).fetchall()

    def keep(self) -> None:
        with psycopg.connect(self.place, autocommit=True) as connection:
            self._kept = dump(connection)

    def restore(self) -> None:
        assert self._kept is not None
        self.fresh()
        with psycopg.connect(self.place, autocommit=True) as connection:
            load(connection, self._kept)

    def cut(self) -> None:
        """Do what the system does with a dead process's sockets, and the server when it sees that."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        with (
            suppress(psycopg.OperationalError),
            psycopg.connect(self.server.url("postgres"), autocommit=True) as connection,
        ):
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = %s AND application_name = 'lightwork-broker'",
                (self.NAME,),
            )

    def kill(self) -> None:
        """End the server and all its processes without warning."""
        self._close_look()
        self.server.kill()

    def _close_look(self) -> None:
        if self._look is not None:
            self._look.close()
            self._look = None
