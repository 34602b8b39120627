"""The whole matrix: every cell of every flow, over as many processes as there are cores."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import multiprocessing.util
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fast_folder import fast_folder
from kill_matrix.cells import Cell, cells_of
from kill_matrix.flows import FLOWS, Flow
from kill_matrix.run_cell import NeverCame, Run, make_template, run_on
from kill_matrix.steps import Step
from kill_matrix.stores import PostgresStore, SqliteStore, Store
from kill_matrix.verdict import Finding
from postgres_server import PostgresServer

BATCH = 8
"""Cells that a worker takes at once."""
TRIES = 3


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
    on_server: bool = False
    missed: list[str] = field(default_factory=list[str])
    """Cells whose step did not come, in none of `TRIES` runs."""

    def run(self, flow: Flow, *, every: int = 1) -> Iterator[Result]:
        """Run every cell of a flow, or each n-th.

        Raises:
            AssertionError: the flow does not end well even when nobody is killed.
        """
        trace = self.pool.submit(_undisturbed, flow).result()
        cells = list(cells_of(flow, trace.steps, on_server=self.on_server))[::every]
        for results, missed in self.pool.map(
            functools.partial(_run_batch, undisturbed=trace.seconds),
            [cells[start : start + BATCH] for start in range(0, len(cells), BATCH)],
        ):
            self.missed.extend(missed)
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
def open_matrix(*, workers: int | None = None, on_server: bool = False) -> Generator[Matrix]:
    """Start the worker processes, and end them with the block. On a server, each has one of its own."""
    with (
        fast_folder() as folder,
        ProcessPoolExecutor(
            max_workers=workers or os.cpu_count(),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_on_server if on_server else _begin,
            initargs=(folder if on_server else make_template(folder),),
        ) as pool,
    ):
        yield Matrix(pool, on_server=on_server)


@contextmanager
def open_server(folder: Path) -> Generator[PostgresStore]:
    """Start a server for one run after the other, and end it with the block."""
    server = PostgresServer(folder)
    server.start()
    try:
        yield PostgresStore(server)
    finally:
        server.stop()


_open: Callable[[], AbstractContextManager[tuple[Store, Path]]] | None = None


def _begin(template: Path) -> None:
    @contextmanager
    def place() -> Generator[tuple[Store, Path]]:
        folder = template.parent / f"worker-{os.getpid()}"
        folder.mkdir(exist_ok=True, mode=0o700)
        yield SqliteStore(template, folder), folder
        shutil.rmtree(folder)

    global _open
    _open = place


def _begin_on_server(folder: Path) -> None:
    # What a killed broker leaves is dropped here by the garbage collector, and by the server when it notices.
    warnings.simplefilter("ignore")
    for name in ("psycopg", "sqlalchemy.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    own = folder / f"worker-{os.getpid()}"
    own.mkdir(mode=0o700)
    opened = open_server(own)
    store = opened.__enter__()
    # A worker ends by leaving its queue; `atexit` is not called there.
    multiprocessing.util.Finalize(None, lambda: opened.__exit__(None, None, None), exitpriority=1)

    @contextmanager
    def place() -> Generator[tuple[Store, Path]]:
        with tempfile.TemporaryDirectory() as data:
            yield store, Path(data)

    global _open
    _open = place


def _undisturbed(flow: Flow) -> Trace:
    with _place() as (store, folder):
        run = run_on(store, flow, None, folder=folder)
    if not run.finding.is_good:
        raise AssertionError(f"{flow.name}, with nobody killed: {run.finding}")
    return Trace(run.steps, run.seconds)


def _run_batch(cells: Sequence[Cell], *, undisturbed: float) -> tuple[list[Result], list[str]]:
    results: list[Result] = []
    missed: list[str] = []
    with _place() as (store, folder):
        for cell in cells:
            begun = time.perf_counter()
            run = tried(cell, store, folder)
            if run is None:
                missed.append(str(cell))
                continue
            results.append(
                Result(
                    cell=cell,
                    finding=run.finding,
                    delay_seconds=max(run.seconds - run.outage_seconds - undisturbed, 0.0),
                    boot_seconds=run.boot_seconds,
                    took_seconds=time.perf_counter() - begun,
                )
            )
    return results, missed


def tried(cell: Cell, store: Store, folder: Path) -> Run | None:
    """Run a cell; on a server again, when its step did not come."""
    for _ in range(TRIES if store.on_server else 1):
        try:
            return run_on(store, cell.flow, cell, folder=folder)
        except NeverCame:
            if not store.on_server:
                raise
    return None


def _place() -> AbstractContextManager[tuple[Store, Path]]:
    """Return the database of this worker, and a folder: the same ones each time."""
    if _open is None:
        raise RuntimeError("a worker of the matrix was not begun")
    return _open()
