"""Some cells of the kill matrix on real nodes; `make kill-matrix-regtest` runs them all."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from kill_matrix.cells import Aftermath, Victim
from kill_matrix.flows import FLOWS
from kill_matrix.matrix import Result
from kill_matrix.parties import STOPPED
from kill_matrix.real_cell import RealMarket, open_market
from kill_matrix.real_cells import real_cells_of
from kill_matrix.steps import Step

from lightwork_regtest import Network

_traces: dict[str, tuple[tuple[Step, ...], float]] = {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def kills(network: Network, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[RealMarket]:
    async with open_market(network, tmp_path_factory.mktemp("kills")) as market:
        yield market


B, L, D = Victim
ONCE, BLOCKS, BACKUP = Aftermath.AT_ONCE, Aftermath.BLOCKS, Aftermath.BACKUP


@pytest.mark.parametrize(
    ("name", "step", "victim", "aftermath"),
    [
        ("settled", "after commit (job quoted, escrow created)", B, ONCE),
        ("settled", "after commit (job releasing, escrow forwarding)", B, ONCE),
        ("settled", "after pay (job releasing, escrow forwarding)", D, ONCE),
        ("settled", "after pay (job releasing, escrow forwarding)", B, BACKUP),
        ("settled", "before settle (job releasing, escrow forwarded)", B, BLOCKS),
        ("settled", "after pay (job releasing, escrow forwarding)", L, ONCE),
        ("failed", "after cancel (job refunding, escrow canceling)", B, ONCE),
        ("payout stuck for a while", "before lookup (job releasing, escrow forwarding)", B, ONCE),
        ("payout stuck for a while", "after lookup (job releasing, escrow forwarding)", L, ONCE),
        ("never paid", "after add_hold (job quoted, escrow created)", B, ONCE),
        ("never paid", "after watch: OPEN (job open, escrow open)", L, ONCE),
        ("cancelled after funding", "before cancel (job refunding, escrow canceling)", B, ONCE),
        ("cancelled after funding", "after cancel (job refunding, escrow canceling)", L, ONCE),
        ("credit withdrawn", "after pay (job settled, escrow settled, withdrawal paying)", D, ONCE),
        ("credit withdrawn", "after pay (job settled, escrow settled, withdrawal paying)", L, ONCE),
        ("credit settled", "after settle (job releasing, escrow settling)", D, BACKUP),
    ],
)
async def test_nobody_loses_a_msat_on_real_nodes(
    kills: RealMarket, name: str, step: str, victim: Victim, aftermath: Aftermath
) -> None:
    result = await _run(kills, name, step, victim, aftermath)
    assert result.is_good, str(result)
    assert result.finding.lost_msat == 0
    assert result.finding.human is None


async def test_what_an_older_copy_forgot_of_a_withdrawal_waits_for_the_operator_and_is_paid_once(
    kills: RealMarket,
) -> None:
    step = "after pay (job settled, escrow settled, withdrawal paying)"
    result = await _run(kills, "credit withdrawn", step, D, BACKUP)
    assert result.is_good, str(result)
    assert result.finding.lost_msat == 0
    assert result.finding.human == STOPPED


async def _run(kills: RealMarket, name: str, step: str, victim: Victim, aftermath: Aftermath) -> Result:
    flow = next(flow for flow in FLOWS if flow.name == name)
    if name not in _traces:
        _traces[name] = await kills.trace(flow)
    trace, seconds = _traces[name]
    cell = next(
        found
        for found in real_cells_of(flow, trace)
        if f"{found.step.moment} {found.step.name} ({found.step.state})" == step
        and (found.victim, found.aftermath) == (victim, aftermath)
    )
    return await kills.run(cell, undisturbed=seconds)
