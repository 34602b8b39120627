"""The Makefile and pytest's settings know every part of the tests."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import cast

import pytest

REPOSITORY = Path(__file__).parents[3]
NOT_IN_MAKE_TEST = {"benchmarks"}
FOUND_IN_OTHERS = {"__pycache__"}


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
