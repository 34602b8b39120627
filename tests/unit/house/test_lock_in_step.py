"""requirements/dev.lock is what pyproject.toml asks for, checked without a network."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class Pin:
    """One entry of a lock file."""

    name: str
    version: str
    hashes: tuple[str, ...]
    wanted_by: frozenset[str]


def read_pins(file: str) -> dict[str, Pin]:
    """Return the entries of requirements/`file` by canonical name."""
    text = (REPOSITORY / "requirements" / file).read_text()
    found = [_pin(entry) for entry in re.findall(r"^\S[^\n]*(?:\n[ \t][^\n]*)*", text, flags=re.MULTILINE)]
    return {pin.name: pin for pin in found}


def _pin(entry: str) -> Pin:
    head = re.match(r"([A-Za-z0-9._-]+)==([^\s;\\]+)", entry)
    assert head is not None, f"not pinned to one version: {entry.splitlines()[0]}"
    _, _, reasons = entry.partition("# via")
    return Pin(
        name=canonicalize_name(head[1]),
        version=head[2],
        hashes=tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)),
        wanted_by=frozenset(line.strip(" #") for line in reasons.splitlines() if line.strip(" #")),
    )


def asked() -> dict[str, list[Requirement]]:
    """Return every requirement of pyproject.toml, extras and the group dev included, by canonical name."""
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    found: dict[str, list[Requirement]] = {}
    for line in _lines(described):
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def _lines(described: dict[str, object]) -> Iterator[str]:
    project = cast("dict[str, object]", described["project"])
    yield from cast("list[str]", project["dependencies"])
    for extra in cast("dict[str, list[str]]", project["optional-dependencies"]).values():
        yield from extra
    yield from cast("dict[str, list[str]]", described["dependency-groups"])["dev"]
    yield from cast("dict[str, list[str]]", described["build-system"])["requires"]


def test_the_lock_pins_all_that_pyproject_asks_for_at_a_version_that_fits() -> None:
    pins = read_pins("dev.lock")
    unmet = [
        str(requirement)
        for name, requirements in asked().items()
        for requirement in requirements
        if name not in pins or not requirement.specifier.contains(pins[name].version, prereleases=True)
    ]
    assert unmet == [], "run make lock"


def test_the_lock_pins_nothing_that_nobody_asks_for() -> None:
    pins = read_pins("dev.lock")
    direct = {name for name, pin in pins.items() if any("pyproject.toml" in by for by in pin.wanted_by)}
    assert direct == set(asked()), "run make lock"
    orphans = [
        name
        for name, pin in pins.items()
        if name not in direct and not {canonicalize_name(by) for by in pin.wanted_by} & set(pins)
    ]
    assert orphans == [], "run make lock"


@pytest.mark.parametrize("file", ["dev.lock", "uv.txt"])
def test_every_pin_has_its_hashes(file: str) -> None:
    pins = read_pins(file)
    assert pins
    assert [pin.name for pin in pins.values() if not pin.hashes] == []


@pytest.mark.parametrize("file", ["dev.lock", "uv.txt"])
def test_a_lock_names_no_index_and_no_url(file: str) -> None:
    text = (REPOSITORY / "requirements" / file).read_text()
    assert re.findall(r"://|^--(?!hash)|^-[a-z]", text, flags=re.MULTILINE) == []


def test_uv_is_pinned_to_one_version() -> None:
    assert list(read_pins("uv.txt")) == ["uv"]
