"""What a hostile review found about limits, files and migrations, as promises: each test is named for one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from e2e_waiting import until
from pydantic import ValidationError

from lightwork_broker.db.place import migrate
from lightwork_broker.escrow.guardian import SPARE_BLOCKS, deadlines, outgoing_cltv_limit
from lightwork_broker.market.schema import check_schema, fit
from lightwork_broker.settings import BrokerSettings

CHILD_SECONDS = 60
MOST_BYTES = 50_000_000


# --- H6: schemas whose errors are large -------------------------------------------------------------------------


def _bomb() -> tuple[dict[str, Any], dict[str, Any]]:
    """Thousands of alternatives that all fail, each with a message that quotes a large value in full."""
    schema: dict[str, Any] = {
        "type": "object",
        "$defs": {
            "string": {"anyOf": [{"type": "string"}] * 100},
            "many": {"anyOf": [{"$ref": "#/$defs/string"}] * 25},
        },
        "properties": {"a": {"$ref": "#/$defs/many"}},
    }
    check_schema(schema, what="input schema")
    return schema, {"a": [[0] * 110_000]}


async def test_checking_a_large_value_against_many_alternatives_costs_little_memory() -> None:
    schema, value = _bomb()
    tracemalloc.start()
    try:
        errors = await fit(value, schema)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
    assert [error.message for error in errors] == ["checking this against the schema takes too much work"]


async def test_alternatives_that_all_fail_are_still_told_of_a_small_value() -> None:
    schema, _ = _bomb()
    assert [error.pointer for error in await fit({"a": [0]}, schema)] == ["/a"]
    assert await fit({"a": "text"}, schema) == ()


# --- H15: the blocks that are left for a payout -----------------------------------------------------------------


@pytest.mark.parametrize("margin", [8, 24, 40, 99])
@pytest.mark.parametrize("outgoing", [27, 83, 200])
@pytest.mark.parametrize("delta", [18, 60])
def test_at_the_height_of_release_the_payout_fits_and_the_whole_margin_is_kept(
    delta: int, outgoing: int, margin: int
) -> None:
    expiry = 10_000
    at = deadlines(
        min_expiry_height=expiry,
        hold_expiry_delta=delta,
        margin_blocks=margin,
        outgoing_cltv_blocks=outgoing,
    )

    def limit(height: int) -> int:
        return outgoing_cltv_limit(
            min_expiry_height=expiry,
            height=height,
            hold_expiry_delta=delta,
            margin_blocks=margin,
            max_blocks=outgoing + 40,
        )

    assert limit(at.release_by) >= outgoing
    assert limit(at.release_by + SPARE_BLOCKS) == outgoing
    assert limit(at.release_by + SPARE_BLOCKS + 1) < outgoing
    for height in range(at.release_by - 50, at.release_by + SPARE_BLOCKS + 1):
        assert height + limit(height) + margin <= expiry - delta


@pytest.mark.parametrize("margin", [0, 2, 7])
def test_a_margin_of_fewer_than_eight_blocks_is_refused(margin: int) -> None:
    with pytest.raises(ValidationError, match="guardian_margin_blocks"):
        BrokerSettings(guardian_margin_blocks=margin)
    assert BrokerSettings(guardian_margin_blocks=8).guardian_margin_blocks == 8


# --- H13: who may read the broker's files -----------------------------------------------------------------------


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_data_directory_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    assert BrokerSettings(data_dir=folder).directory() == folder
    assert _mode(folder) == 0o700


async def test_nobody_else_may_read_the_database_and_the_key_of_a_running_broker(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o755)
    names = ("broker.key", "broker.sqlite", "broker.sqlite-wal", "broker.sqlite-shm")
    command = [str(Path(sys.executable).with_name("lightwork")), "broker", "run", "--network", "simulated"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--data-dir", str(folder), "--port", "0"),
            stdout=log,
            stderr=log,
            env=environment,
            umask=0o022,
        )
    try:

        async def kept() -> bool:
            assert process.returncode is None, (tmp_path / "log").read_text()
            return all((folder / name).exists() for name in names)

        await until(kept, what="the broker has its files", seconds=CHILD_SECONDS)
        assert {name: oct(_mode(folder / name)) for name in names} == dict.fromkeys(names, "0o600")
        assert _mode(folder) == 0o700
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), CHILD_SECONDS)


# --- H21: the first start ---------------------------------------------------------------------------------------

MIGRATE_AND_DIE = """
import os, sys
import sqlalchemy as sa
from lightwork_broker.db.place import migrate

left = int(sys.argv[2])

def count(connection, cursor, statement, *rest):
    global left
    if statement.lstrip().upper().startswith(("CREATE TABLE", "INSERT", "UPDATE")):
        left -= 1
        if left == 0:
            os._exit(9)

sa.event.listen(sa.engine.Engine, "after_cursor_execute", count)
migrate(sys.argv[1])
"""

MIGRATE_WHEN_TOLD = """
import sys
from lightwork_broker.db.place import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


def _schema(path: Path) -> list[tuple[str, str | None]]:
    connection = sqlite3.connect(path)
    try:
        versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert len(versions) == 1
        return [*connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name"), *versions]
    finally:
        connection.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str | None]]:
    """The schema of a database that was made without any trouble."""
    path = tmp_path_factory.mktemp("whole") / "broker.sqlite"
    migrate(str(path))
    return _schema(path)


def test_a_broker_that_is_killed_in_its_first_migration_starts_the_next_time(
    tmp_path: Path, whole: list[tuple[str, str | None]]
) -> None:
    children: dict[Path, subprocess.Popen[bytes]] = {}
    for statements in (2, 9):
        path = tmp_path / f"killed-{statements}.sqlite"
        command = [sys.executable, "-c", MIGRATE_AND_DIE, str(path), str(statements)]
        children[path] = subprocess.Popen(command)
    for path, child in children.items():
        assert child.wait(CHILD_SECONDS) == 9
        migrate(str(path))
        assert _schema(path) == whole


def test_two_brokers_that_start_on_an_empty_database_at_once_both_find_it_whole(
    tmp_path: Path, whole: list[tuple[str, str | None]]
) -> None:
    path = tmp_path / "broker.sqlite"
    command = [sys.executable, "-c", MIGRATE_WHEN_TOLD, str(path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        with child:
            assert child.wait(CHILD_SECONDS) == 0
    assert _schema(path) == whole
