"""What a network looks like now, for people and for programs: read from the nodes themselves."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lightwork_regtest.description import FILE_NAME, ProgramDescription
from lightwork_regtest.errors import RpcError
from lightwork_regtest.fleet import Fleet, each
from lightwork_regtest.nodes.lnd import LightningNode


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class ChannelStatus(_Part):
    """One channel seen from one node; amounts in satoshis."""

    peer: str
    active: bool
    capacity_sat: int
    local_sat: int
    remote_sat: int
    pending_htlcs: int


class NodeStatus(_Part):
    """One LND node; what only a running node can say is None while it is down."""

    name: str
    running: bool
    answers: bool
    pid: int | None
    pubkey: str | None
    grpc: str
    rest: str
    p2p: str
    tls_cert: Path
    admin_macaroon: Path
    role_macaroon: Path | None
    log: Path
    height: int | None = None
    synced_to_chain: bool = False
    wallet_sat: int | None = None
    wealth_msat: int | None = None
    channels: tuple[ChannelStatus, ...] = ()


class BitcoindStatus(_Part):
    """The chain; the password stands in network.json only."""

    running: bool
    pid: int | None
    rpc: str
    rpc_user: str
    zmq_block: str
    zmq_tx: str
    log: Path
    height: int | None = None
    tip_time: int | None = None


class NetworkStatus(_Part):
    """The whole network; `running` when every process is there."""

    name: str
    file: Path
    topology: str
    ready: bool
    running: bool
    bitcoind: BitcoindStatus
    nodes: tuple[NodeStatus, ...]
    programs: dict[str, ProgramDescription]


def network_status(fleet: Fleet) -> NetworkStatus:
    """Ask every node; one that is down or silent is shown so, not an error."""
    description = fleet.description
    names = {node.pubkey: name for name, node in description.nodes.items() if node.pubkey}
    bitcoind = _bitcoind(fleet)
    nodes = each(fleet.nodes.values(), lambda node: _node(node, names))
    return NetworkStatus(
        name=description.name,
        file=description.folder / FILE_NAME,
        topology=description.topology,
        ready=description.ready,
        running=bitcoind.running and all(node.running for node in nodes),
        bitcoind=bitcoind,
        nodes=tuple(nodes),
        programs=description.programs,
    )


def _bitcoind(fleet: Fleet) -> BitcoindStatus:
    own, process = fleet.bitcoind, fleet.bitcoind.process()
    height: int | None = None
    tip_time: int | None = None
    if own.runs():
        try:
            height, tip_time = own.height(), own.tip_time()
        except RpcError:
            height = tip_time = None
    return BitcoindStatus(
        running=own.runs(),
        pid=process.pid if process else None,
        rpc=own.rpc_url,
        rpc_user=own.user,
        zmq_block=f"tcp://{own.description.host}:{own.description.zmq_block_port}",
        zmq_tx=f"tcp://{own.description.host}:{own.description.zmq_tx_port}",
        log=own.description.log,
        height=height,
        tip_time=tip_time,
    )


def _node(node: LightningNode, names: dict[str, str]) -> NodeStatus:
    process = node.process()
    found = NodeStatus(
        name=node.name,
        running=node.runs(),
        answers=False,
        pid=process.pid if process else None,
        pubkey=node.description.pubkey,
        grpc=node.grpc_address,
        rest=node.rest_url,
        p2p=node.p2p_address,
        tls_cert=node.tls_cert,
        admin_macaroon=node.admin_macaroon,
        role_macaroon=node.description.role_macaroon,
        log=node.description.log,
    )
    if not node.runs():
        return found
    try:
        info = node.info()
        channels = tuple(
            ChannelStatus(
                peer=names.get(channel.remote_pubkey, channel.remote_pubkey),
                active=channel.active,
                capacity_sat=channel.capacity,
                local_sat=channel.local_balance,
                remote_sat=channel.remote_balance,
                pending_htlcs=len(channel.pending_htlcs),
            )
            for channel in node.channels()
        )
        answered = {
            "answers": True,
            "height": info.block_height,
            "synced_to_chain": info.synced_to_chain,
            "wallet_sat": node.wallet_balance_sat(),
            "wealth_msat": node.wealth_msat(),
            "channels": channels,
        }
    except RpcError:
        return found
    return found.model_copy(update=answered)


def render(status: NetworkStatus) -> RenderableType:
    """Return the status as tables for people."""
    nodes = Table(title=f"network {status.name}", title_justify="left")
    for column in ("node", "state", "height", "on chain, sat", "in channels, sat"):
        nodes.add_column(column)
    chain = status.bitcoind
    state = _state(running=chain.running, answers=chain.height is not None)
    nodes.add_row("bitcoind", state, _shown(chain.height), "", "")
    endpoints = [f"bitcoind RPC {chain.rpc}"]
    for node in status.nodes:
        nodes.add_row(
            node.name,
            _state(running=node.running, answers=node.answers and node.synced_to_chain),
            _shown(node.height),
            _shown(node.wallet_sat),
            _shown(None if node.wealth_msat is None else node.wealth_msat // 1_000),
        )
        endpoints.append(f"{node.name} gRPC {node.grpc}, REST {node.rest}")
    channels = Table(title="channels", title_justify="left")
    for column in ("from", "to", "active", "local, sat", "remote, sat", "held"):
        channels.add_column(column)
    for node in status.nodes:
        for channel in node.channels:
            channels.add_row(
                node.name,
                channel.peer,
                "yes" if channel.active else "[red]no[/red]",
                _shown(channel.local_sat),
                _shown(channel.remote_sat),
                str(channel.pending_htlcs),
            )
    parts: list[RenderableType] = [nodes]
    if channels.row_count:
        parts.append(channels)
    parts += [Text(line) for line in (*endpoints, f"all of it for programs: {status.file}")]
    return Group(*parts)


def _state(*, running: bool, answers: bool) -> str:
    if not running:
        return "[red]down[/red]"
    return "[green]up[/green]" if answers else "[yellow]not ready[/yellow]"


def _shown(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
