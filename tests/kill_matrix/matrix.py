"""The whole matrix: every cell of every flow, over as many processes as there are cores."""

from __future__ import annotations

import functools
import multiprocessing
import os
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fast_folder import fast_folder
from kill_matrix.cells import Cell, cells_of
from kill_matrix.flows import FLOWS, Flow
from kill_matrix.run_cell import make_template, run_cell, run_flow
from kill_matrix.steps import Step
from kill_matrix.verdict import Finding

BATCH = 8
"""Cells that a worker takes at once."""


@dataclass(frozen=True, slots=True)
class Result:
    """One cell that was run. `delay_seconds` is by how much later the job was over than without the kill.

    Virtual seconds, without those of the outage itself; `boot_seconds` are real ones.
    """

    cell: Cell
    finding: Finding
    delay_seconds: float
    boot_seconds: float
    took_seconds: float

    @property
    def is_good(self) -> bool:
        return self.finding.is_good

    def __str__(self) -> str:
        finding = self.finding
        lost = f"{finding.lost_msat} msat lost" if finding.lost_msat else ""
        return f"{self.cell} -> {finding.status}; " + "; ".join(filter(None, (lost, *finding.breaches)))


@dataclass(frozen=True, slots=True)
class Matrix:
    """Runs flows. Make it with `open_matrix`."""

    pool: ProcessPoolExecutor

    def run(self, flow: Flow) -> Iterator[Result]:
        """Run every cell of a flow.

        Raises:
            AssertionError: the flow does not end well even when nobody is killed.
        """
        trace = self.pool.submit(_undisturbed, flow).result()
        cells = list(cells_of(flow, trace.steps))
        for results in self.pool.map(
            functools.partial(_run_batch, undisturbed=trace.seconds),
            [cells[start : start + BATCH] for start in range(0, len(cells), BATCH)],
        ):
            yield from results

    def run_all(self, flows: Sequence[Flow] = FLOWS) -> Iterator[Result]:
        for flow in flows:
            yield from self.run(flow)


@dataclass(frozen=True, slots=True)
class Trace:
    """The steps of an undisturbed run, and how long it took."""

    steps: tuple[Step, ...]
    seconds: float


@contextmanager
def open_matrix(*, workers: int | None = None) -> Generator[Matrix]:
    """Start the worker processes, and end them with the block."""
    with (
        fast_folder() as folder,
        ProcessPoolExecutor(
            max_workers=workers or os.cpu_count(),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(make_template(folder),),
        ) as pool,
    ):
        yield Matrix(pool)


_template: Path | None = None


def _begin(template: Path) -> None:
    global _template
    _template = template


def _undisturbed(flow: Flow) -> Trace:
    with _place() as (template, folder):
        run = run_flow(flow, template=template, folder=folder)
    if not run.finding.is_good:
        raise AssertionError(f"{flow.name}, with nobody killed: {run.finding}")
    return Trace(run.steps, run.seconds)


def _run_batch(cells: Sequence[Cell], *, undisturbed: float) -> list[Result]:
    results: list[Result] = []
    with _place() as (template, folder):
        for cell in cells:
            begun = time.perf_counter()
            run = run_cell(cell, template=template, folder=folder)
            results.append(
                Result(
                    cell=cell,
                    finding=run.finding,
                    delay_seconds=max(run.seconds - run.outage_seconds - undisturbed, 0.0),
                    boot_seconds=run.boot_seconds,
                    took_seconds=time.perf_counter() - begun,
                )
            )
    return results


@contextmanager
def _place() -> Generator[tuple[Path, Path]]:
    """Return the template, and the folder of this worker: the same one each time."""
    if _template is None:
        raise RuntimeError("a worker of the matrix was not begun")
    folder = _template.parent / f"worker-{os.getpid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    yield _template, folder
    shutil.rmtree(folder)
