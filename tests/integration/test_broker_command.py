"""`lightwork broker ...` with settings that cannot be right: one line that says so, and nothing is made."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("lightwork"))


def broker(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LIGHTWORK_", "XDG_"))}
    return subprocess.run(
        [COMMAND, "broker", *words],
        env=kept | {"HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", [("run", "--network", "simulated"), ("network",)])
def test_a_port_that_is_taken_is_said_in_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = broker(tmp_path, *words, "--port", str(port))
    assert done.returncode == 2, done.stderr
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_books_that_are_not_there_are_not_sound(tmp_path: Path) -> None:
    done = broker(tmp_path, "audit", "--data-dir", "mistyped")
    assert done.returncode == 2, done.stdout
    assert "there are no books" in done.stderr
    assert not (tmp_path / "mistyped").exists()


def test_a_ruling_without_the_brokers_key_makes_none(tmp_path: Path) -> None:
    words = ("rule", "job_1", "--release", "--reason", "it is fine", "--data-dir", "mistyped")
    done = broker(tmp_path, *words)
    assert done.returncode == 2, done.stdout
    assert "there is no broker's key" in done.stderr
    assert not (tmp_path / "mistyped").exists()


def test_a_broker_that_cannot_start_ends_with_the_exit_code_that_is_promised(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    key = tmp_path / "data" / "broker.key"
    key.write_text("07" * 32)
    key.chmod(0o644)  # others may read it, so it is not used
    done = broker(tmp_path, "run", "--network", "simulated", "--port", "0", "--data-dir", "data")
    assert done.returncode == 5, done.stderr
