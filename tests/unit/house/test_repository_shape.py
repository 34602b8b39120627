"""The rules of the house that concern files: which folders exist, how long a file is, what no file may name."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]

ROOTS = {
    "agents": {"lightwork", "sample-agents"},
    "services": {"lightwork_broker", "lightwork_regtest"},
    "contracts": {"lightwork_contracts"},
}
"""Each root is on the search path of an editable install, so a package in it takes its name from everyone."""

LONGEST = 500

# In two parts, so that this file names none of them either.
REGISTRIES = [
    f"{host}.{domain}"
    for domain, hosts in {
        "org": ("pypi", "pythonhosted", "yarnpkg", "npmjs", "proxy.golang", "sum.golang", "deb.debian"),
        "io": ("crates", "quay", "ghcr"),
        "com": ("anaconda", "yarnpkg", "npmjs"),
    }.items()
    for host in hosts
]


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git knows and that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def test_git_lists_the_files_that_these_tests_judge() -> None:
    assert Path(__file__).resolve() in tracked("tests/unit/house") or len(tracked()) > 100


@pytest.mark.parametrize("root", ROOTS)
def test_only_the_known_folders_stand_in_the_three_roots(root: str) -> None:
    found = {path.relative_to(REPOSITORY).parts[1] for path in tracked(root)}
    assert found == ROOTS[root]


@pytest.mark.parametrize("root", ROOTS)
def test_the_three_roots_are_folders_and_not_packages(root: str) -> None:
    assert not (REPOSITORY / root / "__init__.py").exists()


@pytest.mark.parametrize("root", ROOTS)
def test_a_folder_that_is_no_package_cannot_be_imported_by_accident(root: str) -> None:
    packages = {path.name for path in (REPOSITORY / root).iterdir() if (path / "__init__.py").exists()}
    assert all("-" in name for name in ROOTS[root] - packages)


def test_neither_the_repository_nor_its_tests_are_a_package() -> None:
    inits = [path for path in tracked("*__init__.py") if path.parent == REPOSITORY]
    assert inits + tracked("tests/*__init__.py") == []


def test_test_files_have_names_of_their_own() -> None:
    seen: dict[str, Path] = {}
    twice = [
        (path, seen[path.name])
        for path in tracked("tests/*test_*.py")
        if seen.setdefault(path.name, path) != path
    ]
    assert twice == []


def test_every_python_file_is_short_enough_to_read() -> None:
    lengths = {
        path.relative_to(REPOSITORY).as_posix(): len(path.read_text().splitlines())
        for path in tracked("*.py")
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    assert too_long == {}


def test_no_python_file_is_named_for_nothing() -> None:
    meaningless = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
    assert [path for path in tracked("*.py") if path.stem in meaningless] == []


def test_no_file_names_a_registry_host() -> None:
    hosts = re.compile(rb"|".join(re.escape(name).encode() for name in REGISTRIES))
    naming = [
        (path.relative_to(REPOSITORY).as_posix(), found.group().decode())
        for path in tracked()
        if (found := hosts.search(path.read_bytes()))
    ]
    assert naming == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    homes = re.compile(rb"/(?:home|Users)/[a-z][a-z0-9_-]*/|/root/\.")
    naming = [
        path.relative_to(REPOSITORY).as_posix() for path in tracked() if homes.search(path.read_bytes())
    ]
    assert naming == []
