"""What became of the mutations, by invariant, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mutants.judge import Outcome, Verdict
from mutants.promises import INVARIANTS, NONE_APPLIES
from rich.console import Console
from rich.table import Table

Row = dict[str, str | int]


def rows_of(verdicts: Sequence[Verdict]) -> list[Row]:
    """Return one row for each invariant that was tried, or that needs no mutation."""
    rows: list[Row] = []
    for invariant, meaning in INVARIANTS.items():
        found = [verdict for verdict in verdicts if invariant in verdict.mutation.breaks]
        if found or invariant in NONE_APPLIES:
            killed = sum(1 for verdict in found if verdict.outcome is Outcome.KILLED)
            row: Row = {"invariant": invariant, "mutations": len(found), "killed": killed}
            rows.append({**row, "meaning": NONE_APPLIES.get(invariant, meaning)})
    return rows


def print_table(verdicts: Sequence[Verdict], *, tests: int, seconds: float) -> None:
    """Print the table, and each mutation that was not killed with what its test told."""
    console = Console()
    table = Table(title="Mutations", caption_justify="left")
    table.add_column("invariant", no_wrap=True)
    table.add_column("mutations", justify="right")
    table.add_column("killed", justify="right")
    table.add_column("what it says")
    for row in rows_of(verdicts):
        none = row["mutations"] == 0
        table.add_row(
            str(row["invariant"]),
            "none" if none else str(row["mutations"]),
            "" if none else str(row["killed"]),
            str(row["meaning"]),
        )
    killed = sum(1 for verdict in verdicts if verdict.outcome is Outcome.KILLED)
    table.caption = (
        f"{len(verdicts)} mutations, {killed} killed, in {seconds:.0f} s. Each of the {tests} tests that must notice "
        "one was green without it. A mutation may break several invariants."
    )
    console.print(table)
    for verdict in verdicts:
        if verdict.outcome is not Outcome.KILLED:
            mutation = verdict.mutation
            console.rule(f"{verdict.outcome}: {mutation.name}")
            console.print(f"{mutation.file}\n{mutation.caught_by}", highlight=False, markup=False)
            console.print(verdict.told[-1_500:], highlight=False, markup=False)


def as_json(verdicts: Sequence[Verdict], *, tests: int, seconds: float) -> str:
    """Return the same as one JSON document."""
    return json.dumps(
        {
            "mutations": [
                {
                    "name": verdict.mutation.name,
                    "file": verdict.mutation.file,
                    "breaks": verdict.mutation.breaks,
                    "caught_by": verdict.mutation.caught_by,
                    "outcome": verdict.outcome.value,
                    "noticed": verdict.noticed,
                    "seconds": round(verdict.seconds, 1),
                }
                for verdict in verdicts
            ],
            "tests": tests,
            "seconds": round(seconds, 1),
            "invariants": rows_of(verdicts),
        },
        indent=2,
    )
