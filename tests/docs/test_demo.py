"""`make demo` on real nodes, and the README's programs against the market that it leaves running."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from docs_pages import REPOSITORY, fences, snippet
from pydantic import BaseModel, JsonValue, TypeAdapter

from lightwork_regtest.polling import until
from lightwork_regtest.processes import ProcessId, read_pid_file

# The first run on a fresh machine builds lnd.
pytestmark = [pytest.mark.regtest, pytest.mark.timeout(2_400)]

BUYER = ". ~/.local/state/lightwork/demo/demo/buyer.sh"
PROVIDER = ". ~/.local/state/lightwork/demo/demo/provider.sh"
SECONDS = 120


class EventSummary(BaseModel):
    status: str


class BalancesSummary(BaseModel):
    moved: dict[str, int]


class JobSummary(BaseModel):
    task: str
    status: str
    balances_msat: BalancesSummary
    events: list[EventSummary]


class Summary(BaseModel):
    ok: bool
    jobs: list[JobSummary]

    def job(self, task: str) -> JobSummary:
        (job,) = (job for job in self.jobs if job.task == task)
        return job


class Info(BaseModel):
    network: str


class Content(BaseModel):
    name: str


class Listing(BaseModel):
    content: Content


class ListingPage(BaseModel):
    listings: list[Listing]


@dataclass(frozen=True)
class Demo:
    """A demo that has run once, in a state folder of its own."""

    state: Path
    summary: Summary

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return run_demo(self.state, *options)

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-eu", "-c", self.placed(script)],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def placed(self, script: str) -> str:
        """The README's lines with the paths of this demo."""
        return script.replace("~/.local/state/lightwork", shlex.quote(str(self.state)))

    def processes(self) -> dict[str, ProcessId]:
        """What the pid files of demo and network name, running or not."""
        files = [*self.state.glob("demo/demo/run/*.pid"), *self.state.glob("regtest/demo/run/*.pid")]
        named = {f"{file.parts[-4]} {file.stem}": read_pid_file(file) for file in files}
        return {name: process for name, process in named.items() if process is not None}


def run_demo(state: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "demo.py"), *options],
        env={**os.environ, "LIGHTWORK_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    state = tmp_path_factory.mktemp("demo-state")
    try:
        done = run_demo(state, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        yield Demo(state, Summary.model_validate_json(done.stdout))
    finally:
        run_demo(state, "--down")


def test_the_demo_pays_two_jobs_as_quoted_and_refunds_the_third(demo: Demo) -> None:
    summary = demo.summary
    assert {job.task: job.status for job in summary.jobs} == {
        "echo": "settled",
        "chain-tip": "settled",
        "stumble": "refunded",
    }
    assert summary.job("echo").balances_msat.moved == {"buyer": -12_100, "broker": 2_100, "provider": 10_000}
    assert summary.job("stumble").balances_msat.moved == {"buyer": 0, "broker": 0, "provider": 0}
    assert summary.ok


def test_the_demo_shows_a_job_in_every_status_that_it_goes_through(demo: Demo) -> None:
    statuses = [event.status for event in demo.summary.job("echo").events]
    assert list(dict.fromkeys(statuses)) == [
        "quoted",
        "open",
        "funded",
        "working",
        "delivered",
        "releasing",
        "settled",
    ]


def test_the_lines_for_playing_on_work_in_a_shell_of_their_own(demo: Demo) -> None:
    (lines,) = [fence.code for fence in fences("README.md") if BUYER in fence.code]
    done = demo.shell(lines)
    assert done.returncode == 0, done.stderr
    assert "echo" in done.stdout
    assert "hi" in done.stdout.splitlines()
    assert "settled" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_the_curl_lines_read_the_broker_and_its_listings(demo: Demo) -> None:
    done = demo.shell(f"{BUYER}\n" + snippet("shell").replace("\n", "\necho\n"))
    assert done.returncode == 0, done.stderr
    info, page = (line for line in done.stdout.splitlines() if line.strip())
    assert Info.model_validate_json(info).network == "regtest"
    found = ListingPage.model_validate_json(page).listings
    assert [listing.content.name for listing in found] == ["echo"]


@pytest.mark.parametrize("marker", ["program total_msat", "program hi"])
def test_the_programs_in_the_readme_print_what_they_are_for(demo: Demo, tmp_path: Path, marker: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(snippet(marker))
    done = demo.shell(f"{BUYER}\n{shlex.quote(sys.executable)} {shlex.quote(str(program))}")
    assert done.returncode == 0, done.stderr
    assert marker.removeprefix("program ") in done.stdout


def test_an_agent_of_ones_own_sells_beside_those_of_the_demo(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(snippet("agent count-words"))
    selling = f"{demo.placed(PROVIDER)}\ncd {shlex.quote(str(tmp_path))}\nexec lightwork run my.py"
    hire = f"{BUYER}\nlightwork hire count-words --text 'three small words' --max 20 --json"
    with subprocess.Popen(["sh", "-eu", "-c", selling]) as seller:
        try:
            search = f"{BUYER}\nlightwork search count-words --json"
            until(lambda: json.loads(demo.shell(search).stdout), what="the agent listed", seconds=60)
            done = demo.shell(hire)
        finally:
            seller.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    job = TypeAdapter(dict[str, JsonValue]).validate_json(done.stdout)
    assert job["result"] == {"words": 3}


def test_a_second_demo_works_and_replaces_what_the_first_left(demo: Demo) -> None:
    first = demo.processes()
    done = demo.run()
    assert done.returncode == 0, done.stdout + done.stderr
    second = demo.processes()
    assert second.keys() == first.keys()
    assert all(process.is_alive() for process in second.values())
    assert all((first[name] == second[name]) == name.startswith("regtest") for name in first)
    assert "Every sum holds." in done.stdout


def test_down_ends_every_process_and_removes_every_folder(demo: Demo) -> None:
    running = demo.processes()
    assert len(running) == 8
    assert demo.run("--down").returncode == 0
    assert [name for name, process in running.items() if process.is_alive()] == []
    assert not (demo.state / "demo" / "demo").exists()
    assert not (demo.state / "regtest" / "demo").exists()
    again = demo.run("--down")
    assert again.returncode == 0
    assert "No demo was running." in again.stdout


def test_a_machine_without_nodes_is_told_why_and_is_left_clean(tmp_path: Path) -> None:
    env = {**os.environ, "LIGHTWORK_STATE": str(tmp_path), "LIGHTWORK_NODE_RUNGS": "explicit"}
    for name in ("LIGHTWORK_BITCOIND", "LIGHTWORK_LND"):
        env.pop(name, None)
    script = str(REPOSITORY / "scripts" / "demo.py")
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "LIGHTWORK_BITCOIND is not set" in done.stderr
    assert "lightwork dev --simulated" in done.stderr
    assert not (tmp_path / "regtest" / "demo").exists()


def test_an_interrupt_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    env = {**os.environ, "LIGHTWORK_STATE": str(tmp_path)}
    script = [sys.executable, str(REPOSITORY / "scripts" / "demo.py")]
    broker = tmp_path / "demo" / "demo" / "run" / "broker.pid"
    with subprocess.Popen(script, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        try:
            until(
                lambda: broker.exists() or running.poll() is not None,
                what="the demo half-way",
                seconds=2_000,
            )
            processes = Demo(tmp_path, Summary(ok=False, jobs=[])).processes()
            running.send_signal(signal.SIGINT)
            running.communicate()
        finally:
            running.kill()
            run_demo(tmp_path, "--down")
    assert running.returncode == 130
    assert len(processes) == 5  # bitcoind, three LND nodes, the broker
    assert [name for name, process in processes.items() if process.is_alive()] == []
    assert not (tmp_path / "demo" / "demo").exists()
    assert not (tmp_path / "regtest" / "demo").exists()
