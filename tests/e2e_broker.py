"""The real broker as a child process: started, killed, started again on the same data."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
from e2e_lnd_nodes import LndNodes
from e2e_stage import Nodes
from e2e_waiting import until
from pydantic import JsonValue

from lightwork_regtest import Network

START_SECONDS = 30.0
REAL_COMMAND = (str(Path(sys.executable).with_name("lightwork")), "broker", "run")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class BrokerProcess:
    """One broker with its own data directory, port and log; `restart` keeps all three."""

    def __init__(
        self,
        nodes: Nodes | Network,
        *,
        folder: Path,
        settings: Mapping[str, str | int | float] | None = None,
        command: Sequence[str] = REAL_COMMAND,
    ) -> None:
        self.nodes: Nodes = LndNodes(nodes) if isinstance(nodes, Network) else nodes
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = folder / "data"
        self.log = folder / "broker.log"
        self._command = list(command)
        chosen: dict[str, str | int | float] = {
            **self.nodes.broker_settings(),
            "data_dir": str(self.data_dir),
            "port": self.port,
            "sweep_seconds": 0.5,
            **(settings or {}),
        }
        self.database = str(chosen.get("database", self.data_dir / "broker.sqlite"))
        own = {f"LIGHTWORK_BROKER_{name.upper()}": str(value) for name, value in chosen.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
        self.env = {**inherited, **own}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise AssertionError("the broker was never started")
        return self._process

    async def start(self) -> None:
        """Start the process and wait until it says that it is well."""
        self.spawn()
        await self.wait_well()

    def spawn(self) -> None:
        """Start the process, whatever becomes of it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self.env, stdout=log, stderr=log)

    async def wait_well(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:

            async def well() -> bool:
                assert self.process.poll() is None, f"the broker ended by itself:\n{self.log_text()[-4000:]}"
                try:
                    return (await client.get(f"{self.url}/v1/health")).status_code == 200
                except httpx2.TransportError:
                    return False

            await until(well, what="the broker is well", seconds=START_SECONDS)

    async def kill(self) -> None:
        """SIGKILL, as a crash of the machine would."""
        self.process.send_signal(signal.SIGKILL)
        await self.wait_gone()

    async def wait_gone(self) -> int:
        """Wait until the process has ended by itself or by a signal; return how."""
        process = self.process
        return await asyncio.to_thread(process.wait, START_SECONDS)

    async def restart(self) -> None:
        assert self.process.poll() is not None, "the broker still runs"
        await self.start()

    async def stop(self) -> None:
        """SIGTERM; a broker that does not end within its bound is killed, and that is a failure."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, 15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    async def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `lightwork broker ...` on this broker's data."""
        return await asyncio.to_thread(
            subprocess.run,
            [REAL_COMMAND[0], "broker", *arguments],
            env={**self.env, "LIGHTWORK_BROKER": self.url},
            capture_output=True,
            text=True,
            timeout=60,
        )

    async def audit(self) -> dict[str, JsonValue]:
        """Return what `lightwork broker audit --json` says; it must find no breach."""
        done = await self.command("audit", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)
