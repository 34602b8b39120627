"""`lightwork dev` on real nodes: from nothing to a hire from another terminal, and to nothing again."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_waiting import until

from lightwork_regtest.launch import take_down
from lightwork_regtest.network import Network
from lightwork_regtest.progress import SilentProgress
from lightwork_regtest.status import network_status

COMMAND = str(Path(sys.executable).with_name("lightwork"))

pytestmark = pytest.mark.regtest


def _start(name: str, *, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([COMMAND, "dev", "--name", name, "--json"], env=env, stdout=out, stderr=out)


async def test_dev_starts_real_nodes_and_a_hire_is_paid_and_ctrl_c_stops_them(tmp_path: Path) -> None:
    name = f"devtest-{secrets.token_hex(3)}"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LIGHTWORK_BROKER")}
    env = kept | {"XDG_STATE_HOME": str(tmp_path)}
    log = tmp_path / "dev.log"
    process = _start(name, env=env, log=log)
    try:

        async def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return '"ready": true' in log.read_text()

        await until(ready, what="dev is ready", seconds=150)
        facts = next(json.loads(line) for line in log.read_text().splitlines() if '"ready": true' in line)
        assert [node["name"] for node in facts["nodes"]["nodes"]] == ["broker", "buyer", "provider"]
        hire = f". {facts['shells']['buyer']} && lightwork hire echo --text hi --max 20 && lightwork doctor"
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", hire], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "hi" in done.stdout.splitlines()
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0
        with await asyncio.to_thread(Network.attach, name=name, env=env) as network:
            status = await asyncio.to_thread(network_status, network.fleet)
        assert not status.bitcoind.running
        assert not any(node.running for node in status.nodes)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        await asyncio.to_thread(take_down, name, delete=True, env=env, progress=SilentProgress())
