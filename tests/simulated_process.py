"""The simulated network as a child process, as `lightwork broker network` starts it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx2
from e2e_waiting import until
from pydantic import JsonValue

from lightwork_contracts.wire.simulated import SIMULATED_PATH, NodeAction, SimulatedNetworkView

COMMAND = str(Path(sys.executable).with_name("lightwork"))
START_SECONDS = 30.0


class SimulatedProcess:
    """One network with a port and a log of its own. Amounts are msat."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "network.log"
        self.url = ""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx2.AsyncClient | None = None

    async def start(self) -> None:
        """Start it on a port that the system chooses, and wait until it answers."""
        self._process = self._spawn()

        async def told() -> str | None:
            assert self._process is not None
            assert self._process.poll() is None, f"the network ended by itself:\n{self.log.read_text()}"
            words = self.log.read_text().split()
            return next((word for word in words if word.startswith("http://")), None)

        self.url = await until(told, what="the network says where it is", seconds=START_SECONDS)
        self._http = httpx2.AsyncClient(base_url=f"{self.url}{SIMULATED_PATH}", trust_env=False, timeout=30)
        await self.view()

    def _spawn(self) -> subprocess.Popen[bytes]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
        self._folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [COMMAND, "broker", "network", "--port", "0"], env=env, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        """SIGTERM; it must end by itself, and with every msat in its place."""
        if self._process is None:
            return
        try:
            if self._http is not None:
                assert (await self.view()).adds_up, "a channel made or lost money"
                await self._http.aclose()
            self._process.terminate()
            assert await asyncio.to_thread(self._process.wait, 15) == 0, self.log.read_text()
        finally:
            self._process.kill()
            self._process.wait()

    async def ask(self, verb: str, path: str, body: dict[str, JsonValue] | None = None) -> httpx2.Response:
        """Ask the network for something, and return whatever it answers."""
        assert self._http is not None, "the network was never started"
        return await self._http.request(verb, path, json=body)

    async def view(self) -> SimulatedNetworkView:
        return SimulatedNetworkView.model_validate_json((await self._well("GET", "/network")).content)

    async def act(self, node: str, action: NodeAction) -> None:
        await self._well("POST", f"/nodes/{node}/{action}")

    async def mine(self, blocks: int, *, force: bool = False) -> int:
        """Mine; refused, without `force`, when that would end a held payment."""
        mined = await self._well("POST", "/mine", {"blocks": blocks, "force": force})
        return mined.json()["height"]

    async def open_wallet(self, name: str, *, balance_msat: int) -> None:
        await self._well("POST", "/wallets", {"name": name, "balance_msat": balance_msat})

    async def _well(self, verb: str, path: str, body: dict[str, JsonValue] | None = None) -> httpx2.Response:
        answer = await self.ask(verb, path, body)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer
