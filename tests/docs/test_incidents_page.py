"""The register of incidents, invariants and problems is whole, and names only tests that exist."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from docs_pages import REPOSITORY, existing_tests, named_tests, page_text

PAGE = "docs/incidents.md"
ROWS = {"R": 24, "I": 38, "P": 46, "H": 18}
COLUMNS = {"R": 4, "I": 3, "P": 4, "H": 3}
_ROW = re.compile(r"^\| ([RIPH]\d+) \|(.*)\|$", re.MULTILINE)
_CHECKER = re.compile(r"`checker (I\d+)`")
_NOT_HELD = "not held"


def rows() -> list[tuple[str, list[str]]]:
    """Return the number of each row, and its other cells."""
    return [
        (found[1], [cell.strip() for cell in found[2].split(" | ")])
        for found in _ROW.finditer(page_text(PAGE))
    ]


def wanted() -> list[str]:
    return [f"{letter}{number}" for letter, most in ROWS.items() for number in range(1, most + 1)]


def test_each_incident_invariant_problem_and_attack_has_exactly_one_row_in_its_order() -> None:
    assert [name for name, _ in rows()] == wanted()


@pytest.mark.parametrize(("name", "cells"), rows(), ids=[name for name, _ in rows()])
def test_a_row_is_whole_and_says_what_holds_it(name: str, cells: list[str]) -> None:
    assert len(cells) == COLUMNS[name[0]] - 1
    assert all(len(cell) > 10 for cell in cells)
    *words, held = cells
    assert named_tests(held) or _CHECKER.search(held)
    # Nothing but names stands where the proof stands.
    assert re.sub(r"`(?:test_\w+|checker I\d+)`(?:, )?", "", held) == ""
    absent = [word for word in words if "oes not exist here" in word]
    assert all(": no " in word for word in absent) or "Pay-per-call: does not exist here, no" in words[-1]


def test_every_test_that_the_register_names_exists() -> None:
    named = named_tests(page_text(PAGE))
    assert len(named) > 150
    assert named - existing_tests() == set()


def test_a_checker_that_is_named_can_report_a_breach_under_its_number() -> None:
    reports = "".join(
        (REPOSITORY / "tests" / name).read_text() for name in ("escrow_checks.py", "escrow_story.py")
    )
    named = set(_CHECKER.findall(page_text(PAGE)))
    assert len(named) > 15
    assert {number for number in named if not re.search(rf'"{number} ', reports)} == set()


def test_the_end_of_the_page_lists_exactly_the_rows_that_are_not_held() -> None:
    said = [name for name, cells in rows() if _NOT_HELD in " ".join(cells).lower()]
    ending = page_text(PAGE).rpartition("## Not held")[2]
    listed = Counter(re.findall(r"\b[RIP]\d+\b", ending))
    assert listed == Counter(said)
