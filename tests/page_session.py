"""A page's blocks as a reader would use them: files written, commands run in one folder, in the page's order.

What stands before a block says what it is:

    <!-- snippet: file NAME -->             written to NAME (`~` is the reader's home)
    <!-- snippet: run -->                   run in the page's shell; it must succeed
    <!-- snippet: run after Ctrl-C -->      the same, when all terminals were ended
    <!-- snippet: prints -->                what the block before printed: each line of this stands in it
    <!-- snippet: terminal until URL -->    run in a terminal of its own, until URL answers and to the end
    <!-- snippet: again until URL -->       the newest terminal is ended by Ctrl-C, and then runs this
    <!-- snippet: not run, REASON -->       not run

The ports 8402 and 8403 of a page are taken as two that are free, so that pages can be played side by side.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2
import jq_command
from docs_pages import REPOSITORY, fences

BIN = REPOSITORY / ".venv" / "bin"
OURS = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH", "VIRTUAL_ENV", "CI")
RUN_SECONDS = 170
READY_SECONDS = 60.0


def surroundings(folder: Path, *, port: int, **more: str) -> dict[str, str]:
    """What a reader's shell holds: a home of its own, our programs, and a broker's port that is free."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LIGHTWORK_", "XDG_")) and name not in OURS
    }
    return kept | {
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home" / ".config"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path("~/.cache").expanduser())),
        "TMPDIR": str(folder),
        "PATH": ":".join(
            map(str, (BIN, os.environ["PATH"], *filter(None, [jq_command.provide(folder / "programs")])))
        ),
        "LIGHTWORK_BROKER_PORT": str(port),
        "LIGHTWORK_BROKER": f"http://127.0.0.1:{port}",
        **more,
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class PageSession:
    """One reader of one page."""

    def __init__(
        self,
        page: str,
        *,
        folder: Path,
        where: Path | None = None,
        more: Mapping[str, str] | None = None,
        seconds: float = RUN_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self.page = page
        self.folder = folder
        self._where = where or folder
        self._seconds, self._ready_seconds = seconds, ready_seconds
        (folder / "home").mkdir()
        self.port, self._second_port = free_port(), free_port()
        self.env = surroundings(folder, port=self.port, **(more or {}))
        self._terminals: list[subprocess.Popen[bytes]] = []
        self.output = ""
        self._last = ""

    def play(self) -> None:
        """Do what the page says, from top to bottom."""
        try:
            for number, fence in enumerate(fences(self.page)):
                kind, _, rest = self._on_free_ports(fence.marker).partition(" ")
                code = self._on_free_ports(fence.code)
                match kind:
                    case "file":
                        file = self._file(rest)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_text(code)
                    case "run":
                        if rest == "after Ctrl-C":
                            self.close()
                        self._run(code)
                    case "prints":
                        self._compare(code)
                    case "terminal" | "again":
                        if kind == "again":
                            self._end_newest()
                        self._open(code, ready=rest.removeprefix("until ").strip(), number=number)
                    case _:
                        continue
        finally:
            self.close()

    def _on_free_ports(self, text: str) -> str:
        return re.sub(r"\b8403\b", str(self._second_port), re.sub(r"\b8402\b", str(self.port), text))

    def _file(self, name: str) -> Path:
        return self.folder / "home" / name[2:] if name.startswith("~/") else self._where / name

    def _compare(self, shown: str) -> None:
        printed = " ".join(self._last.split())
        missing = [
            line
            for line in shown.splitlines()
            if not all(" ".join(part.split()) in printed for part in line.split("..."))
        ]
        assert not missing, f"{self.page} shows {missing}, but what came was:\n{self._last}"

    def close(self) -> None:
        """End the terminals, last first, as a reader does with Ctrl-C; each must end by itself."""
        late: list[str] = []
        while self._terminals:
            late += self._interrupt(self._terminals.pop())
        assert not late, f"did not end by Ctrl-C: {late}"

    def _end_newest(self) -> None:
        late = self._interrupt(self._terminals.pop())
        assert not late, f"did not end by Ctrl-C: {late}"

    def _interrupt(self, process: subprocess.Popen[bytes]) -> list[str]:
        """Press Ctrl-C in a terminal; return what runs in it if it does not end."""
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return [str(process.args)]
        return []

    def _run(self, code: str) -> None:
        # What one block exports or where it goes to is still so in the next: a page is one shell.
        state = self.folder / "home" / ".shell"
        script = f"set -aeuo pipefail\n[ -f {state} ] && . {state}\n{code}\n{{ export -p; declare -f; }} > {state}\n"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._where,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=self._seconds,
            check=False,
        )
        self._last = done.stdout + done.stderr  # a reader's terminal shows both
        self.output += done.stdout
        assert done.returncode == 0, (
            f"{self.page}:\n{code}\n--- gave {done.returncode}\n"
            f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}{self._logs()}"
        )

    def _open(self, code: str, *, ready: str, number: int) -> None:
        log = self.folder / f"terminal-{number}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", self._in_new_terminal(code)],
                cwd=self._where,
                env=self.env,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_hear_ctrl_c,
            )
        self._terminals.append(process)
        deadline = time.monotonic() + self._ready_seconds
        with httpx2.Client(trust_env=False, timeout=5) as client:
            while not _answers(client, ready):
                assert process.poll() is None, f"{code} ended:\n{log.read_text()}"
                assert time.monotonic() < deadline, f"{ready} does not answer:\n{log.read_text()}"
                process_pause()

    def _in_new_terminal(self, code: str) -> str:
        """The last line is what runs until Ctrl-C; what stands before it, such as `. FILE`, prepares it."""
        *before, last = code.strip().splitlines()
        return "\n".join(["set -eu", *before, f"exec {last}"])

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("terminal-*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in logs)


def _hear_ctrl_c() -> None:
    """Hear Ctrl-C as in a terminal, though the tests may run in the background of a script, which does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def process_pause() -> None:
    """Let other processes run before the next look."""
    time.sleep(0.05)


def _answers(client: httpx2.Client, url: str) -> bool:
    """Tell whether a URL answers with something: an empty list of listings is not yet something."""
    try:
        answer = client.get(url)
    except httpx2.TransportError:
        return False
    return answer.status_code == 200 and answer.text != "" and '"listings":[]' not in answer.text
