"""Some cells of the kill matrix on a PostgreSQL server, which is killed with all its processes (SIGKILL).

`make kill-matrix ARGS="--database postgresql"` runs them all.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from fast_folder import fast_folder
from kill_matrix.cells import Aftermath, Victim, cells_of
from kill_matrix.flows import FLOWS
from kill_matrix.matrix import open_server, tried
from kill_matrix.run_cell import run_on
from kill_matrix.steps import Step
from kill_matrix.stores import PostgresStore

# What a killed broker leaves is dropped by the garbage collector, where its process would have ended.
pytestmark = pytest.mark.filterwarnings("ignore")

_traces: dict[str, tuple[Step, ...]] = {}


@pytest.fixture(scope="module")
def store() -> Generator[PostgresStore]:
    with fast_folder() as folder, open_server(folder) as opened:
        yield opened
        opened.cut()


B, L, D = Victim
ONCE, BLOCKS, BACKUP = Aftermath.AT_ONCE, Aftermath.BLOCKS, Aftermath.BACKUP


@pytest.mark.parametrize(
    ("name", "step", "victim", "aftermath"),
    [
        ("settled", "before commit ()", D, ONCE),
        ("settled", "after commit (job quoted, escrow created)", D, ONCE),
        ("settled", "after commit (job releasing, escrow forwarding)", D, ONCE),
        ("settled", "before commit (job releasing, escrow forwarding)", D, ONCE),
        ("settled", "after pay (job releasing, escrow forwarding)", D, BLOCKS),
        ("settled", "after settle (job releasing, escrow forwarded)", D, BACKUP),
        ("settled", "after pay (job releasing, escrow forwarding)", B, BACKUP),
        ("settled", "before settle (job releasing, escrow forwarded)", L, ONCE),
        ("failed", "after cancel (job refunding, escrow canceling)", D, ONCE),
        ("credit withdrawn", "after commit (job settled, escrow settled, withdrawal paying)", D, ONCE),
        ("credit withdrawn", "after pay (job settled, escrow settled, withdrawal paying)", D, ONCE),
    ],
)
def test_nobody_loses_a_msat_when_a_server_is_killed(
    store: PostgresStore, name: str, step: str, victim: Victim, aftermath: Aftermath
) -> None:
    flow = next(flow for flow in FLOWS if flow.name == name)
    with fast_folder() as folder:
        if name not in _traces:
            run = run_on(store, flow, None, folder=folder)
            assert run.finding.is_good, run.finding
            _traces[name] = run.steps
        cell = next(
            found
            for found in cells_of(flow, _traces[name], on_server=True)
            if f"{found.step.moment} {found.step.name} ({found.step.state})" == step
            and (found.victim, found.aftermath) == (victim, aftermath)
        )
        recoveries = _recoveries(store)
        run = tried(cell, store, folder)
    assert run is not None, "the step did not come"
    assert run.finding.is_good, run.finding
    assert (run.finding.lost_msat, run.finding.human) == (0, None)
    assert _recoveries(store) - recoveries >= (victim is Victim.DATABASE), "the server was not killed"


def _recoveries(store: PostgresStore) -> int:
    """Return how often the server has come back from a death."""
    log = (store.server.folder / "log").read_text()
    return log.count("was not properly shut down; automatic recovery in progress")
