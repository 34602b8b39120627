"""Some of the mutations are tried each time; `make mutants` tries them all."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import pytest
from mutants.catalogue import CATALOGUE
from mutants.judge import Outcome
from mutants.mutation import Mutation
from mutants.suite import NotGreen, Suite, open_suite

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
