"""The library's face: a running network, its nodes, and what tests do to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from lightwork_regtest import channels
from lightwork_regtest.description import NetworkDescription, load_description
from lightwork_regtest.errors import UsageError
from lightwork_regtest.fleet import Fleet
from lightwork_regtest.launch import bring_up, start_again, take_down
from lightwork_regtest.nodes.bitcoind import Bitcoind
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.places import network_folder
from lightwork_regtest.progress import Progress, SilentProgress
from lightwork_regtest.topology import CHANNEL_CAPACITY_SAT, ChannelPlan


class Network:
    """A regtest network that outlives this object: `close` drops the connections, `down` ends the nodes."""

    def __init__(
        self,
        description: NetworkDescription,
        *,
        env: Mapping[str, str],
        started: tuple[str, ...] = (),
    ) -> None:
        """Prefer `up` or `attach`; `started` are the nodes that `up` had to start, `env` where it lives."""
        self.name = description.name
        self.folder: Path = description.folder
        self.started = started
        self.fleet = Fleet(description)
        self.env = dict(env)

    @classmethod
    def up(
        cls,
        *,
        name: str = "default",
        topology: str | None = None,
        env: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Network:
        """Bring the network up, or find it running, or heal it; return when a payment can go through.

        `topology` is `market` (bitcoind and three LND nodes, the default) or `chain` (bitcoind only).

        Raises:
            RegtestError: one of its subclasses says what is wrong.
        """
        surroundings = dict(os.environ if env is None else env)
        launch = bring_up(name, topology, env=surroundings, progress=progress or SilentProgress())
        return cls(launch.description, env=surroundings, started=launch.started)

    @classmethod
    def attach(cls, *, name: str = "default", env: Mapping[str, str] | None = None) -> Network:
        """Return the network that was brought up under this name, running or not.

        Raises:
            NetworkNotFoundError: there is none.
        """
        surroundings = dict(os.environ if env is None else env)
        return cls(load_description(network_folder(name, surroundings)), env=surroundings)

    def __enter__(self) -> Self:
        """Use the network in a `with`; its end drops the connections, not the nodes."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the connections."""
        self.close()

    def close(self) -> None:
        """Drop the connections; the nodes go on."""
        self.fleet.close()

    def down(self, *, delete: bool = False, progress: Progress | None = None) -> tuple[str, ...]:
        """End the nodes by pid and return which were running; `delete` removes the state folder too."""
        self.close()
        return take_down(self.name, delete=delete, env=self.env, progress=progress or SilentProgress())

    @property
    def description(self) -> NetworkDescription:
        """Everything that network.json says."""
        return self.fleet.description

    @property
    def bitcoind(self) -> Bitcoind:
        """The chain: `rpc(method, *params)`, `rpc_url`, `user`, `password`."""
        return self.fleet.bitcoind

    @property
    def nodes(self) -> Mapping[str, LightningNode]:
        """The LND nodes by name."""
        return self.fleet.nodes

    def node(self, name: str) -> LightningNode:
        """Return the LND node of this name.

        Raises:
            UsageError: the network has no such node.
        """
        try:
            return self.fleet.nodes[name]
        except KeyError:
            known = ", ".join(self.fleet.nodes) or "none"
            raise UsageError(f"no node {name!r}; there are: {known}") from None

    def mine(self, blocks: int = 1, *, force: bool = False) -> int:
        """Mine, wait until the running nodes have followed, return the height.

        Raises:
            MineRefusedError: a held HTLC would come within LND's reach (18 blocks) of its expiry.
        """
        return self.fleet.mine(blocks, force=force)

    def faucet(self, node: str, amount_sat: int) -> int:
        """Give a node's on-chain wallet satoshis, mined in; return its confirmed balance in satoshis."""
        target = self.node(node)
        if amount_sat < 1_000:
            raise UsageError("the faucet gives 1,000 satoshis or more: less would be dust")
        channels.give_coins(self.fleet, [(target, amount_sat)])
        return target.wallet_balance_sat()

    def open_channel(
        self,
        funder: str,
        peer: str,
        *,
        capacity_sat: int = CHANNEL_CAPACITY_SAT,
        push_sat: int | None = None,
        count: int = 1,
    ) -> None:
        """Open `count` more parallel channels, half pushed over by default; usable on return."""
        own, other = self.node(funder), self.node(peer)
        pushed = capacity_sat // 2 if push_sat is None else push_sat
        plan = ChannelPlan(own.name, other.name, capacity_sat, pushed)
        have = sum(channel.remote_pubkey == other.pubkey for channel in own.channels())
        channels.give_coins(self.fleet, [(own, capacity_sat + 1_000_000)] * count)
        channels.connect(self.fleet, [plan])
        channels.open_channels(self.fleet, [plan] * count)
        channels.wait_count(self.fleet, plan, have + count)
        channels.wait_usable(self.fleet)

    def stop_node(self, name: str) -> None:
        """End one LND node with SIGTERM and wait until it is gone."""
        self.node(name).stop()

    def kill_node(self, name: str) -> None:
        """End one LND node with SIGKILL and wait until it is gone."""
        self.node(name).kill()

    def start_node(self, name: str) -> None:
        """Start a stopped LND node at its old ports; synced and with active channels on return."""
        self.node(name).close()
        start_again(self.folder, name, env=self.env)
