"""`make kill-matrix-regtest`: the matrix on real bitcoind and LND, each flow on a network of its own. It takes hours.

`ARGS="--every 20"` runs a twentieth of it. A cell that never comes is one whose step real nodes did not take again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kill_matrix.cells import Cell
from kill_matrix.flows import FLOWS, Flow
from kill_matrix.matrix import Result
from kill_matrix.real_cell import ChannelGone, NeverCame, RealMarket, open_market
from kill_matrix.real_cells import real_cells_of
from kill_matrix.table import as_json, print_table
from regtest_network import fresh_network

DATABASE = "SQLite"


@dataclass
class Run:
    """The chosen cells, played one after the other, and what came of them."""

    flows: Sequence[Flow]
    every: int
    results: list[Result] = field(default_factory=list[Result])
    missed: list[str] = field(default_factory=list[str])

    async def play(self, folder: Path) -> None:
        """Play on one network after another: where a channel was closed, nothing can be played any more."""
        for flow in self.flows:
            todo: deque[Cell] | None = None
            for number in itertools.count():
                place = folder / f"{FLOWS.index(flow)}-{number}"
                with fresh_network(place / "network") as network:
                    async with open_market(network, place / "broker") as market:
                        todo = await self._play(market, flow, todo)
                if not todo:
                    break

    async def _play(self, market: RealMarket, flow: Flow, todo: deque[Cell] | None) -> deque[Cell]:
        """Play cells of a flow until one of them costs a channel; return those that are left."""
        steps, seconds = await market.trace(flow)
        if todo is None:
            todo = deque(list(real_cells_of(flow, steps))[:: self.every])
            _say(f"{flow.name}: {len(todo)} cells, {seconds:.1f} s undisturbed")
        while todo:
            cell = todo.popleft()
            try:
                result = await market.run(cell, undisturbed=seconds)
            except NeverCame:
                self.missed.append(str(cell))
                _say(f"  never came: {cell}")
            except ChannelGone:
                # LND itself has gone to the chain: what it was worth is there, and the books cannot say so yet.
                self.missed.append(f"{cell} (a channel was closed)")
                _say(f"  a channel was closed, a new network begins: {cell}")
                break
            else:
                self.results.append(result)
                _say(f"  {'good ' if result.is_good else 'WRONG'} {result.took_seconds:5.1f} s  {result}")
        return todo


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make kill-matrix-regtest", description=__doc__)
    names = [flow.name for flow in FLOWS]
    parser.add_argument("--flow", action="append", choices=names, help="only this one")
    parser.add_argument("--every", type=int, default=1, help="run only each n-th cell")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)  # what the agents say while the broker is away is no news here
    flows = [flow for flow in FLOWS if options.flow is None or flow.name in options.flow]
    run = Run(flows, options.every)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lightwork-kills-") as place:
        await run.play(Path(place))
    seconds = time.monotonic() - begun
    results, not_run, missed = run.results, ["PostgreSQL"], run.missed
    if options.json:
        print(as_json(results, database=DATABASE, not_run=[*not_run, *missed], seconds=seconds))
    else:
        print_table(results, database=DATABASE, not_run=not_run, missed=missed, seconds=seconds)
    return int(any(not result.is_good for result in results))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
