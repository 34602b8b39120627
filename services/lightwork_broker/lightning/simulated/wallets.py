"""Wallets by name on a simulated network: each a node with one channel to the broker's."""

from __future__ import annotations

from lightwork_broker.errors import Overloaded
from lightwork_broker.lightning.simulated.network import SimulatedNetwork
from lightwork_broker.lightning.simulated.node import SimulatedNode
from lightwork_contracts.money import Msat

MAX_WALLETS = 10_000


class SimulatedWallets:
    """The wallets that buyers and providers reach over the network; the hub's own node is none of them."""

    def __init__(self, network: SimulatedNetwork, *, hub: str = "broker") -> None:
        """Take a network; the hub's node is added to it if it is not there."""
        self.network = network
        self.hub = network.node(hub) if hub in network.names else network.add_node(hub)
        self._hub = hub
        self._nodes: dict[str, SimulatedNode] = {}

    def open(self, name: str, *, balance_msat: Msat) -> SimulatedNode:
        """Return the wallet of this name, made with `balance_msat` on either side of its channel if it is new.

        Raises: Overloaded when there are too many.
        """
        known = self._nodes.get(name)
        if known is not None:
            return known
        if len(self._nodes) >= MAX_WALLETS:
            raise Overloaded(f"the simulated network has {MAX_WALLETS} wallets already")
        node = self.network.add_node(f"wallet {name}")
        self.network.open_channel(
            f"wallet {name}", self._hub, capacity_msat=Msat(2 * balance_msat), push_msat=balance_msat
        )
        self._nodes[name] = node
        return node

    def find(self, name: str) -> SimulatedNode | None:
        """Return a wallet that was opened before, or None."""
        return self._nodes.get(name)
