"""The matrix as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence

from kill_matrix.cells import Aftermath, Victim
from kill_matrix.matrix import Result
from rich.console import Console
from rich.table import Table

WIDTH_OF_A_FILE = 120

Row = dict[str, str | int | float]


def rows_of(results: Sequence[Result], *, database: str) -> list[Row]:
    """Return one row for each victim and aftermath. Sats may be fractions; times in seconds."""
    groups: defaultdict[tuple[Victim, Aftermath], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.cell.victim, result.cell.aftermath].append(result)
    return [
        _row(victim, aftermath, groups[victim, aftermath], database=database)
        for victim in Victim
        for aftermath in Aftermath
        if groups[victim, aftermath]
    ]


def _row(victim: Victim, aftermath: Aftermath, results: Sequence[Result], *, database: str) -> Row:
    unexcused = [result.finding.lost_msat for result in results if result.finding.excuse is None]
    excused = [result.finding.lost_msat for result in results if result.finding.excuse is not None]
    delays = [result.delay_seconds for result in results]
    return {
        "victim": _name(victim, database),
        "aftermath": aftermath.value,
        "cells": len(results),
        "sats_lost": sum(unexcused) / 1_000,
        "sats_lost_by_the_outage": sum(excused) / 1_000,
        "needed_a_human": sum(1 for result in results if result.finding.human is not None),
        "wrong": sum(1 for result in results if not result.is_good),
        "recovery_seconds_median": statistics.median(delays),
        "recovery_seconds_worst": max(delays),
    }


def _name(victim: Victim, database: str) -> str:
    """A server dies alone; a file does with its broker."""
    if victim is not Victim.DATABASE:
        return victim.value
    return database if database == "PostgreSQL" else f"broker and {database}"


def print_table(
    results: Sequence[Result],
    *,
    database: str,
    not_run: Sequence[str],
    missed: Sequence[str] = (),
    seconds: float,
) -> None:
    """Print the table, each cell that is wrong or needed a human, and those that were planned and not played."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_A_FILE)
    table = Table(title="Kill matrix", caption_justify="left")
    for name in ("killed", "then"):
        table.add_column(name, no_wrap=True)
    for name in ("cells", "sats lost", "human", "median", "worst", "wrong"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows_of(results, database=database):
        table.add_row(
            str(row["victim"]),
            str(row["aftermath"]),
            f"{row['cells']}",
            _lost(row),
            f"{row['needed_a_human']}",
            f"{row['recovery_seconds_median']:.0f} s",
            f"{row['recovery_seconds_worst']:.0f} s",
            f"{row['wrong']}" if row["wrong"] else "",
        )
    for name in not_run:
        table.add_row(name, "", "not run")
    # A flow without a job has no cells on real nodes.
    boots = [result.boot_seconds * 1_000 for result in results] or [0.0]
    table.caption = (
        f"{len(results)} cells of {len({result.cell.flow.name for result in results})} flows in {seconds:.0f} s. "
        "Human: cells that somebody must look at. Median and worst: by how much later the job was over than without "
        "the kill, on the simulated network in its seconds. The broker's start took "
        f"{statistics.median(boots):.0f} ms, at worst {max(boots):.0f} ms. "
        "* The broker's own loss, booked as one: it had paid, and nobody could act until LND gave the HTLC "
        "back."
    )
    console.print(table)
    for result in results:
        if not result.is_good or result.finding.human is not None:
            console.print(f"[bold]{result}[/] {result.finding.human or ''}", highlight=False)
    for name in missed:
        console.print(f"not played: {name}", highlight=False)


def as_json(results: Sequence[Result], *, database: str, not_run: Sequence[str], seconds: float) -> str:
    """Return the same as one JSON document."""
    return json.dumps(
        {
            "cells": len(results),
            "seconds": round(seconds, 1),
            "sats_lost": sum(r.finding.lost_msat for r in results if r.finding.excuse is None) / 1_000,
            "needed_a_human": [str(r) for r in results if r.finding.human is not None],
            "wrong": [str(r) for r in results if not r.is_good],
            "not_run": list(not_run),
            "rows": rows_of(results, database=database),
        },
        indent=2,
    )


def _lost(row: Row) -> str:
    excused = row["sats_lost_by_the_outage"]
    return f"{row['sats_lost']:g}" + (f" (+{excused:g}*)" if excused else "")
