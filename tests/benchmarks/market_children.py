"""The broker and the runner as processes of their own, as an operator and a provider would start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2

from lightwork_regtest import Network
from lightwork_regtest.ports import LOOPBACK, free_ports

START_SECONDS = 60.0
ECHO = Path(__file__).parents[2] / "agents" / "sample-agents" / "echo.py"


class ChildFailed(RuntimeError):
    """A child process did not come up; its log is in the message."""


class Child:
    """One process that we started, with its log in a file."""

    def __init__(
        self, name: str, arguments: list[str], *, folder: Path, env: Mapping[str, str], profile: Path | None
    ) -> None:
        self.log = folder / f"{name}.log"
        self.name = name
        traced = ["-m", "cProfile", "-o", str(profile / f"{name}.prof")] if profile is not None else []
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *traced, "-m", "lightwork.cli", *arguments],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], *, what: str) -> None:
        """Wait for a condition, not for a time.

        Raises:
            ChildFailed: it died, or the condition did not come true.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ChildFailed(f"{what}\n{self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-6_000:]

    def stop(self) -> None:
        """End it with SIGINT and wait until it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class MarketChildren:
    """A broker on the broker's node, and a runner that sells echo on the provider's node."""

    def __init__(self, network: Network, folder: Path, *, concurrency: int, profile: Path | None) -> None:
        self.database = folder / "broker" / "broker.sqlite"
        port = free_ports(1)[0]
        self.url = f"http://{LOOPBACK}:{port}"
        broker, provider = network.node("broker"), network.node("provider")
        quiet = {key: value for key, value in os.environ.items() if not key.startswith("LIGHTWORK_")}
        self.broker = Child(
            "broker",
            ["broker", "run"],
            folder=folder,
            profile=profile,
            env={
                **quiet,
                "LIGHTWORK_BROKER_PORT": str(port),
                "LIGHTWORK_BROKER_DATA_DIR": str(folder / "broker"),
                "LIGHTWORK_BROKER_LND_ADDRESS": broker.grpc_address,
                "LIGHTWORK_BROKER_LND_TLS_CERT": str(broker.tls_cert),
                "LIGHTWORK_BROKER_LND_MACAROON": str(broker.role_macaroon),
            },
        )
        try:
            self.broker.wait_until(self._healthy, what="the broker did not come up")
        except ChildFailed:
            self.broker.stop()
            raise
        self.runner = Child(
            "runner",
            ["run", str(ECHO), "--concurrency", str(concurrency)],
            folder=folder,
            profile=profile,
            env={
                **quiet,
                "XDG_CONFIG_HOME": str(folder / "provider"),
                "LIGHTWORK_BROKER": self.url,
                "LIGHTWORK_LND_REST": provider.rest_url,
                "LIGHTWORK_LND_TLS_CERT": str(provider.tls_cert),
                "LIGHTWORK_LND_MACAROON": str(provider.role_macaroon),
            },
        )
        try:
            self.runner.wait_until(self._selling, what="the runner did not list echo")
        except ChildFailed:
            self.leave(None)
            raise

    def leave(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop both; after an error, show the end of what they logged."""
        self.runner.stop()
        self.broker.stop()
        if kind is not None:
            for child in (self.broker, self.runner):
                sys.stderr.write(f"--- the end of the {child.name}'s log\n{child.last_words()}\n")

    def _healthy(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/v1/health", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    def _selling(self) -> bool:
        answer = httpx2.get(f"{self.url}/v1/listings?q=echo&online=true", trust_env=False)
        return answer.status_code == 200 and bool(answer.json()["listings"])
