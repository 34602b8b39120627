"""Telling people what a long step is doing: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from rich.console import Console

Detail = Callable[[str], None]


class Progress(Protocol):
    """What long steps report to."""

    def step(self, text: str) -> AbstractContextManager[Detail]:
        """Open a step; the value it yields replaces the step's detail."""
        ...

    def note(self, text: str) -> None:
        """Say one line that stays."""
        ...


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def step(self, text: str) -> Generator[Detail]:
        """Run the step without a word."""
        yield _ignore

    def note(self, text: str) -> None:
        """Drop the line."""


class PlainProgress:
    """One line when a step starts, one when it ends, and its detail every ten seconds."""

    def __init__(self, stream: TextIO, *, every: float = 10.0) -> None:
        """Write to `stream`, a detail at most once in `every` seconds."""
        self._stream = stream
        self._every = every

    @contextmanager
    def step(self, text: str) -> Generator[Detail]:
        """Print the step, its details now and then, and the time that it took."""
        started = said = time.monotonic()
        self.note(f"{text} ...")

        def detail(what: str) -> None:
            nonlocal said
            now = time.monotonic()
            if now - said >= self._every:
                said = now
                self.note(f"  {text}: {what}")

        yield detail
        took = time.monotonic() - started
        if took >= 1:
            self.note(f"{text}: done in {took:.1f} s")

    def note(self, text: str) -> None:
        """Print the line at once."""
        self._stream.write(text + "\n")
        self._stream.flush()


class RichProgress:
    """A spinner with the current detail, replaced by a tick when the step ends."""

    def __init__(self, console: Console) -> None:
        """Draw on `console`."""
        self._console = console

    @contextmanager
    def step(self, text: str) -> Generator[Detail]:
        """Spin until the step ends."""
        started = time.monotonic()
        with self._console.status(text) as status:

            def detail(what: str) -> None:
                status.update(f"{text} [dim]{what}[/dim]")

            yield detail
        self._console.print(f"[green]✓[/green] {text} [dim]{time.monotonic() - started:.1f} s[/dim]")

    def note(self, text: str) -> None:
        """Print the line above the spinner."""
        self._console.print(text, markup=False, highlight=False)


def progress_for(stream: TextIO) -> Progress:
    """Return the live form for a terminal and the plain form for everything else."""
    if stream.isatty():
        return RichProgress(Console(file=stream))
    return PlainProgress(stream)


def _ignore(what: str) -> None:
    del what
