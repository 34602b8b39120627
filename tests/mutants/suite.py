"""All of it: the copies, the runs without a mistake that must be green, and then one run for each mistake."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from fast_folder import fast_folder
from mutants.judge import TOLD, Judge, Verdict
from mutants.mutation import Mutation
from mutants.nursery import GREEN
from mutants.source_copy import SourceCopy

T = TypeVar("T")
R = TypeVar("R")


class NotGreen(RuntimeError):
    """A test fails without any mistake in the code: its failing would prove nothing."""


class Suite:
    """Some copies of the source, and as many runs at once."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._workers = len(judges)
        self._free: SimpleQueue[Judge] = SimpleQueue()
        for judge in judges:
            self._free.put(judge)

    def require_green(self, mutations: Sequence[Mutation]) -> int:
        """Run each named test by itself, as it will be run with a mistake in the code; return how many.

        Raises:
            NotGreen: with what the test printed.
        """
        tests = list(dict.fromkeys(mutation.caught_by for mutation in mutations))
        for test, run in zip(tests, self._each(tests, Judge.run), strict=True):
            if run.code != GREEN:
                raise NotGreen(f"{test} fails without a mutation:\n{run.text[-TOLD:]}")
        return len(tests)

    def try_each(self, mutations: Sequence[Mutation]) -> Iterator[Verdict]:
        """Yield what became of each mutation, in their order."""
        yield from self._each(mutations, Judge.judge)

    def _each(self, items: Sequence[T], work: Callable[[Judge, T], R]) -> Iterator[R]:
        def one(item: T) -> R:
            judge = self._free.get()
            try:
                return work(judge, item)
            finally:
                self._free.put(judge)

        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(one, items)


@contextmanager
def open_suite(*, workers: int) -> Generator[Suite]:
    """Make the copies; they are gone at the end."""
    with fast_folder() as folder:
        roots = [Path(tempfile.mkdtemp(prefix="copy-", dir=folder)) for _ in range(workers)]
        judges = [Judge(SourceCopy(root)) for root in roots]
        try:
            yield Suite(judges)
        finally:
            for judge in judges:
                judge.close()
