"""Which cells are run on real nodes: those whose outcome real nodes decide, each step once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kill_matrix.cells import Aftermath, Cell, Victim, cells_of
from kill_matrix.flows import Flow
from kill_matrix.steps import Step

PROMISED = frozenset({Aftermath.AT_ONCE, Aftermath.BLOCKS, Aftermath.BACKUP})


def real_cells_of(flow: Flow, trace: Sequence[Step]) -> Iterator[Cell]:
    """Yield every cell of a flow: from the hire on, at the first of equal steps, within what is promised."""
    seen: set[tuple[str, str, str, Victim, Aftermath]] = set()
    for cell in cells_of(flow, trace):
        step = cell.step
        key = (step.name, step.moment.value, step.state, cell.victim, cell.aftermath)
        if cell.aftermath not in PROMISED or not step.state or key in seen:
            continue
        seen.add(key)
        yield cell
