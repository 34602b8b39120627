"""Looking for what is wrong with a network and saying what to do next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict

from lightwork_regtest.binaries import find_bitcoind, find_lnd
from lightwork_regtest.binaries.ladder import allowed_rungs
from lightwork_regtest.description import load_description
from lightwork_regtest.errors import BinaryNotFoundError, NetworkNotFoundError
from lightwork_regtest.fleet import Fleet
from lightwork_regtest.places import network_folder
from lightwork_regtest.ports import is_free
from lightwork_regtest.progress import SilentProgress
from lightwork_regtest.status import NetworkStatus, network_status

_AT_HAND = frozenset({"explicit", "path", "cache"})
_STALE_SECONDS = 2 * 3_600
_THIN_SAT = 100_000


class Finding(BaseModel):
    """One thing that was looked at; `advice` says what to do when it is not well."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    check: str
    ok: bool
    found: str
    advice: str = ""


def examine(name: str, *, env: Mapping[str, str]) -> list[Finding]:
    """Look at programs, processes, ports, chain, channels and balances; nothing is changed or fetched."""
    findings = list(_programs(env))
    up = f"lightwork-regtest up --name {name}"
    try:
        description = load_description(network_folder(name, env))
    except NetworkNotFoundError as missing:
        return [*findings, Finding(check="network", ok=False, found=str(missing), advice=up)]
    with Fleet(description) as fleet:
        status = network_status(fleet)
        return [*findings, *_processes(status, fleet, up), *_chain(status, up), *_channels(status, up)]


def _programs(env: Mapping[str, str]) -> Iterator[Finding]:
    at_hand = {**env, "LIGHTWORK_NODE_RUNGS": ",".join(allowed_rungs(env) & _AT_HAND) or "cache"}
    for check, find in (("bitcoind", find_bitcoind), ("lnd", find_lnd)):
        try:
            found = find(env=at_hand, progress=SilentProgress())
        except BinaryNotFoundError as missing:
            advice = f"lightwork-regtest up fetches it, or name your own in LIGHTWORK_{check.upper()}"
            yield Finding(check=f"program {check}", ok=False, found=str(missing), advice=advice)
        else:
            words = f"{found.version} ({found.rung}) {found.path}"
            yield Finding(check=f"program {check}", ok=True, found=words)


def _processes(status: NetworkStatus, fleet: Fleet, up: str) -> Iterator[Finding]:
    own = fleet.description.bitcoind
    ports = {"bitcoind": (own.rpc_port, own.zmq_block_port, own.zmq_tx_port)}
    for node in fleet.description.nodes.values():
        ports[node.name] = (node.grpc_port, node.rest_port, node.p2p_port)
    running = {"bitcoind": (status.bitcoind.running, status.bitcoind.height is not None)}
    running |= {node.name: (node.running, node.answers) for node in status.nodes}
    logs = {"bitcoind": status.bitcoind.log} | {node.name: node.log for node in status.nodes}
    for name, (alive, answers) in running.items():
        if alive and answers:
            yield Finding(check=f"process {name}", ok=True, found="runs and answers")
        elif alive:
            advice = f"read {logs[name]}; then {up.replace(' up ', ' down ')} and {up}"
            yield Finding(check=f"process {name}", ok=False, found="runs but does not answer", advice=advice)
        else:
            taken = [str(port) for port in ports[name] if not is_free(port)]
            found = f"is down; ports taken by others: {', '.join(taken)}" if taken else "is down"
            yield Finding(check=f"process {name}", ok=False, found=found, advice=up)


def _chain(status: NetworkStatus, up: str) -> Iterator[Finding]:
    height, tip_time = status.bitcoind.height, status.bitcoind.tip_time
    if height is None or tip_time is None:
        return
    age = int(time.time()) - tip_time
    yield Finding(
        check="chain tip",
        ok=age < _STALE_SECONDS,
        found=f"block {height}, {max(0, age) // 60} minutes old",
        advice=""
        if age < _STALE_SECONDS
        else f"{up} mines a block: LND is unsynced with a tip over 2 hours old",
    )
    for node in status.nodes:
        if node.answers:
            well = node.synced_to_chain and node.height == height
            found = f"block {node.height}, {'synced' if node.synced_to_chain else 'not synced'}"
            yield Finding(check=f"sync {node.name}", ok=well, found=found, advice="" if well else up)


def _channels(status: NetworkStatus, up: str) -> Iterator[Finding]:
    for node in status.nodes:
        if not node.answers:
            continue
        for channel in node.channels:
            check = f"channel {node.name}-{channel.peer}"
            if not channel.active:
                yield Finding(check=check, ok=False, found="is not active", advice=up)
            elif channel.local_sat < _THIN_SAT:
                advice = f"pay back from {channel.peer}, or start anew with down --delete and up"
                found = f"only {channel.local_sat:,} sat left to send"
                yield Finding(check=check, ok=False, found=found, advice=advice)
            else:
                found = f"active, {channel.local_sat:,} sat to send, {channel.pending_htlcs} held"
                yield Finding(check=check, ok=True, found=found)
        if not node.channels:
            yield Finding(check=f"channels {node.name}", ok=False, found="has none", advice=up)
