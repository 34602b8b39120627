"""Networks come up side by side, survive a crash of `up`, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from regtest_network import fresh_network

from lightwork_regtest import Network
from lightwork_regtest.errors import NetworkNotFoundError, UsageError
from lightwork_regtest.polling import until

pytestmark = pytest.mark.regtest
CLI = [sys.executable, "-c", "from lightwork_regtest.cli import main; main()"]


def processes_of(folder: Path) -> list[int]:
    """Return every process whose command line names the folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command:
                found.append(int(entry.name))
    return found


def up_killed_when(pid_file: str, folder: Path, env: dict[str, str]) -> None:
    with subprocess.Popen([*CLI, "up", "--name", folder.name], env=env, stderr=subprocess.DEVNULL) as child:
        try:
            until((folder / "run" / pid_file).exists, what=pid_file, seconds=60, every=0.005)
            assert child.poll() is None
        finally:
            child.send_signal(signal.SIGKILL)


def test_two_networks_run_side_by_side(network: Network, tmp_path: Path) -> None:
    height = network.bitcoind.height()
    with fresh_network(tmp_path, topology="chain") as other:
        assert other.mine(3) == 106
        assert other.bitcoind.rpc_url != network.bitcoind.rpc_url
        assert network.bitcoind.height() == height
        with pytest.raises(UsageError, match="chain"):
            Network.up(name=other.name, topology="market", env=other.env)
        folder = other.folder
        assert processes_of(folder)
    assert processes_of(folder) == []
    assert not folder.exists()
    assert network.bitcoind.height() == height


def test_an_up_killed_half_way_is_cleaned_up_by_down_and_finished_by_up(tmp_path: Path) -> None:
    env = {**os.environ, "LIGHTWORK_STATE": str(tmp_path)}
    folder = tmp_path / "regtest" / "crash"
    try:
        up_killed_when("bitcoind.pid", folder, env)
        up_killed_when("provider.pid", folder, env)
        assert len(processes_of(folder)) >= 2
        down = subprocess.run(
            [*CLI, "down", "--name", "crash", "--json"], env=env, capture_output=True, check=True
        )
        assert "bitcoind" in json.loads(down.stdout)["stopped"]
        assert processes_of(folder) == []

        started = time.monotonic()
        with Network.up(name="crash", env=env) as network:
            print(f"up took {time.monotonic() - started:.1f} s")
            assert time.monotonic() - started < 30
            assert set(network.started) == {"bitcoind", "broker", "buyer", "provider"}
            assert [len(network.node(name).channels()) for name in ("buyer", "broker", "provider")] == [
                1,
                2,
                1,
            ]
            network.open_channel("buyer", "broker", capacity_sat=1_000_000, count=3)
            assert len(network.node("broker").channels()) == 5
            network.bitcoind.kill()
        with Network.up(name="crash", env=env) as healed:
            assert "bitcoind" in healed.started
            assert len(healed.node("broker").channels()) == 5
    finally:
        subprocess.run(
            [*CLI, "down", "--name", "crash", "--delete"], env=env, stderr=subprocess.DEVNULL, check=True
        )
    assert processes_of(folder) == []
    assert not folder.exists()
    with pytest.raises(NetworkNotFoundError):
        Network.attach(name="crash", env=env)


def test_a_port_that_somebody_took_makes_up_choose_others(tmp_path: Path) -> None:
    with fresh_network(tmp_path, topology="chain") as network:
        taken = network.description.bitcoind.rpc_port
        network.down()
        thief = [
            sys.executable,
            "-c",
            f"import socket; s = socket.create_server(('127.0.0.1', {taken})); print('ok', flush=True); input()",
        ]
        with subprocess.Popen(thief, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "ok\n"
            with Network.up(name=network.name, env=network.env) as moved:
                assert moved.description.bitcoind.rpc_port != taken
                assert moved.bitcoind.height() == 103
            other.kill()


def test_up_mines_a_block_when_the_tip_is_old_so_that_lnd_counts_as_synced(tmp_path: Path) -> None:
    with fresh_network(tmp_path, topology="chain") as network:
        chain = network.bitcoind
        hours_ago = int(time.time()) - 4 * 3_600
        chain.rpc("invalidateblock", chain.rpc("getblockhash", 1))
        chain.rpc("setmocktime", hours_ago)
        chain.generate(103)
        chain.rpc("setmocktime", 0)
        assert chain.tip_time() < hours_ago + 3_600
        with Network.up(name=network.name, env=network.env) as fresh:
            assert fresh.started == ()
            assert fresh.bitcoind.height() == 104
            assert fresh.bitcoind.tip_time() > time.time() - 600
