"""What the demo leaves behind: nothing, or a running market and the words to use it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from demonstration.children import stop_children
from demonstration.folder import DEFAULT_NAME, DemoFolder
from demonstration.play import Summary
from demonstration.screen import Screen
from lightwork_regtest.errors import NetworkNotFoundError
from lightwork_regtest.launch import take_down
from lightwork_regtest.progress import Progress

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def take_all_down(
    folder: DemoFolder, *, env: Mapping[str, str], progress: Progress, delete: bool = True
) -> tuple[str, ...]:
    """Stop agents, broker and nodes, each by the pid and start time in its pid file; return what ran.

    With `delete` their folders go, too; without it the logs stay for whoever wants to know what happened.
    """
    stopped = list(stop_children(folder))
    with suppress(NetworkNotFoundError):
        stopped += take_down(folder.name, delete=delete, env=env, progress=progress)
    if delete:
        folder.remove()
    return tuple(stopped)


@contextmanager
def interruptible() -> Generator[None]:
    """Let a hang-up or a SIGTERM end the demo like Ctrl-C does, so that it cleans up after itself."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    kept = {number: signal.signal(number, interrupt) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Generator[None]:
    """Do not let an impatient second Ctrl-C leave half of the cleaning undone."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def tell_how_to_play_on(folder: DemoFolder, summary: Summary, screen: Screen) -> None:
    """Say what runs now, how to use it from another shell, and how to end it."""
    option = "" if folder.name == DEFAULT_NAME else f" --name {folder.name}"
    screen.scene("It all goes on running: play on")
    screen.say(f"   API   {summary.broker}/docs")
    screen.say(f"         {summary.broker}/openapi.json")
    screen.say(f"   logs  {_short(str(folder.path / 'logs'))}")
    screen.say("   In a new shell, as a buyer with the buyer's node:")
    screen.commands(
        [
            (f". {_short(summary.shells['buyer'])}", "sets key, broker, wallet"),
            ("lightwork search", ""),
            ("lightwork hire echo --text hi --max 20", ""),
            ("lightwork jobs", ""),
        ]
    )
    screen.say("   In another, as a provider with the provider's node and a key of your own:")
    screen.commands(
        [(f". {_short(summary.shells['provider'])}", ""), ("lightwork run my.py", "six lines are enough")]
    )
    screen.say("   The nodes, and the end:")
    screen.commands(
        [
            (f"lightwork-regtest status --name {folder.name}", "balances and channels"),
            (f"lightwork-regtest mine 1 --name {folder.name}", ""),
            ("make clean" if not option else f"make demo ARGS='{option.strip()} --down'", "stops all of it"),
        ]
    )


def _short(path: str) -> str:
    home = os.path.expanduser("~")
    if home != "/" and path.startswith(home + os.sep):
        rest = path.removeprefix(home + os.sep)
        if shlex.quote(rest) == rest:
            return f"~/{rest}"
    return shlex.quote(path)
