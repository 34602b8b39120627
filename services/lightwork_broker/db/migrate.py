"""Bringing a database to the present schema, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config


def config_for(path: str) -> Config:
    """Return Alembic's configuration for the SQLite file at `path`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    return config


def migrate(path: str) -> None:
    """Upgrade the database at `path` to the newest schema; nothing happens if it is there already."""
    command.upgrade(config_for(path), "head")
