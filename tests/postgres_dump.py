"""Every row of a PostgreSQL database as it was at one moment, put back as a restored dump would be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import sql

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' ORDER BY 1"
LOCK_TIMEOUT = "20s"


@dataclass(frozen=True, slots=True)
class Dump:
    """Rows by table, and where each sequence stands."""

    rows: dict[str, bytes]
    sequences: dict[str, tuple[int, bool]]


def dump(connection: psycopg.Connection[Any]) -> Dump:
    """Read all of it in one snapshot. The connection is in autocommit."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        rows: dict[str, bytes] = {}
        for table in _names(cursor, _TABLES):
            with cursor.copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
                rows[table] = b"".join(bytes(part) for part in copy)
        sequences: dict[str, tuple[int, bool]] = {}
        for name in _names(cursor, "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
            query = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(name))
            sequences[name] = cast("tuple[int, bool]", cursor.execute(query).fetchone())
    return Dump(rows, sequences)


def load(connection: psycopg.Connection[Any], kept: Dump) -> None:
    """Put a dump in the place of what is there: no trigger fires. The connection is in autocommit."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
        names = sql.SQL(", ").join(map(sql.Identifier, kept.rows))
        cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
        for table, rows in kept.rows.items():
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
                copy.write(rows)
        for name, (last, called) in kept.sequences.items():
            cursor.execute("SELECT setval(%s::regclass, %s, %s)", (f'"{name}"', last, called))


def _names(cursor: psycopg.Cursor[Any], query: str) -> list[str]:
    return [cast("str", row[0]) for row in cursor.execute(query.encode()).fetchall()]
