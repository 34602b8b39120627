"""Judging a program before it is trusted: does it run, is it new enough, has it the parts we need."""

from __future__ import annotations

import mmap
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lightwork_regtest.binaries.ladder import RungRefusedError


@dataclass(frozen=True)
class Requirement:
    """What a program must say of itself to be used."""

    name: str
    pattern: re.Pattern[str]
    minimum: tuple[int, ...]
    tags: tuple[str, ...] = ()
    ask: str = "--version"


BITCOIND = Requirement(
    name="bitcoind",
    pattern=re.compile(r"Bitcoin .*version v?(\d+(?:\.\d+)+\S*)"),
    minimum=(27,),
)
LND = Requirement(
    name="lnd",
    pattern=re.compile(r"lnd version (\d+(?:\.\d+)+\S*)"),
    minimum=(0, 20),
    tags=("invoicesrpc", "chainrpc", "signrpc", "walletrpc", "kvdb_sqlite"),
)
GO = Requirement(
    name="go",
    pattern=re.compile(r"go version go(\d+(?:\.\d+)+)"),
    minimum=(1, 25, 13),
    ask="version",
)


def inspect(path: Path, requirement: Requirement) -> str:
    """Return the program's version.

    Raises:
        RungRefusedError: it is missing, does not run, is too old, or was built without a needed tag.
    """
    if not path.is_file():
        raise RungRefusedError(f"{path} is not a file")
    try:
        answer = subprocess.run(
            [str(path), requirement.ask],
            env={**os.environ, "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RungRefusedError(f"{path} does not run: {error}") from error
    match = requirement.pattern.search(answer.stdout)
    if answer.returncode != 0 or match is None:
        words = (answer.stdout + answer.stderr).strip().splitlines()
        raise RungRefusedError(f"{path} is not {requirement.name}: {words[0] if words else 'no answer'}")
    version = match.group(1)
    if numbers(version) < requirement.minimum:
        least = ".".join(map(str, requirement.minimum))
        raise RungRefusedError(f"{path} is version {version}, {least} or newer is needed")
    if missing := sorted(set(requirement.tags) - build_tags(path)):
        raise RungRefusedError(f"{path} was built without {', '.join(missing)}")
    return version


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: `0.21.3-beta` gives (0, 21, 3)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def build_tags(path: Path) -> frozenset[str]:
    """Return the build tags that Go wrote into the program; empty when it carries none."""
    if path.stat().st_size == 0:
        return frozenset()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        match = re.search(rb"build\t-tags=([a-z0-9_,]+)", content)
        return frozenset(match.group(1).decode().split(",")) if match else frozenset()
