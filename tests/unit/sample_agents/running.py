"""What the tests of the sample agents share: a run as a runner does it, and which processes are left."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from lightwork import Agent, JobContext
from lightwork_contracts.ids import JobId


async def run(agent: Agent, task: str, **value: JsonValue) -> dict[str, JsonValue]:
    """Run one task on JSON and return its result, a JSON object."""
    context = JobContext(job_id=JobId("job_" + "0" * 26), deadline=datetime(2030, 1, 1, tzinfo=UTC))
    result = await agent.tasks[task].run(value, context)
    assert isinstance(result, dict)
    return result


def children(named: str) -> list[int]:
    """Return the ids of this process's children with these words in their command line."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and named in command:
            found.append(int(stat.parent.name))
    return found


async def child_started(named: str) -> None:
    """Return when `children` finds one, at the latest after 30 seconds."""
    for _ in range(3_000):
        if children(named):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"no child process {named} was started")
