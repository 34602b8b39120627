"""The services of docker-compose.yml as plain processes of this machine, for want of a container engine.

What a service says (command, environment, volumes, health check, whom it waits for) is taken from the file;
only its paths, host names and ports are put on this machine. What the images add is written down here:
their entrypoints. So the images themselves, their users and the network between them are not tested.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from compose_file import COMPLETED, HEALTHY, REPOSITORY, Service, in_order, plan, services

from lightwork_regtest.binaries import find_bitcoind, find_lnd
from lightwork_regtest.ports import LOOPBACK, free_ports
from lightwork_regtest.progress import SilentProgress

BIN = Path(sys.executable).parent
NODE_PORTS = ("grpc_port", "rest_port", "p2p_port")
CHAIN_PORTS = ("rpc_port", "zmq_block_port", "zmq_tx_port")
SECONDS = 90.0


class ComposeProcesses:
    """`docker compose up` without Docker: starts in order, waits as the file says, and stops by pid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_home = folder / "config"
        env = dict(os.environ)
        chain, lnd = (find(env=env, progress=SilentProgress()) for find in (find_bitcoind, find_lnd))
        self._programs = {
            "bitcoind": chain.path,
            "lnd": lnd.path,
            "python": Path(sys.executable),
            "lightwork": BIN / "lightwork",
            "lightwork-regtest": BIN / "lightwork-regtest",
            **chain.tools,
            **lnd.tools,
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # Each volume lies where `setup` has it, or else where its only user has it, under one root.
        own = services()
        self._volumes: dict[str, Path] = {}
        for service in (own["setup"], *own.values()):
            for volume, target in service.mounts.items():
                inner = target if service.name == "setup" else f"/{service.name}{target}"
                self._volumes.setdefault(volume, folder / "root" / inner.lstrip("/"))
        for path in self._volumes.values():
            path.mkdir(parents=True)
        self._words = self._places()

    def __enter__(self) -> ComposeProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def up(self) -> None:
        """Start every service in its order, also a second time; one-shots have then ended well."""
        ready: set[tuple[str, str]] = set()
        for service in in_order():
            for name, condition in service.after.items():
                if (name, condition) not in ready:
                    self._wait(services()[name], condition)
                    ready.add((name, condition))
            if service.name not in self._running or service.runs_once:
                self._start(service)

    def host(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as somebody on the host, who has the profiles of the pages."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
        env |= {"XDG_CONFIG_HOME": str(self.config_home), "PATH": f"{BIN}:{env['PATH']}"}
        argv = [str(self._programs.get(words[0], words[0])), *words[1:]]
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=SECONDS)

    def take_profiles(self) -> None:
        """Do what docs/compose.md says to do for the host, and put the host's ports in."""
        target = self.config_home / "lightwork"
        target.mkdir(parents=True, exist_ok=True)
        given = self._volumes["for-host"]
        packed = subprocess.run(
            ["tar", "-C", given, "-c", "compose", "compose.toml", "compose-provider.toml"],
            capture_output=True,
            check=True,
        )
        subprocess.run(["tar", "-C", target, "-x"], input=packed.stdout, check=True)
        for profile in target.glob("*.toml"):
            profile.write_text(self._here(profile.read_text()))

    def logs(self) -> str:
        """Return the end of every log, for a failure's message."""
        return "\n".join(
            f"--- {log.stem}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in sorted(self.folder.glob("*.log"))
        )

    def _places(self) -> dict[str, str]:
        """Choose free ports, write the plan for this machine, and return what stands for what."""
        given = plan()
        nodes = {name: dict(node) for name, node in given["nodes"].items()}
        ports = iter(free_ports(len(CHAIN_PORTS) + len(NODE_PORTS) * len(nodes) + 1))
        broker = next(ports)
        chain = {**given["bitcoind"], "host": LOOPBACK} | {name: next(ports) for name in CHAIN_PORTS}
        words = {
            "broker:8402": f"{LOOPBACK}:{broker}",
            "127.0.0.1:8402": f"{LOOPBACK}:{broker}",
            "localhost:8402": f"localhost:{broker}",
            "bitcoind:18443": f"{LOOPBACK}:{chain['rpc_port']}",
        }
        for node in nodes.values():
            service = services()[node["host"]]
            before = dict(node)
            node |= {"host": "localhost", **{name: next(ports) for name in NODE_PORTS}}
            for name in NODE_PORTS:
                words[f"{service.name}:{before[name]}"] = f"localhost:{node[name]}"
            for published in service.ports:
                outside, _, inside = published.rpartition(":")
                assert int(inside) == before["rest_port"]
                words[outside] = f"{LOOPBACK}:{node['rest_port']}"
        self.nodes = nodes
        self.broker_port = broker
        root = self.folder / "root"
        lines = [f'topology = "{given["topology"]}"', f'listen = "{LOOPBACK}"', "[bitcoind]", *_toml(chain)]
        for name, node in nodes.items():
            lines += [f"[nodes.{name}]", *_toml(node)]
        text = "\n".join(lines).replace('"/nodes', f'"{root}/nodes')
        (self.folder / "network.toml").write_text(text)
        return words

    def _here(self, text: str, service: Service | None = None) -> str:
        """Put the paths, hosts and ports of the containers on this machine."""
        root = self.folder / "root"
        paths = {
            "/opt/compose/network.toml": str(self.folder / "network.toml"),
            "/opt/compose": str(REPOSITORY / "docker"),
            "/opt/sample-agents": str(REPOSITORY / "agents" / "sample-agents"),
            "/nodes": str(root / "nodes"),
            "/for": str(root / "for"),
        }
        if service is not None:
            paths |= {target: str(self._volumes[volume]) for volume, target in service.mounts.items()}
        # A host may stand behind the slashes of a URL; a path begins where a word begins.
        text = _replaced(text, self._words, behind=r"[\w.-]")
        return _replaced(text, paths, behind=r"[\w./-]")

    def _argv(self, service: Service) -> list[str]:
        """Return what the image's entrypoint makes of the command."""
        words = [self._here(word, service) for word in service.command]
        if service.image.startswith("bitcoin/bitcoin:"):
            # Its entrypoint: `bitcoind` by default, with -datadir=$BITCOIN_DATA behind.
            data = self._here(service.environment["BITCOIN_DATA"], service)
            words = [*(words or ["bitcoind"]), f"-datadir={data}"]
        elif service.image.startswith("lightninglabs/lnd:"):
            words = ["lnd", *words]
        elif words[0] == "sh":
            words = [re.sub(r" lightwork$", f" {getpass.getuser()}", word) for word in words]
        return [str(self._programs.get(words[0], words[0])), *words[1:]]

    def _env(self, service: Service) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
        own = {name: self._here(value, service) for name, value in service.environment.items()}
        if "LIGHTWORK_BROKER_PORT" in own:
            own |= {"LIGHTWORK_BROKER_PORT": str(self.broker_port), "LIGHTWORK_BROKER_HOST": LOOPBACK}
        return {**env, "PATH": f"{BIN}:{env['PATH']}", "XDG_CONFIG_HOME": str(self.folder), **own}

    def _start(self, service: Service) -> None:
        with (self.folder / f"{service.name}.log").open("ab") as log:
            self._running[service.name] = subprocess.Popen(
                self._argv(service), env=self._env(service), stdout=log, stderr=log, cwd=self.folder
            )

    def _wait(self, service: Service, condition: str) -> None:
        process = self._running[service.name]
        if condition == COMPLETED:
            assert process.wait(timeout=SECONDS) == 0, f"{service.name} failed\n{self.logs()}"
            return
        assert condition == HEALTHY
        words = [self._here(word, service) for word in service.health]
        for node in self.nodes.values():
            if words[0] == "lncli" and f"--lnddir={node['folder']}" in self._plain(words):
                words.insert(1, f"--rpcserver=localhost:{node['grpc_port']}")
        argv = [str(self._programs[words[0]]), *words[1:]]
        deadline = time.monotonic() + SECONDS
        while subprocess.run(argv, capture_output=True, check=False, timeout=30).returncode != 0:
            assert process.poll() is None, f"{service.name} ended\n{self.logs()}"
            assert time.monotonic() < deadline, f"{service.name} is not healthy\n{self.logs()}"
            time.sleep(0.2)

    def _plain(self, words: list[str]) -> list[str]:
        return [word.replace(str(self.folder / "root"), "") for word in words]


def _toml(table: dict[str, object]) -> list[str]:
    return [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in table.items()
    ]


def _replaced(text: str, known: dict[str, str], *, behind: str) -> str:
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    return re.sub(rf"(?<!{behind})({names})(?![\w.-])", lambda found: known[found[1]], text)
