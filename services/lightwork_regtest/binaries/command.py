"""Running a tool that takes long: its lines as progress, its last words as the reason for a refusal."""

from __future__ import annotations

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightwork_regtest.binaries.ladder import RungRefusedError


def run_tool(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run the tool and return what it printed, both streams together.

    Raises:
        RungRefusedError: it is missing, fails, or takes longer than `timeout` seconds.
    """
    try:
        child = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise RungRefusedError(f"{argv[0]} does not run: {error}") from error
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(timeout, give_up)
    timer.start()
    lines: deque[str] = deque(maxlen=2_000)
    try:
        with child:
            if child.stdout is not None:
                for line in child.stdout:
                    lines.append(line.rstrip())
                    if on_line is not None:
                        on_line(line.rstrip())
    except BaseException:
        child.kill()
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise RungRefusedError(f"{Path(argv[0]).name} {argv[1]} took longer than {timeout:.0f} s")
    if child.returncode != 0:
        last = " | ".join([line for line in lines if line.strip()][-3:])
        raise RungRefusedError(f"{Path(argv[0]).name} failed with {child.returncode}: {last}")
    return "\n".join(lines)
