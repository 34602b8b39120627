"""`make demo`: from nothing to jobs sold and paid for on real bitcoind and LND, with proof from the nodes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from demonstration.children import DemoFailed
from demonstration.ending import interruptible, take_all_down, tell_how_to_play_on, undisturbed
from demonstration.folder import DEFAULT_NAME, DemoFolder
from demonstration.play import Summary, play
from demonstration.screen import Screen
from rich.console import Console

from lightwork import LightworkError
from lightwork_regtest.errors import BinaryNotFoundError, RegtestError
from lightwork_regtest.lock import file_lock
from lightwork_regtest.progress import Progress, progress_for

EXITS = (
    "Exit codes: 0 done and every sum holds, 1 something failed or a sum does not hold, 2 wrong usage, "
    "3 no bitcoind or lnd to be had, 5 a node failed, 130 interrupted. Anything but 0 leaves nothing running."
)
FAILED, INTERRUPTED = 1, 130


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    name: str
    keep: bool
    as_json: bool
    down: bool


def main() -> int:
    """Run the demo, or take it down; return the exit code."""
    options = _options()
    out = Screen(Console(highlight=False, quiet=options.as_json))
    progress = progress_for(sys.stderr if options.as_json else sys.stdout)
    env = dict(os.environ)
    try:
        folder = DemoFolder.of(options.name, env)
        with (
            interruptible(),
            file_lock(folder.lock, lambda: progress.note("Another demo of this name is at work: waiting")),
        ):
            if options.down:
                return _down(folder, options, env=env, progress=progress)
            return _run(folder, options, env=env, screen=out, progress=progress)
    except RegtestError as error:
        return _tell(error.code, str(error), exit_code=error.exit_code, as_json=options.as_json)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(
    folder: DemoFolder, options: Options, *, env: Mapping[str, str], screen: Screen, progress: Progress
) -> int:
    started = time.monotonic()
    try:
        summary = play(folder, env=env, screen=screen, progress=progress)
    except KeyboardInterrupt:
        progress.note("interrupted: stopping everything")
        _clean(folder, env=env, progress=progress, delete=True)
        return INTERRUPTED
    except BinaryNotFoundError as error:
        _clean(folder, env=env, progress=progress, delete=True)
        text = (
            f"No real node can be had on this machine.\n{error}\n"
            "Put bitcoind and lnd on PATH, or see which way is open: lightwork-regtest doctor\n"
            "Without nodes there is a market of play money: lightwork dev --simulated"
        )
        return _tell(error.code, text, exit_code=error.exit_code, as_json=options.as_json)
    except (RegtestError, LightworkError, DemoFailed) as error:
        _clean(folder, env=env, progress=progress, delete=False)
        code = FAILED if not isinstance(error, RegtestError) else error.exit_code
        text = f"The demo failed: {error}\nEverything is stopped; the logs are in {folder.path / 'logs'}"
        return _tell("demo_failed", text, exit_code=code, as_json=options.as_json)
    except BaseException:
        _clean(folder, env=env, progress=progress, delete=False)
        raise
    summary.seconds["total"] = round(time.monotonic() - started, 2)
    return _end(folder, options, summary, env=env, screen=screen, progress=progress)


def _end(
    folder: DemoFolder,
    options: Options,
    summary: Summary,
    *,
    env: Mapping[str, str],
    screen: Screen,
    progress: Progress,
) -> int:
    if options.keep:
        tell_how_to_play_on(folder, summary, screen)
    else:
        _clean(folder, env=env, progress=progress, delete=True)
        screen.say("\n   Everything is stopped and removed.")
    times = ", ".join(
        f"{part.replace('_', ' ')} {seconds:.1f} s" for part, seconds in summary.seconds.items()
    )
    screen.say("\nEvery sum holds.", style="bold green")
    screen.say(f"Time: {times}.", style="dim")
    if options.as_json:
        _show_json(summary.as_json(left_running=options.keep))
    return 0


def _down(folder: DemoFolder, options: Options, *, env: Mapping[str, str], progress: Progress) -> int:
    with undisturbed():
        stopped = take_all_down(folder, env=env, progress=progress)
    if options.as_json:
        _show_json({"name": folder.name, "stopped": stopped})
    else:
        progress.note(f"Stopped {', '.join(stopped)}." if stopped else "No demo was running.")
    return 0


def _clean(folder: DemoFolder, *, env: Mapping[str, str], progress: Progress, delete: bool) -> None:
    with undisturbed():
        take_all_down(folder, env=env, progress=progress, delete=delete)


def _tell(code: str, text: str, *, exit_code: int, as_json: bool) -> int:
    if as_json:
        _show_json({"ok": False, "error": {"code": code, "message": text}})
    sys.stderr.write(text + "\n")
    return exit_code


def _show_json(value: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="scripts/demo.py", description=__doc__, epilog=EXITS)
    parser.add_argument("--name", default=DEFAULT_NAME, help="of the demo and of its network (%(default)s)")
    parser.add_argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave nodes, broker and agents running at the end",
    )
    parser.add_argument(
        "--json", action="store_true", dest="as_json", help="a summary for programs on stdout"
    )
    parser.add_argument("--down", action="store_true", help="stop and remove this demo, and do nothing else")
    given = parser.parse_args()
    return Options(name=given.name, keep=given.keep, as_json=given.as_json, down=given.down)


if __name__ == "__main__":
    sys.exit(main())
