"""Where the database is: the path of a SQLite file, or the URL of a PostgreSQL server."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from lightwork_broker.db.engine import Database
from lightwork_broker.db.sqlite import SqliteDatabase

SERVER = ("postgresql://", "postgres://")


class DriverMissing(RuntimeError):
    """A PostgreSQL database was named, but what speaks to one is not installed."""


def open_database(place: str) -> Database:
    """Open a database that is migrated already.

    Raises:
        DriverMissing: `lightwork[postgres]` is not installed.
    """
    if not is_server(place):
        return SqliteDatabase(place)
    require_driver()
    from lightwork_broker.db.postgres import PostgresDatabase

    return PostgresDatabase(place)


def migrate(place: str) -> None:
    """Upgrade a database to the newest schema; nothing happens if it is there already.

    Raises:
        DriverMissing: `lightwork[postgres]` is not installed.
        DatabaseUnavailable: the server gives no answer.
    """
    config = config_for(place)
    if not is_server(place):
        command.upgrade(config, "head")
        return
    from lightwork_broker.db.postgres import translated

    with translated():
        command.upgrade(config, "head")


def config_for(place: str) -> Config:
    """Return Alembic's configuration for a database."""
    if is_server(place):
        require_driver()
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    # Not as an option of Alembic's: those treat a percent sign in a password as theirs.
    config.attributes["place"] = place
    return config


def is_server(place: str) -> bool:
    return place.startswith(SERVER)


def require_driver() -> None:
    """Raise `DriverMissing` with what to install."""
    try:
        import greenlet
        import psycopg
    except ImportError as error:
        raise DriverMissing("PostgreSQL needs its driver: pip install 'lightwork[postgres]'") from error
    del greenlet, psycopg
