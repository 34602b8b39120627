"""The catalogue of mutations fits the code, and some of them are tried each time; `make mutants` tries them all."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace

import pytest
from mutants.catalogue import CATALOGUE, faults_of
from mutants.judge import Outcome, Verdict
from mutants.mutation import Mutation
from mutants.promises import INVARIANTS, NONE_APPLIES
from mutants.source_copy import NotOnce, mutate
from mutants.suite import NotGreen, Suite, open_suite
from mutants.table import as_json, rows_of

TRIED_EACH_TIME = (
    "an unknown payout is taken for a failed one",
    "what is released can be taken back on request",
    "the intent is committed after the call",
    "a withdrawal is paid before anything is reserved for it",
    "an escrow may be cancelled while its payout is under way",
    "a failure that is found after a lost call is taken for its outcome",
)


def _mutation(name: str) -> Mutation:
    return next(mutation for mutation in CATALOGUE if mutation.name == name)


@pytest.fixture(scope="module")
def suite() -> Generator[Suite]:
    with open_suite(workers=2) as opened:
        yield opened


def test_the_catalogue_fits_the_code_and_leaves_no_invariant_out() -> None:
    assert faults_of(CATALOGUE) == []


@pytest.mark.timeout(600)  # twelve runs of pytest: seconds each, and minutes on a machine that is busy
def test_some_mutations_are_tried_and_the_suite_notices_each(suite: Suite) -> None:
    chosen = [_mutation(name) for name in TRIED_EACH_TIME]
    assert suite.require_green(chosen) == len(chosen)
    verdicts = list(suite.try_each(chosen))
    assert [
        f"{v.mutation.name}: {v.outcome}\n{v.told}" for v in verdicts if v.outcome is not Outcome.KILLED
    ] == []


def test_a_mutation_that_no_test_notices_is_said_to_have_survived(suite: Suite) -> None:
    harmless = replace(
        _mutation(TRIED_EACH_TIME[2]), old="ATTEMPT_SECONDS = 60\n", new="ATTEMPT_SECONDS = 61\n"
    )
    unsaid = replace(_mutation(TRIED_EACH_TIME[2]), says="I99 never said")
    gone = replace(harmless, old="no such text")
    broken = replace(harmless, new="ATTEMPT_SECONDS = sixty\n")
    missing = replace(harmless, caught_by=harmless.caught_by.replace("a job", "no such script"))
    outcomes = [verdict.outcome for verdict in suite.try_each([harmless, unsaid, gone, broken, missing])]
    assert outcomes == [
        Outcome.SURVIVED,
        Outcome.OTHER_REASON,
        Outcome.BROKEN,
        Outcome.BROKEN,
        Outcome.BROKEN,
    ]


def test_a_test_that_fails_without_a_mutation_stops_everything(suite: Suite) -> None:
    missing = replace(_mutation(TRIED_EACH_TIME[0]), caught_by="tests/unit/no_such_file.py::test_nothing")
    with pytest.raises(NotGreen, match="no_such_file"):
        suite.require_green([missing])


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
