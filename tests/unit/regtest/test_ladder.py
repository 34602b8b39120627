"""The ladder: which rung serves, what is refused, and that nothing half-made is ever taken as good."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightwork_regtest.binaries import find_bitcoind, find_lnd
from lightwork_regtest.binaries.core_release import platform_key
from lightwork_regtest.binaries.debian import debian_mirror
from lightwork_regtest.binaries.ladder import RungRefusedError
from lightwork_regtest.errors import BinaryNotFoundError, UsageError
from lightwork_regtest.progress import SilentProgress

SILENT = SilentProgress()
TAGS = "signrpc,walletrpc,chainrpc,invoicesrpc,peersrpc,kvdb_sqlite"


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_bitcoind(path: Path, version: str) -> Path:
    return program(path, f'echo "Bitcoin Core daemon version v{version}"')


def fake_lnd(path: Path, version: str, tags: str = TAGS) -> Path:
    return program(path, f'echo "lnd version {version} commit="\n# build\t-tags={tags}')


def surroundings(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "LIGHTWORK_CACHE": str(tmp_path / "cache"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        **more,
    }


def refusals(error: BinaryNotFoundError) -> dict[str, str]:
    lines = [line.strip().partition(": ") for line in str(error).splitlines()[1:]]
    return {rung: why for rung, _, why in lines}


def test_an_explicit_path_wins_over_everything(tmp_path: Path) -> None:
    explicit = fake_bitcoind(tmp_path / "mine" / "bitcoind", "29.3.0")
    fake_bitcoind(tmp_path / "bin" / "bitcoind", "30.0.0")
    env = surroundings(tmp_path, LIGHTWORK_BITCOIND=str(explicit), PATH=str(tmp_path / "bin"))
    found = find_bitcoind(env=env, progress=SILENT)
    assert (found.rung, found.path, found.version, found.refused) == ("explicit", explicit, "29.3.0", ())


def test_a_bad_explicit_path_is_reported_and_the_next_rung_serves(tmp_path: Path) -> None:
    on_path = fake_bitcoind(tmp_path / "bin" / "bitcoind", "29.3.0")
    env = surroundings(tmp_path, LIGHTWORK_BITCOIND=str(tmp_path / "nothing"))
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    found = find_bitcoind(env=env, progress=SILENT)
    assert (found.rung, found.path) == ("path", on_path)
    assert "nothing is not a file" in found.report()


@pytest.mark.parametrize(
    ("version", "tags", "why"),
    [
        ("0.19.3-beta", TAGS, "0.20 or newer is needed"),
        ("0.21.3-beta", "signrpc,walletrpc,chainrpc,kvdb_sqlite", "built without invoicesrpc"),
    ],
)
def test_an_lnd_too_old_or_without_hold_invoices_is_refused(
    tmp_path: Path, version: str, tags: str, why: str
) -> None:
    fake_lnd(tmp_path / "bin" / "lnd", version, tags)
    env = surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="path")
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    with pytest.raises(BinaryNotFoundError) as caught:
        find_lnd(env=env, progress=SILENT)
    assert why in refusals(caught.value)["path"]


def test_a_bitcoind_too_old_and_a_program_that_is_not_one_are_refused(tmp_path: Path) -> None:
    old = fake_bitcoind(tmp_path / "old", "26.2.0")
    other = program(tmp_path / "bin" / "bitcoind", "echo hello")
    env = surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="explicit, path", LIGHTWORK_BITCOIND=str(old))
    env["PATH"] = f"{other.parent}:{env['PATH']}"
    with pytest.raises(BinaryNotFoundError) as caught:
        find_bitcoind(env=env, progress=SILENT)
    assert "26.2.0, 27 or newer" in refusals(caught.value)["explicit"]
    assert "is not bitcoind: hello" in refusals(caught.value)["path"]


def test_only_the_allowed_rungs_are_tried(tmp_path: Path) -> None:
    fake_bitcoind(tmp_path / "bin" / "bitcoind", "29.3.0")
    env = surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="explicit,cache", PATH=str(tmp_path / "bin"))
    with pytest.raises(BinaryNotFoundError) as caught:
        find_bitcoind(env=env, progress=SILENT)
    assert set(refusals(caught.value)) == {"explicit", "cache"}


def test_an_unknown_rung_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="docker"):
        find_lnd(env=surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="cache,docker"), progress=SILENT)


@contextmanager
def mirror(content: bytes) -> Generator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            del code, size

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_with_another_hash_is_refused_and_thrown_away(tmp_path: Path) -> None:
    with mirror(b"not the archive") as address:
        env = surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="cache,release", LIGHTWORK_BITCOIN_RELEASES=address)
        with pytest.raises(BinaryNotFoundError) as caught:
            find_bitcoind(env=env, progress=SILENT)
    assert "pinned is" in refusals(caught.value)["release"]
    assert not list((tmp_path / "cache" / "nodes").iterdir())


def test_a_mirror_that_refuses_connections_is_passed_over_at_once(tmp_path: Path) -> None:
    with mirror(b"") as address:
        pass
    env = surroundings(tmp_path, LIGHTWORK_NODE_RUNGS="release", LIGHTWORK_BITCOIN_RELEASES=address)
    started = time.monotonic()
    with pytest.raises(BinaryNotFoundError, match="cannot be fetched"):
        find_bitcoind(env=env, progress=SILENT)
    assert time.monotonic() - started < 3


def test_an_unknown_platform_has_no_pinned_archive() -> None:
    assert platform_key("Darwin", "arm64") == "arm64-apple-darwin"
    assert platform_key("Linux", "aarch64") == "aarch64-linux-gnu"
    with pytest.raises(RungRefusedError):
        platform_key("FreeBSD", "amd64")
    with pytest.raises(RungRefusedError):
        platform_key("Linux", "riscv64")


def test_the_mirror_is_the_machines_own_debian_archive_and_no_other() -> None:
    found = debian_mirror(
        "http://security.example/debian-security/ main\nhttps://tools.example/apt/ main\n"
        "http://mirror.example/debian/ contrib\nhttp://mirror.example/debian/ main\n"
    )
    assert found == "http://mirror.example/debian"
    with pytest.raises(RungRefusedError):
        debian_mirror("http://archive.example/ubuntu/ main\n")


FAKE_GO = """
case "$1" in
  version) echo "go version go1.26.0 linux/amd64" ;;
  mod) grep -q "lightwork/lnd-build" go.mod ;;
  build)
    echo build >> "$COUNTER"
    while [ $# -gt 0 ]; do [ "$1" = -o ] && out=$2; shift; done
    cp "$FAKE_LND" "$out/lnd"
    eval "$DURING_BUILD"
    cp "$FAKE_LND" "$out/lncli" ;;
esac
"""
FIND = (
    "import os; from lightwork_regtest.binaries import find_lnd; "
    "from lightwork_regtest.progress import SilentProgress; "
    "print(find_lnd(env=os.environ, progress=SilentProgress()).report())"
)


def with_fake_go(tmp_path: Path, during_build: str) -> dict[str, str]:
    program(tmp_path / "go" / "go", FAKE_GO)
    lnd = fake_lnd(tmp_path / "fake-lnd", "0.21.3-beta")
    env = surroundings(
        tmp_path, FAKE_LND=str(lnd), COUNTER=str(tmp_path / "builds"), DURING_BUILD=during_build
    )
    return {**env, "PATH": f"{tmp_path / 'go'}:{env['PATH']}", "LIGHTWORK_NODE_RUNGS": "cache,go"}


def find_in_a_process(env: dict[str, str]) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", FIND]
    # A group of its own, so that a test can end it together with the fake build.
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_two_processes_at_once_build_lnd_once(tmp_path: Path) -> None:
    env = with_fake_go(tmp_path, during_build="sleep 0.5")
    both = [find_in_a_process(env), find_in_a_process(env)]
    reports = [child.communicate(timeout=60)[0] for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert (tmp_path / "builds").read_text() == "build\n"
    assert sorted(report.split(", ")[0] for report in reports) == [
        "lnd 0.21.3-beta: cache (from go)",
        "lnd 0.21.3-beta: go",
    ]


def test_a_build_that_fails_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    env = with_fake_go(tmp_path, during_build="echo no space left; exit 1")
    with pytest.raises(BinaryNotFoundError) as caught:
        find_lnd(env=env, progress=SILENT)
    assert "no space left" in refusals(caught.value)["go"]
    assert not list((tmp_path / "cache" / "nodes").iterdir())


def test_a_build_that_was_killed_is_not_taken_as_good_and_is_swept_up(tmp_path: Path) -> None:
    env = with_fake_go(tmp_path, during_build="sleep 60")
    first = find_in_a_process(env)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").glob("nodes/.lnd-*/bin/lnd")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    found = find_lnd(env={**env, "DURING_BUILD": "true"}, progress=SILENT)
    assert found.rung == "go"
    assert (tmp_path / "builds").read_text() == "build\nbuild\n"
    assert [path.name[:4] for path in (tmp_path / "cache" / "nodes").iterdir()] == ["lnd-"]
    assert find_lnd(env=env, progress=SILENT).rung == "cache"


def test_a_cached_program_that_no_longer_runs_is_made_anew(tmp_path: Path) -> None:
    env = with_fake_go(tmp_path, during_build="true")
    first = find_lnd(env=env, progress=SILENT)
    first.path.write_text("broken")
    assert find_lnd(env=env, progress=SILENT).rung == "go"
    assert find_lnd(env=env, progress=SILENT).rung == "cache"
