"""Networks of nodes that somebody else runs, such as a container engine: configured and described by us."""

from __future__ import annotations

import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lightwork_regtest.description import (
    FILE_NAME,
    BitcoindDescription,
    NetworkDescription,
    NodeDescription,
    load_description,
)
from lightwork_regtest.errors import UsageError
from lightwork_regtest.launch import RPC_USER, described_node
from lightwork_regtest.nodes import bitcoind, lnd
from lightwork_regtest.places import network_folder
from lightwork_regtest.ports import LOOPBACK
from lightwork_regtest.topology import TOPOLOGIES


class _Plan(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class BitcoindPlan(_Plan):
    """Where bitcoind is reached, and its data folder as we see it."""

    host: str
    rpc_port: int
    zmq_block_port: int
    zmq_tx_port: int
    folder: Path


class NodePlan(_Plan):
    """Where one LND node is reached, and its data folder as we see it."""

    host: str
    grpc_port: int
    rest_port: int
    p2p_port: int
    folder: Path


class NetworkPlan(_Plan):
    """What the owner of the nodes decides; `listen` is the address on which they all listen."""

    topology: str = "market"
    listen: str = LOOPBACK
    bitcoind: BitcoindPlan
    nodes: dict[str, NodePlan] = {}


def read_plan(path: Path) -> NetworkPlan:
    """Return the plan in a TOML file.

    Raises:
        UsageError: it cannot be read, or its nodes are not those of its topology.
    """
    try:
        plan = NetworkPlan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UsageError(f"{path}: {error}") from None
    if plan.topology not in TOPOLOGIES:
        raise UsageError(f"{path}: no topology {plan.topology!r}; there are {', '.join(TOPOLOGIES)}")
    if set(plan.nodes) != set(TOPOLOGIES[plan.topology].nodes):
        raise UsageError(
            f"{path}: {plan.topology} has the nodes {', '.join(TOPOLOGIES[plan.topology].nodes)}"
        )
    return plan


def adopt(path: Path, name: str, *, env: Mapping[str, str]) -> NetworkDescription:
    """Write each node's configuration into its folder, and network.json, from which `up` goes on.

    A second call keeps the password and what is known of the nodes.

    Raises:
        UsageError: the plan is wrong, or `name` is a network that runs nodes of its own.
    """
    plan = read_plan(path)
    folder = network_folder(name, env)
    known = load_description(folder) if (folder / FILE_NAME).exists() else None
    if known is not None and not known.bitcoind.external:
        raise UsageError(f"{name!r} is a network of our own nodes: choose another name")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    chain = BitcoindDescription(
        **plan.bitcoind.model_dump(),
        listen=plan.listen,
        external=True,
        log=folder / "logs" / "bitcoind.log",
        pid_file=folder / "run" / "bitcoind.pid",
        rpc_user=RPC_USER,
        rpc_password=known.bitcoind.rpc_password if known else secrets.token_urlsafe(24),
    )
    nodes = {node: _node(folder, node, own, plan.listen) for node, own in plan.nodes.items()}
    if known is not None:
        nodes = {
            node: own.model_copy(update={"pubkey": known.nodes[node].pubkey}) if node in known.nodes else own
            for node, own in nodes.items()
        }
    description = NetworkDescription(
        name=name,
        folder=folder,
        topology=plan.topology,
        ready=known is not None and known.ready,
        programs={},
        bitcoind=chain,
        nodes=nodes,
    )
    bitcoind.write_config(chain)
    for own in nodes.values():
        lnd.write_config(own, chain)
    description.save()
    return description


def _node(folder: Path, name: str, plan: NodePlan, listen: str) -> NodeDescription:
    update = {**plan.model_dump(exclude={"folder"}), "listen": listen, "external": True}
    return described_node(folder, name, own=plan.folder).model_copy(update=update)
