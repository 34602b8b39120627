"""Bringing a network up from whatever is there, and taking it down by its pid files."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightwork_regtest import channels
from lightwork_regtest.binaries import find_bitcoind, find_lnd
from lightwork_regtest.description import (
    FILE_NAME,
    BitcoindDescription,
    NetworkDescription,
    NodeDescription,
    ProgramDescription,
    load_description,
)
from lightwork_regtest.errors import NetworkNotFoundError, PortClashError, UsageError
from lightwork_regtest.fleet import Fleet, each
from lightwork_regtest.lock import file_lock
from lightwork_regtest.macaroons import ROLES
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.places import network_folder
from lightwork_regtest.ports import free_ports
from lightwork_regtest.processes import read_pid_file, stop
from lightwork_regtest.progress import Progress
from lightwork_regtest.topology import TOPOLOGIES

RPC_USER = "lightwork"

_CLASHES = 5
_STALE_TIP_SECONDS = 3_600
"""LND counts itself unsynced when the tip is two hours old (on regtest too): mine well before."""

_MATURE_BLOCKS = 103
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Launch:
    """What `up` did: the network, and the nodes that it had to start (none if it found all running)."""

    description: NetworkDescription
    started: tuple[str, ...]


def bring_up(name: str, topology: str | None, *, env: Mapping[str, str], progress: Progress) -> Launch:
    """Start what is not running, set up what is missing, and return when a payment can go through.

    Raises:
        BinaryNotFoundError, NodeFailedError, RpcError, UsageError: see each class.
    """
    folder = network_folder(name, env)
    with file_lock(_lock_file(folder), lambda: progress.note(f"Another process works on {name}: waiting")):
        description = _described(folder, topology, env=env, progress=progress)
        description, started = _start(description, env=env, progress=progress)
        with Fleet(description) as fleet:
            # Nobody here knows whether somebody else's nodes were started again since the last time.
            healed = bool(started) or description.bitcoind.external
            _make_usable(fleet, healed=healed, progress=progress)
        description = description.model_copy(update={"ready": True})
        description.save()
        return Launch(description, started)


def wake_chain(name: str, *, env: Mapping[str, str]) -> int:
    """Wait for a running bitcoind, give it coins to spend and a fresh tip, and return its height.

    An LND that is started on an older chain does not answer before the next block.

    Raises:
        NetworkNotFoundError, NodeFailedError, RpcError: see each class.
    """
    folder = network_folder(name, env)
    with file_lock(_lock_file(folder)), Fleet(load_description(folder)) as fleet:
        fleet.bitcoind.wait_answering()
        _mature(fleet)
        if _is_stale(fleet):
            fleet.bitcoind.generate(1)
        return fleet.bitcoind.height()


def take_down(name: str, *, delete: bool, env: Mapping[str, str], progress: Progress) -> tuple[str, ...]:
    """Stop every process that a pid file names, whatever state an `up` left; return what was running.

    Raises:
        NetworkNotFoundError: there is no such state folder.
        NodeFailedError: a process survives SIGKILL.
    """
    folder = network_folder(name, env)
    if not folder.is_dir():
        raise NetworkNotFoundError(f"no network {name!r} at {folder}")
    with file_lock(_lock_file(folder), lambda: progress.note(f"Another process works on {name}: waiting")):
        stopped: list[str] = []
        # LND first: it wants its bitcoind while it shuts down.
        for pid_file in sorted(
            folder.glob("run/*.pid"), key=lambda path: (path.stem == "bitcoind", path.stem)
        ):
            with progress.step(f"Stopping {pid_file.stem}"):
                if stop(pid_file, patience=_STOP_SECONDS):
                    stopped.append(pid_file.stem)
        if delete:
            shutil.rmtree(folder)
        return tuple(stopped)


def start_again(folder: Path, node: str, *, env: Mapping[str, str]) -> None:
    """Start one stopped LND node at its old ports and wait until it is synced and its channels are active.

    Raises:
        NodeFailedError, RpcError: it does not come back; a port that somebody took meanwhile is for `up`.
    """
    with file_lock(_lock_file(folder)):
        description = load_description(folder)
        with Fleet(description) as fleet:
            own = fleet.nodes[node]
            if not own.runs():
                own.spawn(description.programs["lnd"].path, chain=description.bitcoind, env=env)
            own.wait_answering()
            _with_pids(description)
            fleet.wait_synced([own], fleet.bitcoind.height())
            channels.connect(fleet, TOPOLOGIES[description.topology].channels)
            channels.wait_usable(fleet)


def _lock_file(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def _described(
    folder: Path, topology: str | None, *, env: Mapping[str, str], progress: Progress
) -> NetworkDescription:
    if (folder / FILE_NAME).exists():
        found = load_description(folder)
        if topology is not None and topology != found.topology:
            raise UsageError(f"{folder.name} is a {found.topology!r} network, not {topology!r}")
        return found
    chosen = topology or "market"
    if chosen not in TOPOLOGIES:
        raise UsageError(f"no topology {chosen!r}; there are {', '.join(TOPOLOGIES)}")
    # The programs come first, so that a machine without them is left without a half-made network.
    programs = _programs(chosen, env=env, progress=progress)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    description = NetworkDescription(
        name=folder.name,
        folder=folder,
        topology=chosen,
        programs=programs,
        bitcoind=BitcoindDescription(
            folder=folder / "bitcoind",
            log=folder / "logs" / "bitcoind.log",
            pid_file=folder / "run" / "bitcoind.pid",
            rpc_port=0,
            zmq_block_port=0,
            zmq_tx_port=0,
            rpc_user=RPC_USER,
            rpc_password=secrets.token_urlsafe(24),
        ),
        nodes={name: described_node(folder, name, own=folder / name) for name in TOPOLOGIES[chosen].nodes},
    )
    description = _with_fresh_ports(description)
    description.save()
    return description


def described_node(folder: Path, name: str, *, own: Path) -> NodeDescription:
    """Return a node of the network in `folder` whose data is in `own`; its ports are not chosen yet."""
    return NodeDescription(
        name=name,
        folder=own,
        log=folder / "logs" / f"{name}.log",
        pid_file=folder / "run" / f"{name}.pid",
        grpc_port=0,
        rest_port=0,
        p2p_port=0,
        tls_cert=own / "tls.cert",
        admin_macaroon=own / "data" / "chain" / "bitcoin" / "regtest" / "admin.macaroon",
        role_macaroon=own / f"{name}.macaroon" if name in ROLES else None,
    )


def _with_fresh_ports(description: NetworkDescription) -> NetworkDescription:
    ports = iter(free_ports(3 + 3 * len(description.nodes)))
    bitcoind = description.bitcoind.model_copy(
        update={"rpc_port": next(ports), "zmq_block_port": next(ports), "zmq_tx_port": next(ports)}
    )
    nodes = {
        name: node.model_copy(
            update={"grpc_port": next(ports), "rest_port": next(ports), "p2p_port": next(ports)}
        )
        for name, node in description.nodes.items()
    }
    return description.model_copy(update={"bitcoind": bitcoind, "nodes": nodes})


def _programs(topology: str, *, env: Mapping[str, str], progress: Progress) -> dict[str, ProgramDescription]:
    found = [find_bitcoind(env=env, progress=progress)]
    if TOPOLOGIES[topology].nodes:
        found.append(find_lnd(env=env, progress=progress))
    for binary in found:
        progress.note(binary.report())
    return {binary.name: ProgramDescription.of(binary) for binary in found}


def _start(
    description: NetworkDescription, *, env: Mapping[str, str], progress: Progress
) -> tuple[NetworkDescription, tuple[str, ...]]:
    if any(not program.path.is_file() for program in description.programs.values()):
        # The cache was cleared since, or a program was uninstalled.
        found = _programs(description.topology, env=env, progress=progress)
        description = description.model_copy(update={"programs": found})
    for clash in range(_CLASHES):
        try:
            with Fleet(description) as fleet:
                started = _spawn_dead(fleet, env=env, progress=progress)
                return _with_pids(_settled(fleet, started, progress=progress)), started
        except PortClashError as error:
            if clash == _CLASHES - 1:
                raise
            progress.note(f"{error}\nTaking other ports")
            with Fleet(description) as fleet:
                each(fleet.nodes.values(), LightningNode.stop)
                fleet.bitcoind.stop()
            description = _with_fresh_ports(description)
            description.save()
    raise AssertionError("unreachable: the last clash is raised")


def _spawn_dead(fleet: Fleet, *, env: Mapping[str, str], progress: Progress) -> tuple[str, ...]:
    """Start what does not run, the chain first, and return the names."""
    programs = fleet.description.programs
    started: list[str] = []
    if not fleet.bitcoind.runs():
        started.append("bitcoind")
        with progress.step("Starting bitcoind"):
            # An LND whose chain went away is not worth saving: it starts anew with it.
            each(fleet.nodes.values(), LightningNode.stop)
            fleet.bitcoind.spawn(programs["bitcoind"].path, env=env)
            fleet.bitcoind.wait_answering()
    # Also when it ran already: an earlier `up` may have been killed right after it started it.
    fleet.bitcoind.wait_answering()
    _mature(fleet)
    dead = [node for node in fleet.nodes.values() if not node.runs()]
    if dead:
        if _is_stale(fleet):
            fleet.bitcoind.generate(1)
        each(dead, lambda node: node.spawn(programs["lnd"].path, chain=fleet.description.bitcoind, env=env))
    return (*started, *(node.name for node in dead))


def _mature(fleet: Fleet) -> None:
    if (lacking := _MATURE_BLOCKS - fleet.bitcoind.height()) > 0:
        fleet.bitcoind.generate(lacking)


def _settled(fleet: Fleet, started: tuple[str, ...], *, progress: Progress) -> NetworkDescription:
    """Wait until every LND node answers and return the network with their keys."""
    description = fleet.description
    nodes = list(fleet.nodes.values())
    if not nodes:
        return description
    names = [name for name in started if name != "bitcoind"]
    with progress.step(f"Starting lnd: {', '.join(names)}" if names else "Asking lnd"):
        for node, info in zip(nodes, each(nodes, LightningNode.wait_answering), strict=True):
            own = node.description.model_copy(update={"pubkey": info.identity_pubkey})
            description = description.with_node(own)
    return description


def _with_pids(description: NetworkDescription) -> NetworkDescription:
    def pid(pid_file: Path) -> int | None:
        found = read_pid_file(pid_file)
        return found.pid if found else None

    bitcoind = description.bitcoind.model_copy(update={"pid": pid(description.bitcoind.pid_file)})
    for node in description.nodes.values():
        description = description.with_node(node.model_copy(update={"pid": pid(node.pid_file)}))
    description = description.model_copy(update={"bitcoind": bitcoind})
    description.save()
    return description


def _is_stale(fleet: Fleet) -> bool:
    return time.time() - fleet.bitcoind.tip_time() > _STALE_TIP_SECONDS


def _make_usable(fleet: Fleet, *, healed: bool, progress: Progress) -> None:
    description = fleet.description
    topology = TOPOLOGIES[description.topology]
    if _is_stale(fleet):
        fleet.mine(1)
    if not topology.nodes:
        return
    for node in fleet.nodes.values():
        target = node.description.role_macaroon
        if target is not None and not target.exists():
            node.bake(ROLES[node.name], target)
    fleet.wait_synced(fleet.nodes.values(), fleet.bitcoind.height())
    if not description.ready:
        with progress.step("Funding the nodes"):
            missing = channels.missing_channels(fleet, topology.channels)
            channels.give_coins(fleet, channels.coins_needed(fleet, topology, missing))
        with progress.step("Opening the channels"):
            channels.connect(fleet, topology.channels)
            channels.open_channels(fleet, missing)
    elif healed:
        channels.connect(fleet, topology.channels)
    with progress.step("Waiting for active, announced channels"):
        channels.wait_usable(fleet)
    if topology.proof is not None and (healed or not description.ready):
        with progress.step("Sending a first payment"):
            channels.prove(fleet, topology.proof)
