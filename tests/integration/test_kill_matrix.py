"""The kill matrix: each step of each flow, {broker, LND, database} killed, and what may happen before the restart.

All cells on the simulated network; `make kill-matrix` prints them as a table. Steps are found by running each flow
undisturbed, so a new call or commit of the broker is a new row of cells by itself.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from fast_folder import fast_folder
from kill_matrix.cells import Aftermath, Cell, Victim, cells_of
from kill_matrix.flows import FLOWS, Flow
from kill_matrix.matrix import Matrix, Result, open_matrix
from kill_matrix.parties import STOPPED
from kill_matrix.run_cell import make_template, run_cell, run_flow
from kill_matrix.steps import Kind, Step
from kill_matrix.table import rows_of


@pytest.fixture(scope="module")
def matrix() -> Generator[Matrix]:
    with open_matrix() as opened:
        yield opened


@pytest.fixture(scope="module")
def place() -> Generator[tuple[Path, Path]]:
    """A template of the database, and a folder for one run after the other."""
    with fast_folder() as folder:
        (folder / "run").mkdir()
        yield make_template(folder), folder / "run"


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_nobody_loses_a_msat_whoever_is_killed_at_whichever_step(matrix: Matrix, flow: Flow) -> None:
    results = list(matrix.run(flow))
    assert {result.cell.victim for result in results} == set(Victim)
    assert [str(result) for result in results if not result.is_good] == []
    # Everything here can be found out from the node, but for what an older copy forgot of a withdrawal.
    called = [result for result in results if result.finding.human is not None]
    assert [str(result) for result in called if not _forgot_a_withdrawal(result)] == []
    # An excuse is one only beyond what is promised.
    excused = [result for result in results if result.finding.excuse is not None]
    assert [str(r) for r in excused if r.cell.aftermath is not Aftermath.OUTAGE] == []
    assert sum(int(row["cells"]) for row in rows_of(results, database="SQLite")) == len(results)


def _forgot_a_withdrawal(result: Result) -> bool:
    cell = result.cell
    was_asked = cell.flow.withdraws and "withdrawal" in cell.step.state
    return was_asked and cell.aftermath is Aftermath.BACKUP and result.finding.human == STOPPED


def test_the_steps_of_a_settled_job_are_its_calls_and_commits_in_their_order(
    place: tuple[Path, Path],
) -> None:
    template, folder = place
    steps = run_flow(_flow("settled"), template=template, folder=folder).steps
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    calls = [step.name for step in steps if step.kind is Kind.CALL and str(step.moment) == "after"]
    assert [name for name in calls if name in ("add_hold", "pay", "settle")] == ["add_hold", "pay", "settle"]
    states = list(dict.fromkeys(step.state for step in steps if step.state))
    assert states == [
        "job quoted, escrow created",
        "job open, escrow open",
        "job funded, escrow accepted",
        "job working, escrow accepted",
        "job releasing, escrow releasing",
        "job releasing, escrow forwarding",
        "job releasing, escrow forwarded",
        "job settled, escrow settled",
    ]


def test_the_same_flow_takes_the_same_steps_each_time(place: tuple[Path, Path]) -> None:
    template, folder = place
    first, second = (run_flow(_flow("settled"), template=template, folder=folder) for _ in range(2))
    assert first.steps == second.steps


def test_an_outage_beyond_the_margin_costs_the_broker_what_it_had_paid_and_is_booked(
    place: tuple[Path, Path],
) -> None:
    cell = _cell(place, _flow("settled"), "after pay", Victim.BROKER, Aftermath.OUTAGE)
    finding = run_cell(cell, template=place[0], folder=place[1]).finding
    assert (finding.lost_msat, finding.excuse) == (cell.flow.total_msat, "outage beyond the margin")
    assert finding.is_good


@pytest.mark.parametrize(
    ("name", "step", "state"),
    [
        ("settled", "after commit", "job settled, escrow settled"),
        ("settled", "after settle", "job releasing, escrow forwarded"),
        ("credit settled", "after settle", "job releasing, escrow settling"),
        ("credit withdrawn", "after pay", "job settled, escrow settled, withdrawal paying"),
    ],
)
def test_regression_a_database_from_before_the_hold_invoice_adopts_what_was_settled(
    place: tuple[Path, Path], name: str, step: str, state: str
) -> None:
    # The node refused the hold invoice as settled, and the job was taken for expired: a buyer on credit had paid
    # for nothing.
    cell = _cell(place, _flow(name), step, Victim.DATABASE, Aftermath.BACKUP, state=state)
    finding = run_cell(cell, template=place[0], folder=place[1]).finding
    assert (finding.status, finding.breaches, finding.lost_msat) == ("settled", (), 0)


def test_regression_a_payout_that_the_database_forgot_is_booked_as_a_loss_when_the_htlc_is_gone(
    place: tuple[Path, Path],
) -> None:
    # It was taken for a job that was refunded unpaid, and the books did not show what the node had spent.
    cell = _cell(place, _flow("settled"), "after pay", Victim.DATABASE, Aftermath.OUTAGE)
    finding = run_cell(cell, template=place[0], folder=place[1]).finding
    assert (finding.breaches, finding.excuse) == ((), "outage beyond the margin")


def test_regression_with_an_older_copy_a_withdrawal_waits_for_the_operator_also_before_its_job_is_settled_again(
    place: tuple[Path, Path],
) -> None:
    # Nothing was owed by that copy at the start, so the agent could have withdrawn by another invoice once more.
    state = "job settled, escrow settled, withdrawal paying"
    cell = _cell(
        place, _flow("credit withdrawn"), "after pay", Victim.DATABASE, Aftermath.BACKUP, state=state
    )
    finding = run_cell(cell, template=place[0], folder=place[1]).finding
    assert (finding.breaches, finding.lost_msat, finding.human) == ((), 0, STOPPED)


def _flow(name: str) -> Flow:
    return next(flow for flow in FLOWS if flow.name == name)


def _cell(
    place: tuple[Path, Path],
    flow: Flow,
    step: str,
    victim: Victim,
    aftermath: Aftermath,
    *,
    state: str | None = None,
) -> Cell:
    """Find a cell by what it is, as the numbers of steps change with the broker."""
    trace = run_flow(flow, template=place[0], folder=place[1]).steps

    def fits(found: Step) -> bool:
        return f"{found.moment} {found.name}" == step and state in (None, found.state)

    return next(
        cell
        for cell in cells_of(flow, trace)
        if fits(cell.step) and (cell.victim, cell.aftermath) == (victim, aftermath)
    )
