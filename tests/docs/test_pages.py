"""What the pages say of the repository is true: links, paths, commands, diagrams."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_pages import PAGES, REPOSITORY, commands, fences, inline_codes, links

GROUPS = frozenset({"broker", "jobs", "listings", "sign", "webhooks"})
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    here = (REPOSITORY / page).parent
    missing = [target for target in links(page) if not (here / target.partition("#")[0]).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_is_named_exists(page: str) -> None:
    named = [code for code in inline_codes(page) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", code)]
    missing = [path for path in named if not path.startswith(".venv/") and not (REPOSITORY / path).exists()]
    assert not missing


def test_the_house_in_architecture_names_only_rooms_that_exist() -> None:
    (house,) = [fence.code for fence in fences("ARCHITECTURE.md") if fence.language == "text"]
    room = REPOSITORY
    missing: list[str] = []
    for line in house.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not line.startswith(" "):
            room = REPOSITORY / names[0]
            names = [""]
        missing += [f"{room.name}/{name}" for name in names if not (room / name).exists()]
    assert not missing


def test_the_house_in_architecture_leaves_no_room_of_the_broker_out() -> None:
    (house,) = [fence.code for fence in fences("ARCHITECTURE.md") if fence.language == "text"]
    rooms = [
        path.parent.name for path in (REPOSITORY / "services" / "lightwork_broker").glob("*/__init__.py")
    ]
    assert rooms
    assert [room for room in rooms if f"{room}/" not in house] == []


def command_lines() -> list[tuple[str, ...]]:
    """The program and its command or group and command, each once."""
    found: set[tuple[str, ...]] = set()
    for program in ("lightwork", "lightwork-regtest"):
        for words in commands(program):
            depth = 2 if words and program == "lightwork" and words[0] in GROUPS else 1
            found.add((program, *words[:depth]))
    return sorted(found)


def test_the_pages_name_commands_of_both_programs() -> None:
    assert {line[0] for line in command_lines()} == {"lightwork", "lightwork-regtest"}


@pytest.mark.parametrize("line", command_lines(), ids=" ".join)
def test_every_command_that_is_named_exists(line: tuple[str, ...]) -> None:
    program, *words = line
    done = subprocess.run([str(BIN / program), *words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # A group shows its own help for a word that it does not know: the word must stand in the usage.
    assert all(word in done.stdout.partition("\n\n")[0] or word in done.stdout for word in words)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {words[0] for words in commands("make") if words}
    assert {"demo", "test", "clean"} <= named
    assert named - targets == set()


def test_the_generated_parts_of_architecture_are_fresh() -> None:
    check = [sys.executable, str(REPOSITORY / "scripts" / "diagrams.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stale_diagram_is_noticed(tmp_path: Path) -> None:
    # The same script over a copy of the page in which one edge is missing.
    copy = tmp_path / "repository"
    (copy / "scripts").mkdir(parents=True)
    for name in ("scripts/diagrams.py", "pyproject.toml"):
        (copy / name).write_bytes((REPOSITORY / name).read_bytes())
    page = (REPOSITORY / "ARCHITECTURE.md").read_text()
    edge = "    quoted --> open: invoice made (broker)\n"
    assert edge in page
    (copy / "ARCHITECTURE.md").write_text(page.replace(edge, ""))
    check = [sys.executable, str(copy / "scripts" / "diagrams.py")]
    assert subprocess.run([*check, "--check"], capture_output=True, check=False).returncode == 1
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    assert (copy / "ARCHITECTURE.md").read_text() == page
