"""Runs a test in a copy of the source, and says what became of the mistake in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum

from mutants import nursery
from mutants.mutation import Mutation
from mutants.source_copy import NotOnce, SourceCopy

TOLD = 20_000


class Outcome(StrEnum):
    KILLED = "killed"
    SURVIVED = "SURVIVED"
    """The test is green with the mistake in the code: a hole in the tests."""
    OTHER_REASON = "OTHER REASON"
    """The test failed, but did not say what it should."""
    BROKEN = "BROKEN"
    """The mistake could not be tried: its text is not there, it does not import, or the test is not found."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutation. Seconds by the wall; `told` is the end of what the test printed."""

    mutation: Mutation
    outcome: Outcome
    seconds: float
    told: str = ""

    @property
    def noticed(self) -> str:
        """Return the first line in which the test says what is wrong."""
        lines = (line[1:].strip() for line in self.told.splitlines() if line.startswith("E "))
        return next(lines, "")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pytest: its exit code, or `TIMED_OUT`, and what it printed."""

    code: int
    text: str
    seconds: float


class Judge:
    """One copy of the source, and the process that runs tests in it."""

    def __init__(self, copy: SourceCopy) -> None:
        self._copy = copy
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "mutants.nursery"],
            cwd=copy.root,
            env=copy.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._nursery.communicate()

    def run(self, test: str) -> Run:
        """Run one test in the copy as it is now."""
        self._copy.forget_examples()
        asked, answers = self._nursery.stdin, self._nursery.stdout
        assert asked is not None
        assert answers is not None
        asked.write(f"{test}\n")
        asked.flush()
        answer = json.loads(answers.readline())
        told = (self._copy.root / nursery.TOLD_IN).read_text(errors="replace")
        return Run(answer["code"], told, answer["seconds"])

    def judge(self, mutation: Mutation) -> Verdict:
        """Try one mutation in the copy."""
        try:
            with self._copy.mutated(mutation):
                run = self.run(mutation.caught_by)
        except NotOnce as error:
            return Verdict(mutation, Outcome.BROKEN, 0.0, str(error))
        return Verdict(mutation, _outcome(mutation, run), run.seconds, run.text[-TOLD:])


def _outcome(mutation: Mutation, run: Run) -> Outcome:
    match run.code:
        case nursery.GREEN:
            return Outcome.SURVIVED
        case nursery.FAILED | nursery.TIMED_OUT:
            killed = mutation.says in run.text
            return Outcome.KILLED if killed else Outcome.OTHER_REASON
        case _:
            # Not one test was run to its end: collecting it failed, or there is none of this name.
            return Outcome.BROKEN
