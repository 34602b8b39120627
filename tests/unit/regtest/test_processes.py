"""Processes that outlive us are found by pid and start time, and nobody else is ever ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightwork_regtest.polling import until
from lightwork_regtest.processes import kill, read_pid_file, start_detached, start_mark, stop

ENV = {"PATH": "/usr/bin:/bin"}


def test_a_process_runs_on_after_the_one_that_started_it_has_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "node.pid"
    code = (
        "import os, sys; from pathlib import Path; from lightwork_regtest.processes import start_detached; "
        "start_detached(['sleep', '60'], pid_file=Path(sys.argv[1]), log=Path(sys.argv[1] + '.log'), "
        "env=os.environ)"
    )
    subprocess.run([sys.executable, "-c", code, str(pid_file)], check=True)
    process = read_pid_file(pid_file)
    assert process is not None
    try:
        assert process.is_alive()
        assert os.getsid(process.pid) != os.getsid(0)
    finally:
        assert stop(pid_file, patience=5)
    assert not process.is_alive()
    assert not pid_file.exists()


def test_a_recycled_pid_is_left_alone(tmp_path: Path) -> None:
    pid_file = tmp_path / "node.pid"
    bystander = start_detached(["sleep", "60"], pid_file=pid_file, log=tmp_path / "log", env=ENV)
    honest = pid_file.read_text()
    try:
        fields = honest.split(" ")
        # As if this pid had belonged to a node that started earlier.
        start = next(i for i, field in enumerate(fields) if field == bystander.started.rpartition(":")[2])
        fields[start] = str(int(fields[start]) - 1)
        pid_file.write_text(" ".join(fields))
        assert not stop(pid_file, patience=5)
        assert bystander.is_alive()
        assert not kill(pid_file)
        assert bystander.is_alive()
    finally:
        pid_file.write_text(honest)
        stop(pid_file, patience=5)
    assert not bystander.is_alive()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    pid_file, ready = tmp_path / "node.pid", tmp_path / "ready"
    stubborn = ["sh", "-c", f"trap '' TERM; : > {ready}; while :; do sleep 0.1; done"]
    process = start_detached(stubborn, pid_file=pid_file, log=tmp_path / "log", env=ENV)
    until(ready.exists, what="the trap", seconds=10, every=0.01)
    assert stop(pid_file, patience=0.3)
    assert not process.is_alive()


@pytest.mark.parametrize("content", ["", "12", "x\ny\nz", "1\n-\n"])
def test_a_torn_pid_file_names_no_process(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "node.pid"
    pid_file.write_text(content)
    assert read_pid_file(pid_file) is None
    assert not stop(pid_file, patience=1)


def test_a_zombie_does_not_count_as_running() -> None:
    with subprocess.Popen(["true"]) as child:
        until(lambda: start_mark(child.pid) is None, what="end of the child", seconds=10, every=0.01)


def test_what_a_process_prints_is_in_its_log(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "node.pid", tmp_path / "logs" / "node.log"
    start_detached(["sh", "-c", "echo out; echo err >&2"], pid_file=pid_file, log=log, env=ENV)
    until(lambda: log.read_text() == "out\nerr\n", what="the log", seconds=10, every=0.01)
