"""`make kill-matrix`: every cell on the simulated network, and a table. Exit code 1 if a cell is wrong.

With `ARGS="--database postgresql"` each worker has a PostgreSQL server of its own, whose processes are killed.
"""

from __future__ import annotations

import argparse
import sys
import time

from kill_matrix.flows import FLOWS
from kill_matrix.matrix import Result, open_matrix
from kill_matrix.table import as_json, print_table

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make kill-matrix", description=__doc__)
    parser.add_argument(
        "--flow", action="append", choices=[flow.name for flow in FLOWS], help="only this one"
    )
    parser.add_argument("--database", choices=DATABASES, default="sqlite")
    parser.add_argument("--every", type=int, default=1, help="run only each n-th cell of a flow")
    parser.add_argument("--workers", type=int, default=None, help="processes; as many as cores by default")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    flows = [flow for flow in FLOWS if options.flow is None or flow.name in options.flow]
    results: list[Result] = []
    begun = time.monotonic()
    database, on_server = DATABASES[options.database], options.database == "postgresql"
    with open_matrix(workers=options.workers, on_server=on_server) as matrix:
        for flow in flows:
            found = list(matrix.run(flow, every=options.every))
            results += found
            wrong = [result for result in found if not result.is_good]
            said = f"{len(wrong)} WRONG" if wrong else "good"
            print(
                f"{flow.name:<28}{len(found):>5} cells, {said}",
                *wrong,
                sep="\n  ",
                file=sys.stderr,
                flush=True,
            )
        missed = list(matrix.missed)
    seconds = time.monotonic() - begun
    not_run = [name for name in DATABASES.values() if name != database]
    if options.json:
        print(as_json(results, database=database, not_run=[*not_run, *missed], seconds=seconds))
    else:
        print_table(results, database=database, not_run=not_run, missed=missed, seconds=seconds)
    return int(any(not result.is_good for result in results))


if __name__ == "__main__":
    sys.exit(main())
