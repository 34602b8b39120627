"""Run every test, in two lanes beside each other: without nodes of their own, and on real bitcoind and LND.

Tests wait for other processes more than they compute, so two lanes end sooner than one after the other. What the
second one prints is shown whole when the first has ended. Any argument is for pytest, which then runs in one lane.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

REPOSITORY: Final = Path(__file__).resolve().parent.parent
PYTEST: Final = (str(Path(sys.executable).with_name("pytest")), "-p", "part_times")
ON_NODES: Final = frozenset({"tests/docs", "tests/contract", "tests/regtest", "tests/e2e"})


def lanes() -> tuple[list[str], list[str]]:
    """Return the folders of each lane, in the order of pytest's own settings."""
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    folders = cast("list[str]", described["tool"]["pytest"]["ini_options"]["testpaths"])
    return [one for one in folders if one not in ON_NODES], [one for one in folders if one in ON_NODES]


def command(folders: Sequence[str]) -> list[str]:
    """Return a run of these folders that counts as whole, as one of all folders would."""
    return [*PYTEST, "--override-ini", f"testpaths={' '.join(folders)}"]


def run(shown: Sequence[str], *behind: Sequence[str]) -> int:
    """Run all commands at once; return how the first that failed has ended, or 0."""
    runs: list[subprocess.Popen[bytes]] = []
    # Ctrl-C reaches every lane by itself. Either way each first takes down what it has started.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: interrupt(runs))
    with tempfile.TemporaryFile() as printed:
        runs.append(subprocess.Popen(shown, cwd=REPOSITORY))
        runs.extend(
            subprocess.Popen(one, cwd=REPOSITORY, stdout=printed, stderr=subprocess.STDOUT) for one in behind
        )
        ended = [one.wait() for one in runs]
        printed.seek(0)
        shutil.copyfileobj(printed, sys.stdout.buffer)
        sys.stdout.flush()
    return next((code for code in ended if code), 0)


def interrupt(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    for one in runs:
        one.send_signal(signal.SIGINT)


def main(arguments: Sequence[str]) -> int:
    """Return pytest's exit code, of the first lane that failed if there are two."""
    os.environ["PYTHONPATH"] = "tests"
    if arguments:
        return run([*PYTEST, *arguments])
    sys.stdout.write("== tests: in two lanes; those on real nodes are shown when the others have ended\n")
    sys.stdout.flush()
    without, on_nodes = lanes()
    return run(command(without), command(on_nodes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
