"""Alembic's entry: runs migrations on one connection.

All or nothing, and one at a time: a broker killed at its first start, or two that start together, must not leave half
a schema. SQLite has a write lock for that; on PostgreSQL it is the brokers' own.
"""

from __future__ import annotations

from typing import cast

import sqlalchemy as sa
from alembic import context
from sqlalchemy import event

from lightwork_broker.db.place import is_server


def _sqlite(path: str) -> sa.Engine:
    engine = sa.create_engine(
        f"sqlite:///{path}",
        poolclass=sa.NullPool,
        hide_parameters=True,
        connect_args={"timeout": 60, "isolation_level": None},
    )

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "begin", begin)
    return engine


def _postgres(url: str) -> sa.Engine:
    from lightwork_broker.db.postgres import TAKE_WRITE_LOCK, connect_arguments, url_of

    engine = sa.create_engine(
        url_of(url),
        poolclass=sa.NullPool,
        hide_parameters=True,
        connect_args=connect_arguments(lock_timeout="60s", statement_timeout="0"),
    )

    def begin(connection: sa.Connection) -> None:
        connection.execute(TAKE_WRITE_LOCK)

    event.listen(engine, "begin", begin)
    return engine


def run() -> None:
    place = cast("str", context.config.attributes["place"])
    engine = _postgres(place) if is_server(place) else _sqlite(place)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=context.config.attributes.get("metadata"),
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
