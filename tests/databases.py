"""Both databases for the tests of what moves money: a migrated template of each, and copies of it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
import sqlalchemy as sa
from fast_folder import fast_folder
from postgres_server import PostgresServer

from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.db.place import is_server, migrate
from lightwork_broker.db.postgres import url_of

KINDS = ("sqlite", "postgres")

Rows = list[dict[str, Any]]


class Template(Protocol):
    """A migrated, empty database."""

    def copy(self, folder: Path) -> str:
        """Return where a fresh copy of it is. The copy before may be gone by that."""
        ...


class SqliteTemplate:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "template.sqlite"
        migrate(str(self.path))

    def copy(self, folder: Path) -> str:
        path = folder / "broker.sqlite"
        for ending in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
        shutil.copyfile(self.path, path)
        return str(path)


class PostgresTemplate:
    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        migrate(server.create("template_of_tests"))

    def copy(self, folder: Path) -> str:
        return self.server.create("copy_of_a_test", template="template_of_tests")


@contextmanager
def open_template(kind: str) -> Generator[Template]:
    """Make a template of one kind; a server runs for as long as it is open."""
    with fast_folder() as folder:
        if kind == "sqlite":
            yield SqliteTemplate(folder)
            return
        server = PostgresServer(folder)
        server.start()
        try:
            yield PostgresTemplate(server)
        finally:
            server.stop()


class Backup:
    """A copy of a database as it is now, which can be put back in its place."""

    def __init__(self, place: str) -> None:
        self._place = place
        if is_server(place):
            self._replace(url_of(place).database, "backup_of_a_test")
        else:
            _copy_file(Path(place), Path(f"{place}.backup"))

    def restore(self) -> None:
        """Put it back; no broker may have the database open."""
        if is_server(self._place):
            self._replace("backup_of_a_test", url_of(self._place).database)
            return
        for ending in ("-wal", "-shm"):
            Path(f"{self._place}{ending}").unlink(missing_ok=True)
        Path(self._place).unlink()
        _copy_file(Path(f"{self._place}.backup"), Path(self._place))

    def _replace(self, source: str | None, target: str | None) -> None:
        # PostgreSQL copies only what nobody is connected to.
        server = self._place.rpartition("/")[0]
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (source,)
            )
            connection.execute(f"CREATE DATABASE {target} TEMPLATE {source}".encode())


def _copy_file(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


class WrappedDatabase(Database):
    """A database with somebody at its doors."""

    def __init__(self, inner: Database) -> None:
        self._inner = inner

    def door(
        self, opened: AbstractAsyncContextManager[Transaction]
    ) -> AbstractAsyncContextManager[Transaction]:
        """Stand at a door; by default, let everybody pass."""
        return opened

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        return self.door(self._inner.write())

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self.door(self._inner.read())

    def scan(self) -> AbstractAsyncContextManager[Transaction]:
        return self.door(self._inner.scan())

    async def add_once(self, table: sa.Table, **values: object) -> bool:
        return await self._inner.add_once(table, **values)

    async def close(self) -> None:
        await self._inner.close()


class Look:
    """A look at the committed rows of a database, past the code under test."""

    def __init__(self, place: str) -> None:
        self._server = is_server(place)
        url = url_of(place) if self._server else f"sqlite:///{place}"
        # Asked first whether it still answers: a restored database has cut its connections.
        self._engine = sa.create_engine(url, pool_size=1, pool_pre_ping=True, isolation_level="AUTOCOMMIT")

    def rows(self, sql: str, *values: str) -> Rows:
        """Return what a query finds; its parameters are `?`."""
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(sql.replace("?", "%s") if self._server else sql, values)
            return [dict(row) for row in found.mappings()]

    def change(self, sql: str, *values: str) -> None:
        """Do what no broker does."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(sql.replace("?", "%s") if self._server else sql, values)

    def guards(self, table: str) -> list[str]:
        """Return what makes a table's triggers anew."""
        if self._server:
            return [f"ALTER TABLE {table} ENABLE TRIGGER USER"]
        sql = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? ORDER BY name"
        return [str(row["sql"]) for row in self.rows(sql, table)]

    def guard(self, table: str, guards: list[str]) -> None:
        """Bring back the triggers that `unguard` has taken away."""
        self.unguard(table)
        for sql in guards:
            self.change(sql)

    def unguard(self, table: str) -> None:
        """Take a table's triggers away, as a wrong hand would that may do everything, or a broken disk."""
        if self._server:
            self.change(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            return
        for row in self.rows("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", table):
            self.change(f"DROP TRIGGER {row['name']}")

    def tables(self) -> list[str]:
        """Return the names of the tables."""
        return sa.inspect(self._engine).get_table_names()

    def close(self) -> None:
        self._engine.dispose()
