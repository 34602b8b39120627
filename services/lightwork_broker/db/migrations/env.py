"""Alembic's entry: runs migrations on one connection."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context
from sqlalchemy import event


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("the database's URL is missing")
    engine = sa.create_engine(
        url, poolclass=sa.NullPool, connect_args={"timeout": 60, "isolation_level": None}
    )
    # All or nothing, and one at a time: a broker killed at its first start, or two that start together, must
    # not leave half a schema.
    event.listen(engine, "begin", _begin)
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
