"""What commands print: tables and lines for people, or JSON and nothing else."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from typing import Annotated, TypeVar

import typer
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lightwork.errors import LightworkError
from lightwork.exit_codes import ExitCode, exit_code_of
from lightwork_contracts.status import JobStatus

T = TypeVar("T")

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")]
BrokerOption = Annotated[
    str | None, typer.Option("--broker", help="URL of the broker (LIGHTWORK_BROKER).", metavar="URL")
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="Name of the profile (LIGHTWORK_PROFILE).", metavar="NAME")
]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

STYLE = {
    JobStatus.SETTLED: "green",
    JobStatus.DELIVERED: "green",
    JobStatus.RELEASING: "green",
    JobStatus.REFUNDED: "yellow",
    JobStatus.REFUNDING: "yellow",
    JobStatus.EXPIRED: "yellow",
    JobStatus.DISPUTED: "red",
}


def visible(text: str) -> str:
    """A stranger's text without what could move the cursor or hide something."""
    return "".join(sign if sign.isprintable() or sign == "\n" else REPLACEMENT for sign in text)


def say(text: str, *, style: str = "") -> None:
    """One line for people."""
    Console(highlight=False, soft_wrap=True).print(Text(visible(text), style=style))


def show_json(value: JsonValue) -> None:
    """One JSON document, on one line, flushed."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A table for people; the last column takes what room there is."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number < len(columns) - 1, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(visible(cell)) for cell in row))
    Console(highlight=False).print(table)


def show_result(result: JsonValue) -> None:
    """A job's result: text as it is, anything else as indented JSON."""
    text = result if isinstance(result, str) else json.dumps(result, indent=2, ensure_ascii=False)
    Console(highlight=False, soft_wrap=True).print(Text(visible(text)))


def report(error: LightworkError, *, as_json: bool) -> ExitCode:
    """Tell an expected failure, with what to do next, and return the exit code."""
    if as_json:
        show_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    else:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(Text("error: ", style="bold red") + Text(visible(error.message)))
        if error.hint:
            console.print(Text("  try: ", style="bold") + Text(visible(error.hint)))
    return exit_code_of(error)


def run_async(work: Coroutine[None, None, T], *, as_json: bool) -> T:
    """Run a command's work; an expected failure becomes a message and an exit code, never a traceback."""
    try:
        return asyncio.run(work)
    except LightworkError as error:
        raise typer.Exit(report(error, as_json=as_json)) from None
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
