"""The Makefile and pytest's settings know every part of the tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import cast

import pytest

REPOSITORY = Path(__file__).parents[3]
NOT_IN_MAKE_TEST = {"benchmarks"}
FOUND_IN_OTHERS = {"__pycache__"}
SCRIPTS = REPOSITORY / "scripts"
RUN_LANES = "import sys, suite; sys.exit(suite.run({}, {}))"


def folders_in_order() -> list[str]:
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    return cast("list[str]", described["tool"]["pytest"]["ini_options"]["testpaths"])


def test_every_folder_that_holds_tests_runs_in_make_test() -> None:
    holding = {
        path.relative_to(REPOSITORY / "tests").parts[0] for path in (REPOSITORY / "tests").rglob("test_*.py")
    }
    assert {f"tests/{name}" for name in holding - NOT_IN_MAKE_TEST} <= set(folders_in_order())


def test_tests_without_nodes_run_before_those_with_nodes() -> None:
    order = [path.removeprefix("tests/") for path in folders_in_order()]
    assert order.index("unit") == 0
    assert max(order.index(name) for name in ("property", "packaging", "docs")) < order.index("contract")
    assert order[-1] == "e2e"


def test_each_folder_of_tests_is_in_one_of_the_two_lanes_of_make_test() -> None:
    program = "import json, suite; print(json.dumps(suite.lanes()))"
    told = subprocess.run([sys.executable, "-c", program], cwd=SCRIPTS, capture_output=True, check=True)
    without, on_nodes = json.loads(told.stdout)
    assert sorted([*without, *on_nodes]) == sorted(folders_in_order())
    assert without[0] == "tests/unit"
    assert on_nodes[-1] == "tests/e2e"


@pytest.mark.parametrize(("first", "second", "code"), [(0, 0, 0), (3, 0, 3), (0, 4, 4), (3, 4, 3)])
def test_a_failure_in_either_lane_is_a_failure_and_what_both_print_is_shown(
    first: int, second: int, code: int
) -> None:
    lanes = [[sys.executable, "-c", f"print({end}); exit({end})"] for end in (first, second)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_LANES.format(*lanes)], cwd=SCRIPTS, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (code, [str(first), str(second)])


def test_who_ends_the_suite_ends_both_lanes_and_each_takes_down_what_it_has_started(tmp_path: Path) -> None:
    lane = (
        "import pathlib, signal\n"
        "signal.alarm(60)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "pathlib.Path({begun!r}).write_text('begun')\n"
        "signal.sigwait([signal.SIGINT])\n"
        "pathlib.Path({down!r}).touch()\n"
        "exit(2)\n"
    )
    begun = [tmp_path / f"{name} has begun" for name in ("first", "second")]
    down = [tmp_path / f"{name} is down" for name in ("first", "second")]
    lanes = [
        [sys.executable, "-c", lane.format(begun=str(one), down=str(other))]
        for one, other in zip(begun, down, strict=True)
    ]
    for pipe in begun:
        os.mkfifo(pipe)
    running = subprocess.Popen([sys.executable, "-c", RUN_LANES.format(*lanes)], cwd=SCRIPTS)
    assert [pipe.read_text() for pipe in begun] == ["begun", "begun"]
    running.terminate()
    assert running.wait() == 2
    assert all(one.exists() for one in down)


@pytest.mark.parametrize(
    "target",
    [
        "demo", "test", "setup", "lint", "types", "imports", "unit", "contract", "regtest", "e2e",
        "packaging", "docs", "pages", "bench", "clean", "lock", "up", "down",
    ],
)  # fmt: skip
def test_make_help_tells_of_every_target(target: str) -> None:
    help_text = subprocess.run(["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^  make {target} +\S", help_text, flags=re.MULTILINE)


def test_ci_runs_make_test_and_nothing_else_of_make() -> None:
    text = (REPOSITORY / ".ci" / "run").read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert re.findall(r"^\s*(?:exec )?make\b.*$", text, flags=re.MULTILINE) == ["exec make test </dev/null"]
