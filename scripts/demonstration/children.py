"""The broker and the agents: processes that go on after the demo, known by pid and start time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2
from pydantic import BaseModel, ValidationError

from demonstration.folder import REPOSITORY, DemoFolder
from demonstration.surroundings import (
    PROVIDER,
    broker_variables,
    chain_variables,
    inherited,
    party_variables,
)
from lightwork_regtest import Network
from lightwork_regtest.ports import free_ports, is_free
from lightwork_regtest.processes import ProcessId, start_detached, stop

BROKER = "broker"
AGENTS: Mapping[str, Path] = {
    "echo": REPOSITORY / "agents" / "sample-agents" / "echo.py",
    "chainwatch": REPOSITORY / "agents" / "sample-agents" / "chainwatch.py",
    "stumble": REPOSITORY / "scripts" / "demonstration" / "stumble.py",
}
USUAL_PORT = 8402
READY_SECONDS = 60.0
STOP_SECONDS = 15.0


class DemoFailed(Exception):
    """The demo cannot go on, or what it claims does not hold; the text says why."""


class _Health(BaseModel):
    ok: bool
    detail: str | None = None


class Children:
    """The processes that this demo starts on top of the nodes."""

    def __init__(self, folder: DemoFolder, network: Network, *, env: Mapping[str, str]) -> None:
        """Nothing is started yet."""
        self._folder = folder
        self._network = network
        self._env = inherited(env)
        self._running: dict[str, ProcessId] = {}

    def start_broker(self) -> str:
        """Start the broker, wait until it is well, return its URL.

        Raises:
            DemoFailed: it ended, or does not get well.
        """
        port = USUAL_PORT if is_free(USUAL_PORT) else free_ports(1)[0]
        url = f"http://127.0.0.1:{port}"
        self._start(BROKER, ["broker", "run"], broker_variables(self._network, self._folder, port=port))
        with httpx2.Client(trust_env=False, timeout=5) as client:
            self.wait(lambda: _is_well(client, url), who=(BROKER,), what=f"the broker at {url} to be well")
        return url

    def start_agents(self, *, broker: str) -> None:
        """Start every agent, each under a key of its own; they share the provider's LND as wallet."""
        for name, file in AGENTS.items():
            own = party_variables(self._network, self._folder, broker=broker, node=PROVIDER, key=name)
            extra = chain_variables(self._network) if name == "chainwatch" else {}
            self._start(name, ["run", str(file)], {**own, **extra})

    def wait(self, ready: Callable[[], bool], *, who: Sequence[str], what: str) -> None:
        """Wait until it is so, as long as these processes live.

        Raises:
            DemoFailed: one of them ended, or it takes too long.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            for name in who:
                if not self._running[name].is_alive():
                    raise DemoFailed(f"{name} ended; its last words: {self._last_words(name)}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"waited {READY_SECONDS:.0f} s for {what}; log: {self._folder.log(who[0])}")
            time.sleep(0.05)

    def _start(self, name: str, words: Sequence[str], variables: Mapping[str, str]) -> None:
        log = self._folder.log(name)
        log.unlink(missing_ok=True)
        self._running[name] = start_detached(
            [str(Path(sys.executable).parent / "lightwork"), *words],
            pid_file=self._folder.pid_file(name),
            log=log,
            env={**self._env, **variables},
        )

    def _last_words(self, name: str) -> str:
        try:
            lines = self._folder.log(name).read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return " | ".join(line.strip() for line in lines[-4:]) or "none"


def stop_children(folder: DemoFolder) -> tuple[str, ...]:
    """Stop what the pid files name, agents before their broker; return what was running."""
    files = sorted(folder.path.glob("run/*.pid"), key=lambda file: (file.stem == BROKER, file.stem))
    return tuple(file.stem for file in files if stop(file, patience=STOP_SECONDS))


def _is_well(client: httpx2.Client, url: str) -> bool:
    try:
        return _Health.model_validate_json(client.get(f"{url}/v1/health").content).ok
    except (httpx2.HTTPError, ValidationError):
        return False
