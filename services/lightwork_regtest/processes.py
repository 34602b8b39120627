"""Processes that outlive us: started apart from us, known by pid and start time, ended by pid only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightwork_regtest.errors import NodeFailedError
from lightwork_regtest.polling import until

# The inner shell writes who it is before it becomes the node: there is no moment at which a node runs
# without its pid file. The rename makes the file appear whole.
_BECOME = (
    'pidfile=$1; shift; { echo "$$"; cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo -; '
    'cat "/proc/$$/stat" 2>/dev/null || ps -o lstart= -p "$$"; } '
    '>"$pidfile.new" && mv "$pidfile.new" "$pidfile" && exec "$@"'
)
_DETACH = 'log=$1; shift; "$@" </dev/null >>"$log" 2>&1 &'


@dataclass(frozen=True)
class ProcessId:
    """A pid together with the start time that tells it from a later process of the same number."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Tell whether this very process runs; a zombie does not."""
        return start_mark(self.pid) == self.started


def start_mark(pid: int) -> str | None:
    """Return what the system says about when this pid started; None when no such process runs."""
    if sys.platform == "linux":
        try:
            return _mark_in_stat(Path(f"/proc/{pid}/stat").read_text(), _boot())
        except OSError:
            return None
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def start_detached(argv: Sequence[str], *, pid_file: Path, log: Path, env: Mapping[str, str]) -> ProcessId:
    """Start the program in a session of its own, so that it goes on when we end; its output goes to `log`.

    The log of the run before is kept beside it as `.1`.

    Raises:
        NodeFailedError: it could not be started.
    """
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    if log.exists():
        # What an earlier run said last is worth keeping: it may have crashed.
        log.replace(log.with_name(f"{log.name}.1"))
    subprocess.run(
        ["/bin/sh", "-c", _DETACH, "sh", str(log), "/bin/sh", "-c", _BECOME, "sh", str(pid_file), *argv],
        env=dict(env),
        start_new_session=True,
        check=True,
    )
    return until(lambda: read_pid_file(pid_file), what=f"start of {argv[0]}", seconds=10, every=0.005)


def read_pid_file(pid_file: Path) -> ProcessId | None:
    """Return the process that the file names; None when there is no file or it makes no sense."""
    try:
        pid, boot, rest = pid_file.read_text().split("\n", 2)
        started = _mark_in_stat(rest, boot) if sys.platform == "linux" else rest.strip()
        return ProcessId(pid=int(pid), started=started) if started else None
    except (OSError, ValueError):
        return None


def stop(pid_file: Path, *, patience: float) -> bool:
    """End the process with SIGTERM, after `patience` seconds with SIGKILL, and drop its pid file.

    Returns whether it was running. A recycled pid is left alone.

    Raises:
        NodeFailedError: it survives SIGKILL.
    """
    process = read_pid_file(pid_file)
    if process is None or not process.is_alive():
        pid_file.unlink(missing_ok=True)
        return False
    _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.is_alive():
        kill(pid_file)
    pid_file.unlink(missing_ok=True)
    return True


def kill(pid_file: Path) -> bool:
    """End the process with SIGKILL and wait until it is gone; the pid file stays as after a crash.

    Raises:
        NodeFailedError: it survives.
    """
    process = read_pid_file(pid_file)
    if process is None or not process.is_alive():
        return False
    _signal(process, signal.SIGKILL)
    until(lambda: not process.is_alive(), what=f"end of process {process.pid}", seconds=10, every=0.01)
    return True


def _signal(process: ProcessId, number: signal.Signals) -> None:
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise NodeFailedError(f"process {process.pid} belongs to somebody else") from error


def _mark_in_stat(text: str, boot: str) -> str | None:
    """Return boot id and start tick, from the text of a /proc stat file; None for a zombie."""
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return f"{boot}:{fields[19]}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
