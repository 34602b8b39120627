"""Folders of a run: their logs are searched, and what is secret in them is searched for."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from contextlib import closing, suppress
from pathlib import Path

from secret_search.search import SEARCH, Kind, SecretSearch

MOST_BYTES = 64 * 1024 * 1024
PASSWORD = re.compile(r"^\w*\.?rpcpass(?:word)?=(\S+)$", re.MULTILINE)
COLUMNS = (
    ("escrow", "preimage", Kind.PREIMAGE),
    ("job", "preimage", Kind.PREIMAGE),
    ("withdrawal", "preimage", Kind.PREIMAGE),
    ("webhook", "secret", Kind.WEBHOOK),
)
SECRETS = (".macaroon", ".key", ".conf", ".sqlite")
SEEN_ALREADY: set[tuple[int, int, int, int]] = set()


def sweep(folder: Path, search: SecretSearch = SEARCH, *, of_nodes: bool = False) -> None:
    """Take in every log, key, macaroon, password and database below a folder, once; what is gone is gone.

    In a folder of nodes their own logs are left out: an LND that is killed with a payment on its way writes the
    preimage into its log when it starts again, and whoever may read that log may read its database, too.
    """
    paths: list[Path] = []
    for where, folders, names in os.walk(folder):
        # A chain and a wheel's contents hold neither.
        folders[:] = sorted(
            set(folders) - {"blocks", "chainstate", "indexes", "site-packages", "node_modules"}
        )
        paths += [
            Path(where) / name for name in names if name.endswith(SECRETS) or (_is_log(name) and not of_nodes)
        ]
    # Secrets first: a password is looked for only in what comes after it.
    for path in sorted(paths, key=lambda path: _is_log(path.name)):
        with suppress(OSError, sqlite3.Error):
            _file(path, search)


def _is_log(name: str) -> bool:
    return name == "log" or ".log" in Path(name).suffixes or name.endswith((".out", ".err"))


def _file(path: Path, search: SecretSearch) -> None:
    found = path.lstat()
    mark = (id(search), found.st_dev, found.st_ino, found.st_size)
    if not stat.S_ISREG(found.st_mode) or mark in SEEN_ALREADY or found.st_size > MOST_BYTES:
        return
    SEEN_ALREADY.add(mark)
    if _is_log(path.name):
        search.log(str(path), path.read_text(errors="replace"))
        return
    match path.suffix:
        case ".macaroon":
            search.add(Kind.MACAROON, path.read_bytes())
        case ".key":
            with suppress(ValueError):
                search.add(Kind.KEY, bytes.fromhex(path.read_text().strip()))
        case ".conf":
            for password in PASSWORD.findall(path.read_text(errors="replace")):
                search.add(Kind.PASSWORD, password)
        case _:
            _database(path, search)


def _database(path: Path, search: SecretSearch) -> None:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)) as database:
        for table, column, kind in COLUMNS:
            with suppress(sqlite3.OperationalError):  # an older schema, or another program's file
                rows = database.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
                for (value,) in rows:
                    if kind is Kind.PREIMAGE:
                        with suppress(ValueError):  # a test of the table's own guards writes words
                            search.add(kind, bytes.fromhex(value))
                    else:
                        search.add(kind, str(value).removeprefix("whsec_"))
