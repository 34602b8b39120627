"""`make mutants`: breaks one rule at a time in a copy of the code, and sees a test fail. Exit code 1 if none does."""

from __future__ import annotations

import argparse
import sys
import time

from mutants.catalogue import CATALOGUE, faults_of
from mutants.judge import Outcome, Verdict
from mutants.promises import INVARIANTS
from mutants.suite import NotGreen, open_suite
from mutants.table import as_json, print_table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    names = [mutation.name for mutation in CATALOGUE]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="only this mutation")
    parser.add_argument(
        "--invariant",
        action="append",
        choices=list(INVARIANTS),
        metavar="I13",
        help="only what breaks this one",
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at the same time; two by default")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args(arguments)
    if faults := faults_of(CATALOGUE):
        print("\n".join(faults), file=sys.stderr)
        return 1
    chosen = [
        mutation
        for mutation in CATALOGUE
        if (options.only is None or mutation.name in options.only)
        and (options.invariant is None or set(options.invariant) & set(mutation.breaks))
    ]
    verdicts: list[Verdict] = []
    begun = time.monotonic()
    with open_suite(workers=options.workers) as suite:
        try:
            tests = suite.require_green(chosen)
        except NotGreen as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{tests} tests are green without a mutation", file=sys.stderr, flush=True)
        for verdict in suite.try_each(chosen):
            verdicts.append(verdict)
            print(
                f"{verdict.mutation.name:<78}{verdict.seconds:>6.1f} s  {verdict.outcome}",
                file=sys.stderr,
                flush=True,
            )
    seconds = time.monotonic() - begun
    if options.json:
        print(as_json(verdicts, tests=tests, seconds=seconds))
    else:
        print_table(verdicts, tests=tests, seconds=seconds)
    return int(any(verdict.outcome is not Outcome.KILLED for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
