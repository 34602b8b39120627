"""Writes into ARCHITECTURE.md what the code itself says: the tables of job and escrow, who may import whom.

`scripts/diagrams.py` rewrites the blocks between the markers; `--check` only tells whether they are fresh.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

from lightwork_broker.escrow.machine import DUTIES, TERMINAL, TRANSITIONS, EscrowState
from lightwork_broker.jobs import machine as jobs
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.status import CAPABILITIES, JobStatus

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "ARCHITECTURE.md"
BLOCK = re.compile(r"(<!-- begin generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


class _Contract(BaseModel):
    name: str
    layers: list[str] = []


class _Linter(BaseModel):
    contracts: list[_Contract]


class UnknownBlockError(Exception):
    """ARCHITECTURE.md asks for a block that nobody generates, or lacks one."""


def job_life() -> str:
    """The job's table as a Mermaid diagram."""
    return f"```mermaid\n{jobs.diagram()}\n```\n"


def job_statuses() -> str:
    """What each status of a job means and permits."""
    lines = ["| status | meaning | money held | result visible |", "|---|---|---|---|"]
    for status in JobStatus:
        can = CAPABILITIES[status]
        lines.append(f"| {status} | {can.meaning} | {_yes(can.money_held)} | {_yes(can.result_visible)} |")
    return "\n".join(lines) + "\n"


def escrow_life() -> str:
    """The escrow's two tables as Mermaid diagrams."""
    return "\n".join(f"In {mode} mode:\n\n{_escrow_life(mode)}" for mode in PaymentMode)


def _escrow_life(mode: PaymentMode) -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {EscrowState.CREATED}"]
    lines += [
        f"    {state} --> {target}: {event.replace('_', ' ')}"
        for (state, event), target in TRANSITIONS[mode].items()
    ]
    ends = [state for state in EscrowState if state in TERMINAL and state in TRANSITIONS[mode].values()]
    lines += [f"    {state} --> [*]" for state in ends]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def escrow_duties() -> str:
    """The one thing that each state of an escrow asks for."""
    lines = ["| state | duty |", "|---|---|"]
    for state in EscrowState:
        duty = DUTIES.get(state)
        lines.append(f"| {state} | {'none: the end' if duty is None else duty.replace('_', ' ')} |")
    return "\n".join(lines) + "\n"


def imports() -> str:
    """The import-linter's contracts: the layers from the top down, the others by their names."""
    document = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = _Linter.model_validate(document["tool"]["importlinter"]).contracts
    lines: list[str] = []
    for contract in contracts:
        if not contract.layers:
            continue
        lines.append(f"{_sentence(contract.name)} Each may import what stands below it, and nothing above:\n")
        built = [layer for layer in (_rooms(layer) for layer in contract.layers) if layer]
        lines += [f"{number}. {_code(layer)}" for number, layer in enumerate(built, start=1)]
        lines.append("")
    lines.append("And:\n")
    lines += [f"- {_sentence(contract.name)}" for contract in contracts if not contract.layers]
    return "\n".join(lines) + "\n"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "job-life": job_life,
    "job-statuses": job_statuses,
    "escrow-life": escrow_life,
    "escrow-duties": escrow_duties,
    "imports": imports,
}


def renewed(text: str) -> str:
    """Return the page with every generated block as the code says it now.

    Raises:
        UnknownBlockError: a block is unknown or missing.
    """
    found = [match["name"] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(BLOCKS):
        raise UnknownBlockError(f"the page has the blocks {found}, there should be {list(BLOCKS)}")
    return BLOCK.sub(lambda match: match[1] + BLOCKS[match["name"]]() + match[3], text)


def main() -> int:
    """Rewrite the page, or check it; return the exit code: 1 if it is stale."""
    parser = argparse.ArgumentParser(prog="scripts/diagrams.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if stale")
    check: bool = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = renewed(before)
    if before == after:
        return 0
    if check:
        sys.stderr.write("ARCHITECTURE.md is stale: run .venv/bin/python scripts/diagrams.py\n")
        return 1
    PAGE.write_text(after, encoding="utf-8")
    return 0


def _yes(value: object) -> str:
    return "yes" if value else ""


def _sentence(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}."


def _rooms(layer: str) -> list[str]:
    """The modules of one layer. One in brackets is allowed for, but not built yet."""
    names = re.split(r"\s*[:|]\s*", layer)
    return [name for name in names if not name.startswith("(")]


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(main())
