"""scripts/uv.sh and scripts/python.sh on machines that lack something; nothing is fetched here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PINNED = (REPOSITORY / "requirements" / "uv.txt").read_text().split()[0].removeprefix("uv==")
TOOLS = ("sh", "awk", "sed", "dirname", "mkdir", "mktemp", "rm", "mv", "env", "cat")


def program(path: Path, script: str) -> Path:
    """Write a small program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder for PATH with the usual tools, without Python and without uv."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    return folder


def run(script: str, *arguments: str, path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    settings = {"PATH": str(path), "HOME": str(path.parent), "LIGHTWORK_CACHE": str(path.parent / "cache")}
    return subprocess.run(
        [str(REPOSITORY / "scripts" / script), *arguments],
        env=settings | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("version", ["0.8.0", "0.13.9", "1.0.0"])
def test_a_uv_on_path_that_is_new_enough_serves(machine: Path, version: str) -> None:
    program(machine / "uv", f'[ "$1" = --version ] && echo "uv {version}" || echo "mine: $*"')
    answer = run("uv.sh", "pip", "list", path=machine)
    assert (answer.returncode, answer.stdout) == (0, "mine: pip list\n")


@pytest.mark.parametrize("version", ["0.7.22", "0.1.45", "unknown", ""])
def test_a_uv_on_path_that_is_too_old_gives_way_to_the_pinned_one(machine: Path, version: str) -> None:
    program(machine / "uv", f'echo "uv {version}"')
    program(machine.parent / "cache" / f"uv-{PINNED}" / "bin" / "uv", 'echo "pinned: $*"')
    answer = run("uv.sh", "pip", "list", path=machine)
    assert (answer.returncode, answer.stdout) == (0, "pinned: pip list\n")
    assert "taking the pinned one" in answer.stderr


def test_a_uv_that_was_fetched_once_is_not_fetched_again(machine: Path) -> None:
    program(machine.parent / "cache" / f"uv-{PINNED}" / "bin" / "uv", 'echo "pinned: $*"')
    answer = run("uv.sh", "venv", path=machine)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "pinned: venv\n", "")


def test_where_tells_the_path_of_the_uv_that_serves(machine: Path) -> None:
    fetched = program(machine.parent / "cache" / f"uv-{PINNED}" / "bin" / "uv", "exit 1")
    assert run("uv.sh", "where", path=machine).stdout == f"{fetched}\n"
    own = program(machine / "uv", 'echo "uv 0.13.0"')
    assert run("uv.sh", "where", path=machine).stdout == f"{own}\n"


def test_a_machine_without_venv_and_pip_is_told_what_to_install(machine: Path) -> None:
    # Its own path is what scripts/python.sh prints, so both of uv.sh's attempts meet this program.
    broken = machine / "python3"
    program(broken, f'[ "$1" = -c ] && echo {broken} && exit 0; echo "No module named $2" >&2; exit 1')
    answer = run("uv.sh", "--version", path=machine, PYTHON="python3")
    assert answer.returncode == 1
    assert "No module named venv" in answer.stderr
    assert "Install python3-venv" in answer.stderr
    assert list((machine.parent / "cache").iterdir()) == []


def test_the_system_pip_fetches_uv_where_venv_is_missing(machine: Path) -> None:
    pip = (
        'while [ "$#" -gt 0 ]; do case "$1" in --target) to=$2 ;; --require-hashes) hashed=yes ;; esac; shift; done\n'
        '[ -n "$hashed" ] || exit 3\n'
        'mkdir -p "$to/bin" && printf \'#!/bin/sh\\necho fetched\\n\' > "$to/bin/uv" && chmod +x "$to/bin/uv"'
    )
    (machine / "chmod").symlink_to(shutil.which("chmod") or "")
    system = machine / "python3"
    program(
        system,
        f'[ "$1" = -c ] && echo {system} && exit 0\n'
        '[ "$2" = venv ] && exit 1\n'
        f'[ "$3" = --version ] && exit 0\n{pip}',
    )
    answer = run("uv.sh", "--version", path=machine, PYTHON="python3")
    assert (answer.returncode, answer.stdout) == (0, "fetched\n"), answer.stderr
    assert [entry.name for entry in (machine.parent / "cache").iterdir()] == [f"uv-{PINNED}"]


def test_a_python_that_is_too_old_is_named_with_its_version(machine: Path) -> None:
    program(machine / "python3", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    answer = run("python.sh", path=machine)
    assert answer.returncode == 1
    assert "needs Python 3.11 or newer" in answer.stderr
    assert "python3: Python 3.9.2" in answer.stderr


def test_a_newer_python_beside_an_old_one_is_found(machine: Path) -> None:
    program(machine / "python3", '[ "$1" = --version ] && echo "Python 3.9.2" && exit 0; exit 1')
    program(machine / "python3.12", f'exec {sys.executable} "$@"')
    answer = run("python.sh", path=machine)
    assert answer.returncode == 0
    assert os.path.samefile(answer.stdout.strip(), sys.executable)


def test_a_machine_without_python_is_told_so(machine: Path) -> None:
    answer = run("python.sh", path=machine)
    assert answer.returncode == 1
    assert "needs Python 3.11 or newer" in answer.stderr
