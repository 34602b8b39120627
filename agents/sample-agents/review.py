"""Reviews a Python file with ruff. The file is read, never run.

Ruff runs as a child process with limits on time and memory, in an empty folder, without any
configuration but what stands here.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruff import find_ruff_bin

from lightwork import Agent, TaskFailed, TaskRefused, sats

LONGEST_SOURCE = 100_000
MOST_FINDINGS = 200
MOST_RULES = 20
LONGEST_LINE = 2**20
"""Bytes of one finding as ruff writes it; its proposed edits are in it."""
CPU_SECONDS = 10
WALL_SECONDS = 30
MEMORY_BYTES = 2**30
CHILDREN = 2
"""How many run at the same time; further jobs wait for their turn."""

DEFAULT_RULES = ("E4", "E7", "E9", "F", "W6", "B", "C4", "PERF", "PIE", "RET", "RUF", "S", "SIM", "UP")

Source = Annotated[str, Field(min_length=1, max_length=LONGEST_SOURCE, description="a whole Python file")]
Rule = Annotated[
    str, Field(pattern=r"^([A-Z]{1,6}[0-9]{0,4}|ALL)$", description="a code of ruff's, or how codes begin")
]
Rules = Annotated[tuple[Rule, ...], Field(min_length=1, max_length=MOST_RULES)]
PythonVersion = Literal["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]

agent = Agent("review", description="Reviews Python without running it.")


class Finding(BaseModel):
    """Something that a rule objects to. Lines and columns count from 1; the end is exclusive."""

    rule: str = Field(description="ruff's code for it, or invalid-syntax")
    line: int
    column: int
    end_line: int
    end_column: int
    message: Annotated[str, Field(max_length=1_000)]
    fixable: bool = Field(description="true if `ruff check --fix` mends it and keeps what the code does")


class Review(BaseModel):
    """What ruff says of a file, in the order of its lines."""

    ruff: str = Field(description="ruff's version")
    valid_syntax: bool
    findings_count: int = Field(description="of all findings, listed or not")
    findings: list[Finding] = Field(max_length=MOST_FINDINGS)


@agent.task(price=sats(20), work_seconds=120, tags=("python", "code", "review"))
async def review(source: Source, rules: Rules = DEFAULT_RULES, python: PythonVersion = "3.11") -> Review:
    """Review a Python file with ruff: likely bugs, security smells, dead code, old idioms, as data.

    `noqa` comments count, and the first 200 findings are listed.
    """
    if "\0" in source:
        raise TaskRefused("that is no text: it has a null character in it")
    target = f"py{python.replace('.', '')}"
    async with _turns:
        try:
            async with asyncio.timeout(WALL_SECONDS):
                said = await _ask_ruff(source.encode(), ",".join(rules), target)
        except TimeoutError:
            raise TaskFailed("ruff takes too long over this file") from None
    if said.exit_code in _STOPPED:
        raise TaskFailed("ruff takes too long over this file")
    if said.exit_code == _USAGE:
        raise TaskRefused("ruff does not know one of the rules")
    if said.exit_code != 0:
        raise TaskRefused("ruff cannot read this file; is it nested thousands deep?")
    return Review(
        ruff=_VERSION,
        valid_syntax=said.valid_syntax,
        findings_count=said.count,
        findings=[_finding(line) for line in said.first],
    )


# --- ruff: only the fields that are used, as it names them ---


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Place(_Answer):
    row: int
    column: int


class _Fix(_Answer):
    applicability: str


class _Diagnostic(_Answer):
    code: str | None
    message: str
    location: _Place
    end_location: _Place
    fix: _Fix | None


def _finding(line: bytes) -> Finding:
    try:
        found = _Diagnostic.model_validate_json(line)
    except ValidationError:
        raise TaskFailed("ruff answered with something unexpected") from None
    return Finding(
        rule=found.code or _SYNTAX,
        line=found.location.row,
        column=found.location.column,
        end_line=found.end_location.row,
        end_column=found.end_location.column,
        message=found.message[:1_000],
        fixable=found.fix is not None and found.fix.applicability == "safe",
    )


@dataclass
class _Said:
    """What ruff wrote: the first findings as they came, and what is to be known of all."""

    first: list[bytes] = field(default_factory=list[bytes])
    count: int = 0
    valid_syntax: bool = True
    exit_code: int = 0

    def hear(self, line: bytes) -> None:
        self.count += 1
        self.valid_syntax = self.valid_syntax and _SYNTAX_CODE not in line
        if self.count <= MOST_FINDINGS:
            self.first.append(line)


async def _ask_ruff(source: bytes, rules: str, target: str) -> _Said:
    """Run ruff over a source. It is gone when this returns, however it does."""
    with tempfile.TemporaryDirectory(prefix="review-") as empty:
        ruff = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _LIMITED, _RUFF, "check", "--isolated", "--no-cache", "--no-fix", "--quiet"),
            *("--exit-zero", "--output-format=json-lines", f"--select={rules}"),
            *(f"--target-version={target}", "--stdin-filename=source.py", "-"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"RAYON_NUM_THREADS": "1"},
            cwd=empty,
            limit=LONGEST_LINE,
        )
        if ruff.stdin is None or ruff.stdout is None:
            raise RuntimeError("pipes were asked for, and none came")
        said = _Said()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                ruff.stdin.write(source)
                await ruff.stdin.drain()
            ruff.stdin.close()
            while line := await ruff.stdout.readline():
                said.hear(line)
            said.exit_code = await ruff.wait()
        except ValueError:
            raise TaskFailed("ruff answered with something unexpected") from None
        finally:
            with suppress(ProcessLookupError):
                ruff.kill()
            while await ruff.stdout.read(65_536):
                pass
            await ruff.wait()
    return said


_RUFF = find_ruff_bin()
_VERSION = version("ruff")
_SYNTAX = "invalid-syntax"
_SYNTAX_CODE = b'"code":"invalid-syntax"'
"""As it stands in the JSON. No message can hold it: there a quote has a backslash before it."""
_USAGE = 2
_STOPPED = (-signal.SIGXCPU, -signal.SIGKILL)
"""How it ends when its CPU time is used up."""
_turns = asyncio.Semaphore(CHILDREN)

_LIMITS = (
    (resource.RLIMIT_CPU, CPU_SECONDS),
    (resource.RLIMIT_AS, MEMORY_BYTES),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
)
_LIMITED = f"""
import os, resource, sys
for limit, value in {_LIMITS!r}:
    resource.setrlimit(limit, (value, value))
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A process cannot be given limits between fork and exec while threads run, so it takes them itself."""
