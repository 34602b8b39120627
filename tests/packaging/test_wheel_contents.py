"""What is in the wheel, and what its metadata promise."""

from __future__ import annotations

import subprocess
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGES = {
    "lightwork": "agents",
    "lightwork_broker": "services",
    "lightwork_regtest": "services",
    "lightwork_contracts": "contracts",
}


@pytest.fixture(scope="session")
def contents(wheel: Path) -> frozenset[str]:
    with ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


@pytest.fixture(scope="session")
def described(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_wheel_holds_four_packages_and_nothing_else(contents: frozenset[str]) -> None:
    tops = {name.partition("/")[0] for name in contents}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(contents: frozenset[str], package: str) -> None:
    assert f"{package}/py.typed" in contents


@pytest.mark.parametrize(
    "data",
    [
        "lightwork_regtest/lnd_build/go.mod",
        "lightwork_regtest/lnd_build/go.sum",
        "lightwork_broker/db/migrations/env.py",
        "lightwork_broker/db/migrations/script.py.mako",
    ],
)
def test_files_that_are_read_while_running_are_in_the_wheel(contents: frozenset[str], data: str) -> None:
    assert data in contents


def test_every_migration_is_in_the_wheel(contents: frozenset[str]) -> None:
    folder = REPOSITORY / "services/lightwork_broker/db/migrations/versions"
    written = {f"lightwork_broker/db/migrations/versions/{path.name}" for path in folder.glob("[0-9]*.py")}
    assert written
    assert written <= contents


@pytest.mark.parametrize(("package", "root"), PACKAGES.items())
def test_no_tracked_file_of_a_package_is_left_out(contents: frozenset[str], package: str, root: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", f"{root}/{package}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = [path for path in listed.stdout.split("\0") if path and (REPOSITORY / path).is_file()]
    assert tracked
    assert {path.removeprefix(f"{root}/") for path in tracked} <= contents


def test_nothing_compiled_or_hidden_is_in_the_wheel(contents: frozenset[str]) -> None:
    parts = {part for name in contents for part in name.split("/")}
    assert not [part for part in parts if part.startswith(".") or part == "__pycache__"]


def test_the_metadata_give_licence_python_and_extras(described: Message) -> None:
    assert described["License-Expression"] == "MIT"
    assert described["License-File"] == "LICENSE"
    assert described["Requires-Python"] == ">=3.11"
    assert {"broker", "lnd", "chain"} <= set(described.get_all("Provides-Extra", []))


def test_the_base_dependencies_stay_few(described: Message) -> None:
    base = [line for line in described.get_all("Requires-Dist", []) if "extra ==" not in line]
    names = {line.partition(">")[0].partition("[")[0].strip() for line in base}
    assert names == {"coincurve", "httpx2", "pydantic", "rich", "typer"}
