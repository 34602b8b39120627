"""What the two databases say differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from alembic import op

INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""PostgreSQL's INTEGER ends at 2**31, where times in seconds arrive in 2038; SQLite's does not."""


def append_only(*tables: str) -> None:
    """Let nobody change or delete rows of these tables, not even the broker."""
    if op.get_bind().dialect.name == "sqlite":
        for table in tables:
            for verb in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; "
        "END $$"
    )
    for table in tables:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def added_once(keys: Mapping[str, tuple[tuple[str, ...], ...]]) -> None:
    """Let nobody put a row in the place of one that is there, by any of these keys.

    SQLite's INSERT OR REPLACE deletes what is in its way without asking the triggers of DELETE. PostgreSQL has no
    such word.
    """
    if op.get_bind().dialect.name != "sqlite":
        return
    for table, uniques in keys.items():
        same = " OR ".join(
            "(" + " AND ".join(f"{column} = NEW.{column}" for column in unique) + ")" for unique in uniques
        )
        there = sa.exists().select_from(sa.table(table)).where(sa.text(same))
        op.execute(
            f"CREATE TRIGGER {table}_added_once BEFORE INSERT ON {table} WHEN {there} "
            f"BEGIN SELECT RAISE(ABORT, '{table} has a row in its place'); END"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a database lets happen to the rows of a table that has states."""

    table: str
    column: str
    """Which column holds the state."""
    edges: tuple[str, ...]
    """Each `kind|from>to`."""
    kind: str = "''"
    """An expression over the row OLD that gives the kind; the kind is empty by default."""
    fixed: tuple[str, ...] = ()
    """Columns that never change."""
    first: str | None = None
    """The state in which a row begins, and that it is never deleted; None lets both pass."""


def guard_states(guard: Guard) -> None:
    """Let rows begin in their first state, take the edges of their table, keep what is fixed, and stay."""
    table, column = guard.table, guard.column
    listed = ", ".join(f"'{edge}'" for edge in guard.edges)
    taken = f"{guard.kind} || '|' || OLD.{column} || '>' || NEW.{column}"
    no_edge = f"OLD.{column} <> NEW.{column} AND {taken} NOT IN ({listed})"
    if op.get_bind().dialect.name == "sqlite":
        changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in guard.fixed) or "0"
        rules = {"edges": ("UPDATE", no_edge), "fixed": ("UPDATE", changed)}
        if guard.first is not None:
            rules |= {"first": ("INSERT", f"NEW.{column} <> '{guard.first}'"), "kept": ("DELETE", "1")}
        for name, (verb, wrong) in rules.items():
            op.execute(
                f"CREATE TRIGGER {table}_{name} BEFORE {verb} ON {table} WHEN {wrong} "
                f"BEGIN SELECT RAISE(ABORT, '{table}: {name} refuses this'); END"
            )
        return
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in guard.fixed) or "false"
    checks = f"IF TG_OP = 'UPDATE' AND (({no_edge}) OR {changed}) THEN wrong := true; END IF; "
    verbs = "UPDATE"
    if guard.first is not None:
        verbs = "INSERT OR UPDATE OR DELETE"
        checks += (
            f"IF TG_OP = 'INSERT' AND NEW.{column} <> '{guard.first}' THEN wrong := true; END IF; "
            "IF TG_OP = 'DELETE' THEN wrong := true; END IF; "
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        f"CREATE FUNCTION guard_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"DECLARE wrong boolean := false; BEGIN {checks}"
        "IF wrong THEN RAISE EXCEPTION '% refuses this', TG_TABLE_NAME "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_guard BEFORE {verbs} ON {table} FOR EACH ROW EXECUTE FUNCTION guard_{table}()"
    )
