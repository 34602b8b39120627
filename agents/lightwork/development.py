"""A whole market on this machine for plugin authors: what `lightwork dev` starts, watches and stops.

Broker and nodes are other packages, so they are started by their command lines, as a person would.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from lightwork.errors import LightworkError

USUAL_PORT = 8402
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
GLANCE_SECONDS = 0.1
SIMULATED_SATS = 1_000_000
ECHO = '''\
from lightwork import Agent, sats

agent = Agent("echo")


@agent.task(price=sats(10))
async def echo(text: str) -> str:
    """Return the text unchanged."""
    return text
'''


class DevFailed(LightworkError):
    """The market could not be started, or a part of it has ended by itself."""

    code = "dev_failed"


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    name: str
    pubkey: str
    grpc: str
    rest: str
    tls_cert: Path
    role_macaroon: Path


class _Bitcoind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    rpc: str
    log: Path
    height: int | None = None


class Nodes(BaseModel):
    """What `lightwork-regtest up --json` says."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    name: str
    bitcoind: _Bitcoind
    nodes: tuple[_Node, ...]

    def node(self, name: str) -> _Node:
        return next(node for node in self.nodes if node.name == name)


@dataclass
class Child:
    """One process that this market runs on."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-6:]) or "    (it said nothing)"


@dataclass
class DevMarket:
    """The parts of one market. `tell` gets a line for each thing that is done."""

    folder: Path
    name: str
    simulated: bool
    tell: Callable[[str], None]
    nodes: Nodes | None = None
    url: str = ""
    children: list[Child] = field(default_factory=list[Child])

    def start(self, files: Sequence[Path], *, port: int | None) -> None:
        """Start nodes, broker and agents, each when the one before is ready.

        Raises:
            DevFailed: one of them cannot be started; `stop` takes down what was.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._end_leftovers()
        if not self.simulated:
            self.tell("starting bitcoind and three LND nodes (the first time, lnd is built: minutes)")
            self.nodes = self._nodes_up()
        self._start_broker(port or _usual_or_free_port())
        self.tell(f"broker at {self.url}")
        self._write_shells()
        self.start_agents(files)

    def start_agents(self, files: Sequence[Path]) -> None:
        """Start one runner for all agent files, and wait until it has listed their tasks."""
        env = self._inherited() | self.surroundings("provider")
        child = self._spawn("agents", ["lightwork", "run", *map(str, files)], env)
        self._wait(child, lambda: _is_listing(child), what="the agents to be listed")

    def restart_agents(self, files: Sequence[Path]) -> None:
        """Stop the runner and start it again on files that have changed."""
        child = next(child for child in self.children if child.name == "agents")
        self._end(child)
        self.start_agents(files)

    def ended(self) -> Child | None:
        """Return a part that has ended by itself, if any."""
        return next((child for child in self.children if child.process.poll() is not None), None)

    def stop(self) -> list[str]:
        """Stop everything that was started, last first; return what it was."""
        stopped: list[str] = []
        while self.children:
            stopped.append(self.children[-1].name)
            self._end(self.children[-1])
        if self.nodes is not None:
            subprocess.run(
                [_program("lightwork-regtest"), "down", "--name", self.name],
                env=self._inherited(),
                capture_output=True,
                check=False,
            )
            stopped.append("nodes")
        return stopped

    def surroundings(self, who: str) -> dict[str, str]:
        """Return the variables of a buyer's or provider's shell: broker, key and wallet."""
        own = {
            "LIGHTWORK_PROFILE": "lightwork-dev",  # has no file, so nothing of the user's own is mixed in
            "LIGHTWORK_BROKER": self.url,
            "LIGHTWORK_KEY_FILE": str(self.folder / f"{who}.key"),
        }
        if self.nodes is None:
            return own | {"LIGHTWORK_SIMULATED_WALLET": who}
        node = self.nodes.node(who)
        return own | {
            "LIGHTWORK_PIN_NODE": self.nodes.node("broker").pubkey,
            "LIGHTWORK_LND_REST": node.rest,
            "LIGHTWORK_LND_TLS_CERT": str(node.tls_cert),
            "LIGHTWORK_LND_MACAROON": str(node.role_macaroon),
        }

    def shell(self, who: str) -> Path:
        """Return the file that makes a shell that of `who`."""
        return self.folder / f"{who}.sh"

    def _nodes_up(self) -> Nodes:
        try:
            done = subprocess.run(
                [_program("lightwork-regtest"), "up", "--name", self.name, "--json"],
                env=self._inherited(),
                stdout=subprocess.PIPE,
                check=False,
            )
        except FileNotFoundError:
            raise DevFailed(
                "lightwork-regtest is not installed", hint="pip install 'lightwork[broker,lnd]'"
            ) from None
        if done.returncode != 0:
            raise DevFailed(
                f"the nodes could not be started: {done.stdout.decode(errors='replace').strip()[-400:]}",
                hint=f"lightwork-regtest doctor --name {self.name}, or go without nodes: lightwork dev --simulated",
            )
        try:
            return Nodes.model_validate_json(done.stdout)
        except ValidationError as error:
            raise DevFailed(f"lightwork-regtest answered with something else: {error}") from None

    def _start_broker(self, port: int) -> None:
        env = self._inherited() | {
            "LIGHTWORK_BROKER_PORT": str(port),
            "LIGHTWORK_BROKER_NAME": f"dev {self.name}",
        }
        words = ["lightwork", "broker", "run"]
        if self.nodes is None:
            words += ["--network", "simulated"]
        else:
            node = self.nodes.node("broker")
            env |= {
                "LIGHTWORK_BROKER_LND_ADDRESS": node.grpc,
                "LIGHTWORK_BROKER_LND_TLS_CERT": str(node.tls_cert),
                "LIGHTWORK_BROKER_LND_MACAROON": str(node.role_macaroon),
                "LIGHTWORK_BROKER_DATA_DIR": str(self.folder / "broker"),
            }
        self.url = f"http://127.0.0.1:{port}"
        child = self._spawn("broker", words, env)
        with httpx2.Client(trust_env=False, timeout=5) as client:
            self._wait(child, lambda: _is_well(client, self.url), what=f"the broker at {self.url}")

    def _write_shells(self) -> None:
        commands = shlex.quote(str(Path(sys.executable).parent))
        for who in ("buyer", "provider"):
            lines = [f"export {name}={shlex.quote(value)}" for name, value in self.surroundings(who).items()]
            lines.append(f'case ":$PATH:" in *:{commands}:*) ;; *) export PATH={commands}:"$PATH" ;; esac')
            path = self.shell(who)
            path.touch(mode=0o600)
            path.write_text("\n".join(lines) + "\n")

    def _spawn(self, name: str, words: Sequence[str], env: Mapping[str, str]) -> Child:
        log = self.folder / f"{name}.log"
        with log.open("wb") as out:
            # A session of its own: Ctrl-C reaches us alone, and we stop the parts in their order.
            process = subprocess.Popen(
                [_program(words[0]), *words[1:]],
                env=dict(env),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        self._write_pids()
        return child

    def _wait(self, child: Child, ready: Callable[[], bool], *, what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if child.process.poll() is not None:
                raise DevFailed(f"{child.name} ended by itself; its last words:\n{child.last_words()}")
            if time.monotonic() > deadline:
                raise DevFailed(f"waited {READY_SECONDS:.0f} s for {what}; see {child.log}")
            time.sleep(GLANCE_SECONDS)

    def _end(self, child: Child) -> None:
        self.children.remove(child)
        child.process.terminate()
        try:
            child.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        self._write_pids()

    def _write_pids(self) -> None:
        pids = {str(child.process.pid): child.name for child in self.children}
        (self.folder / "pids.json").write_text(json.dumps(pids))

    def _end_leftovers(self) -> None:
        """End what an earlier market of this name left, if it was killed: only processes that are still ours."""
        try:
            pids = json.loads((self.folder / "pids.json").read_text())
        except (OSError, ValueError):
            return
        for pid, name in pids.items():
            seen = subprocess.run(
                ["ps", "-o", "command=", "-p", pid], capture_output=True, text=True, check=False
            )
            if f"lightwork {'run' if name == 'agents' else name}" in seen.stdout:
                self.tell(f"ending the {name} that an earlier `lightwork dev` left behind")
                os.kill(int(pid), signal.SIGTERM)

    @staticmethod
    def _inherited() -> dict[str, str]:
        """The environment without settings of ours, which may belong to another broker or wallet."""
        ours = (
            "LIGHTWORK_BROKER",
            "LIGHTWORK_PROFILE",
            "LIGHTWORK_PIN",
            "LIGHTWORK_KEY",
            "LIGHTWORK_SIMULATED",
        )
        wallet = ("LIGHTWORK_LND_REST", "LIGHTWORK_LND_TLS", "LIGHTWORK_LND_MACAROON")
        return {name: value for name, value in os.environ.items() if not name.startswith(ours + wallet)}


def state_folder(name: str, *, environ: Mapping[str, str]) -> Path:
    """The folder of one such market, under the user's state."""
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base) / "lightwork" / "dev" / name


def sample_agents(folder: Path) -> tuple[Path, ...]:
    """Return the sample agents of this checkout, or, where there is none, an echo written to `folder`."""
    samples = Path(__file__).parents[1] / "sample-agents"
    if samples.is_dir():
        return tuple(samples / f"{name}.py" for name in ("echo", "summarise", "maths"))
    file = folder / "echo.py"
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file.write_text(ECHO)
    return (file,)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def _usual_or_free_port() -> int:
    for port in (USUAL_PORT, 0):
        try:
            with socket.create_server(("127.0.0.1", port)) as listener:
                return listener.getsockname()[1]
        except OSError:
            continue
    raise DevFailed("there is no free port on 127.0.0.1")


def _is_well(client: httpx2.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/v1/health").status_code == 200
    except httpx2.TransportError:
        return False


def _is_listing(child: Child) -> bool:
    said = child.log.read_text(errors="replace")
    return "listed as" in said
