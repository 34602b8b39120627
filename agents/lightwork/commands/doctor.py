"""`lightwork doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict

import typer

from lightwork.commands.screen import BrokerOption, JsonFlag, ProfileOption, say, show_json
from lightwork.diagnosis import Finding, Level, examine
from lightwork.exit_codes import ExitCode

MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


def doctor(*, broker: BrokerOption = None, profile: ProfileOption = None, as_json: JsonFlag = False) -> None:
    """Look at this machine, the profile, its wallet and the broker; exit code 1 if there is a problem.

    Nothing is changed and no money moves; the wallet is asked for one invoice of 1 sat that nobody pays.
    """

    async def look() -> list[Finding]:
        found: list[Finding] = []
        async for finding in examine(
            profile_name=profile, broker_url=broker, environ=os.environ, clock=time.time
        ):
            found.append(finding)
            if not as_json:
                _show(finding)
        return found

    found = asyncio.run(look())
    if as_json:
        show_json([asdict(finding) for finding in found])
    problems = sum(finding.level is Level.PROBLEM for finding in found)
    if not as_json:
        say(
            f"{problems} problems" if problems else "no problem found",
            style="bold red" if problems else "bold green",
        )
    raise typer.Exit(ExitCode.JOB_FAILED if problems else ExitCode.OK)


def _show(finding: Finding) -> None:
    mark, style = MARKS[finding.level]
    say(f"{mark} {finding.check}: {finding.found}", style=style if finding.level is not Level.OK else "")
    if finding.advice and finding.level is not Level.OK:
        say(f"    → {finding.advice}")
