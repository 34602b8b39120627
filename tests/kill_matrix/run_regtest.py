"""`make kill-matrix-regtest`: the matrix on real bitcoind and LND, on a network of its own. It takes hours.

`ARGS="--every 20"` runs a twentieth of it. A cell that never comes is one whose step real nodes did not take again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from pathlib import Path

from kill_matrix.flows import FLOWS
from kill_matrix.matrix import Result
from kill_matrix.real_cell import NeverCame, RealMarket, open_market
from kill_matrix.real_cells import real_cells_of
from kill_matrix.table import as_json, print_table
from regtest_network import fresh_network

DATABASE = "SQLite"


async def run(market: RealMarket, options: argparse.Namespace) -> tuple[list[Result], list[str]]:
    """Run the chosen cells one after the other; return the results, and what was not run."""
    results: list[Result] = []
    missed: list[str] = []
    for flow in FLOWS:
        if options.flow is not None and flow.name not in options.flow:
            continue
        steps, seconds = await market.trace(flow)
        cells = list(real_cells_of(flow, steps))[:: options.every]
        _say(f"{flow.name}: {len(cells)} cells, {seconds:.1f} s undisturbed")
        for cell in cells:
            try:
                result = await market.run(cell, undisturbed=seconds)
            except NeverCame:
                missed.append(str(cell))
                _say(f"  never came: {cell}")
            else:
                results.append(result)
                _say(f"  {'good ' if result.is_good else 'WRONG'} {result.took_seconds:5.1f} s  {result}")
    return results, missed


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make kill-matrix-regtest", description=__doc__)
    names = [flow.name for flow in FLOWS]
    parser.add_argument("--flow", action="append", choices=names, help="only this one")
    parser.add_argument("--every", type=int, default=1, help="run only each n-th cell")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)  # what the agents say while the broker is away is no news here
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lightwork-kills-") as place:
        folder = Path(place)
        with fresh_network(folder / "network") as network:
            async with open_market(network, folder / "broker") as market:
                results, missed = await run(market, options)
    seconds = time.monotonic() - begun
    not_run = ("PostgreSQL", *missed)
    if options.json:
        print(as_json(results, database=DATABASE, not_run=not_run, seconds=seconds))
    else:
        print_table(results, database=DATABASE, not_run=not_run, seconds=seconds)
    return int(any(not result.is_good for result in results))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
