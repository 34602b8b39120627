"""The Dockerfile and .dockerignore agree: what is copied is sent, what runs is not root, versions are pinned."""

from __future__ import annotations

import re

import pytest
from compose_file import REPOSITORY

DOCKERFILE = (REPOSITORY / "docker" / "Dockerfile").read_text()
STAGES = DOCKERFILE.split("\nFROM ")[1:]


def copied() -> set[str]:
    """The paths that are copied from the repository."""
    found: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        found.update(line.split()[:-1])
    return found


def test_the_builder_is_sent_exactly_what_is_copied() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert {path.split("/")[0] for path in copied()} == sent


@pytest.mark.parametrize("path", sorted(copied()))
def test_everything_that_is_copied_exists(path: str) -> None:
    assert (REPOSITORY / path).exists()


def test_the_last_stage_runs_as_a_user_and_has_no_builder_in_it() -> None:
    last = STAGES[-1]
    assert re.findall(r"^USER (\S+)$", last, re.MULTILINE) == ["lightwork"]
    assert "pip uninstall" in last
    assert not re.search(r"apt-get|pip install|uv ", last)


def test_both_stages_stand_on_one_pinned_python() -> None:
    assert {stage.split()[0] for stage in STAGES} == {"python:3.13-slim"}


def test_what_is_installed_is_what_the_lock_pins() -> None:
    assert "--require-hashes --requirement requirements/uv.txt" in DOCKERFILE
    assert "--build-constraints requirements/dev.lock" in DOCKERFILE
    assert "--constraints requirements/dev.lock" in DOCKERFILE
