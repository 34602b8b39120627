# LEAD (23:30): read /tmp/spec/perf-notes.md before going on with this file.
"""From SQLAlchemy Core statements to SQLite's text, once for each statement that is a constant of its module."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.compiler import SQLCompiler

Row = Mapping[str, Any]

_DIALECT = SQLiteDialect_pysqlite(paramstyle="qmark")
_LARGEST = 1_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """SQLite's text of a statement, and the order of its parameters."""

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, Any]
    booleans: frozenset[str]

    def execute(self, connection: sqlite3.Connection, values: Mapping[str, object]) -> sqlite3.Cursor:
        """Run it; a parameter that has no value here keeps the one that the statement was built with."""
        fixed = self.fixed
        return connection.execute(
            self.sql, [values[name] if name in values else fixed[name] for name in self.names]
        )

    def rows(self, cursor: sqlite3.Cursor) -> list[Row]:
        """Return the rows by the names of their columns."""
        names = [column[0] for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for name in self.booleans:
            for row in found:
                row[name] = None if row[name] is None else bool(row[name])
        return list[Row](found)


_prepared: dict[tuple[int, tuple[str, ...]], tuple[sa.Executable, Prepared]] = {}


def prepare(statement: sa.Executable, names: Sequence[str]) -> Prepared:
    """Return the statement in SQLite's words, with the named parameters left open.

    One that has such parameters is a constant, and is compiled once; one that is built around its values is
    compiled each time.
    """
    if not names:
        return _compile(statement, None)
    key = (id(statement), tuple(names))
    known = _prepared.get(key)
    # The statement is kept beside its text: so its id is not given to another one.
    if known is None:
        if len(_prepared) >= _LARGEST:
            raise RuntimeError("statements with parameters are constants of their module, not made anew")
        known = _prepared[key] = (statement, _compile(statement, key[1]))
    return known[1]


def _compile(statement: sa.Executable, names: tuple[str, ...] | None) -> Prepared:
    writes = isinstance(statement, sa.Insert | sa.Update)
    compiled = cast(
        "SQLCompiler",
        cast("Any", statement).compile(
            dialect=_DIALECT,
            column_keys=list(names) if writes and names is not None else None,
            compile_kwargs={"render_postcompile": True},
        ),
    )
    if writes and (compiled.insert_prefetch or compiled.update_prefetch):
        missing = [column.name for column in (*compiled.insert_prefetch, *compiled.update_prefetch)]
        raise RuntimeError(f"a write names every column that has a default: {', '.join(missing)}")
    fixed = compiled.construct_params(_check=False)
    booleans = frozenset(
        str(column.keyname)
        for column in compiled._result_columns  # pyright: ignore[reportPrivateUsage]  (no public way to it)
        if isinstance(column.type, sa.Boolean)
    )
    return Prepared(compiled.string, tuple(compiled.positiontup or ()), fixed, booleans)
