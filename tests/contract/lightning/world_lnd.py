"""The contract's world on real LND nodes."""

from __future__ import annotations

import asyncio

from contract.lightning.worlds import until

from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.lnd import LndNode, LndSettings
from lightwork_regtest.macaroons import BROKER, Role
from lightwork_regtest.network import Network


class LndWorld:
    """The market network: the broker with the calls of its role and those of its ports that no broker makes."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.broker = LndNode(settings(network, "broker"))
        self.buyer = LndNode(settings(network, "buyer"))
        self.provider = LndNode(settings(network, "provider"))

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        await asyncio.to_thread(self._network.mine, blocks, force=force)

    async def kill_broker(self) -> None:
        await asyncio.to_thread(self._network.kill_node, "broker")

    async def start_broker(self) -> None:
        await asyncio.to_thread(self._network.start_node, "broker")

        async def heard() -> bool:
            try:
                return (await self.broker.summary()).synced_to_chain
            except LightningUnavailable:
                return False

        await until(heard)

    async def quiet(self) -> None:
        def nothing_waits() -> bool:
            return not any(node.pending_htlcs() for node in self._network.nodes.values())

        async def quiet() -> bool:
            return await asyncio.to_thread(nothing_waits)

        await until(quiet)

    async def close(self) -> None:
        for node in (self.broker, self.buyer, self.provider):
            await node.close()


NOT_A_BROKERS = ("AddInvoice", "ChannelBalance", "ListChannels")
"""What the contract asks of a broker's node beyond a broker: plain invoices, and what the node owns."""


def settings(network: Network, name: str) -> LndSettings:
    """Return how to reach a node of the network; `pay` listens three seconds longer than LND tries."""
    node = network.node(name)
    broker = node.description.folder / "contract.macaroon"
    if name == "broker" and not broker.exists():
        uris = (*BROKER.uris, *(f"/lnrpc.Lightning/{call}" for call in NOT_A_BROKERS))
        node.bake(Role(root_key_id=BROKER.root_key_id, uris=uris), broker)
    return LndSettings(
        address=node.grpc_address,
        tls_cert=node.tls_cert,
        macaroon=broker if name == "broker" else node.admin_macaroon,
        pay_margin_seconds=3,
        block_poll_seconds=0.1,
    )
