"""A wheel of this checkout, and fresh environments that hold only what dev.lock pins for some extras."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "requirements" / "dev.lock"
_UV = REPOSITORY / "scripts" / "uv.sh"
_SECONDS = 170


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, outside the repository."""

    folder: Path

    def run(self, program: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in its folder, with `more` variables and none of this run's Python settings."""
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIGHTWORK_"))
        }
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=self.folder,
            env=env | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"} | more,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def ask(self, code: str) -> object:
        """Return what `code` prints as JSON, run by this environment's Python in isolated mode."""
        answer = self.run("python", "-I", "-c", code)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


def uv(*arguments: str) -> None:
    """Run the project's uv in the repository; its words are the failure's text."""
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    answer = subprocess.run(
        [str(_UV), *arguments],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert answer.returncode == 0, f"uv {' '.join(arguments)}\n{answer.stderr}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by the backend that dev.lock pins."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder))
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def fresh_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """Make environments: the locked dependencies of these extras, then the project itself, nothing else."""

    def make(name: str, project: Sequence[str], *, extras: Iterable[str] = ()) -> Environment:
        folder = tmp_path_factory.mktemp(name)
        pins = folder / "pins.txt"
        pins.write_text("".join(locked(closure(extras))))
        environment = Environment(folder / "environment")
        python = str(environment.folder / "bin" / "python")
        uv("venv", "--python", sys.executable, str(environment.folder))
        uv("pip", "install", "--python", python, "--no-deps", "--require-hashes", "--requirement", str(pins))
        uv("pip", "install", "--python", python, "--no-deps", "--build-constraints", str(LOCK), *project)
        return environment

    return make


@pytest.fixture(scope="session")
def bare(wheel: Path, fresh_environment: Callable[..., Environment]) -> Environment:
    """`pip install lightwork`, without any extra."""
    return fresh_environment("bare", [str(wheel)])


def closure(extras: Iterable[str]) -> frozenset[str]:
    """Return the canonical names of all that `lightwork[extras]` needs here, as the installed metadata say."""
    found: set[tuple[str, str]] = set()
    waiting = [("lightwork", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for line in metadata.distribution(name).requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(needed.name), part) for part in ("", *needed.extras)]
    return frozenset(name for name, _ in found) - {"lightwork"}


def locked(names: Iterable[str]) -> list[str]:
    """Return the entries of dev.lock for these names, hashes included."""
    entries = re.findall(r"^\S[^\n]*(?:\n[ \t][^\n]*)*\n", LOCK.read_text(), flags=re.MULTILINE)
    wanted = set(names)
    chosen = [entry for entry in entries if canonicalize_name(entry.partition("==")[0]) in wanted]
    missing = wanted - {canonicalize_name(entry.partition("==")[0]) for entry in chosen}
    assert not missing, f"dev.lock lacks {', '.join(sorted(missing))}: run make lock"
    return chosen
