"""The catalogue of mutations fits the code: it says so before a whole run does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from mutants.catalogue import CATALOGUE, faults_of
from mutants.judge import Outcome, Verdict
from mutants.promises import INVARIANTS, NONE_APPLIES
from mutants.source_copy import NotOnce, mutate
from mutants.table import as_json, rows_of


def test_the_catalogue_fits_the_code_and_leaves_no_invariant_out() -> None:
    assert faults_of(CATALOGUE) == []


def test_a_text_that_is_not_there_exactly_once_is_refused() -> None:
    mutation = replace(CATALOGUE[0], old="x = 1\n", new="x = 2\n")
    assert mutate(mutation, "x = 1\ny = 1\n") == "x = 2\ny = 1\n"
    for text in ("y = 1\n", "x = 1\nx = 1\n"):
        with pytest.raises(NotOnce, match=mutation.name):
            mutate(mutation, text)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"old": "no such text"}, "occurs 0 times"),
        ({"new": "("}, "was never closed"),
        ({"file": "services/no_such_file.py"}, "there is no file"),
        ({"caught_by": "tests/unit/broker/test_machines.py::test_of_another_time"}, "has no test"),
        ({"breaks": ("I99",)}, "there is no invariant I99"),
    ],
)
def test_a_catalogue_that_has_fallen_behind_says_where(change: dict[str, str], says: str) -> None:
    first, *others = CATALOGUE
    stale = replace(first, **change)
    assert any(says in fault for fault in faults_of([stale, *others]))


def test_an_invariant_without_a_mutation_and_without_a_reason_is_a_fault() -> None:
    without = [mutation for mutation in CATALOGUE if "I16" not in mutation.breaks]
    assert [fault.partition(":")[0] for fault in faults_of(without)] == ["I16"]
    assert set(NONE_APPLIES) < set(INVARIANTS)


def test_the_table_counts_by_invariant() -> None:
    first, second = CATALOGUE[:2]
    verdicts = [Verdict(first, Outcome.KILLED, 1.0), Verdict(second, Outcome.SURVIVED, 1.0)]
    rows = {row["invariant"]: (row["mutations"], row["killed"]) for row in rows_of(verdicts)}
    assert rows["I1"] == (2, 1)
    told = json.loads(as_json(verdicts, tests=2, seconds=2.0))
    assert [mutation["outcome"] for mutation in told["mutations"]] == ["killed", "SURVIVED"]
