"""Networks on which a channel may be closed by force: each test has one of its own, which is no good afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Protocol

from contract.lightning.worlds import hold, in_state, pay, secret, until
from simulated_process import SimulatedProcess

from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.lnd import LndNode, LndSettings
from lightwork_broker.lightning.ports import InvoiceState, LightningNode, Payout
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.lightning.simulated.remote import RemoteNode
from lightwork_contracts.wire.simulated import WALLET_NODE_PREFIX, NodeAction
from lightwork_regtest.network import Network

BLOCKS_AT_MOST = 60


class ClosingWorld(Protocol):
    """Buyer and broker with a channel between them; either may be away while blocks come.

    `look_seconds` is how long nodes may take to do what a block makes them do, before the next one is mined.
    """

    look_seconds: float
    broker: LightningNode
    buyer: LightningNode
    provider: LightningNode

    async def mine(self, blocks: int) -> None: ...

    async def kill(self, name: str) -> None:
        """End a node without warning."""
        ...

    async def start(self, name: str) -> None:
        """Start a node again; it answers when this returns, with or without its channels."""
        ...

    async def close(self) -> None: ...


class SimulatedClosing:
    """The simulated network in this process."""

    look_seconds = 0.05

    def __init__(self) -> None:
        self._network = SimulatedNetwork.market()
        self.broker, self.buyer, self.provider = map(self._network.node, ("broker", "buyer", "provider"))

    async def mine(self, blocks: int) -> None:
        self._network.mine(blocks)

    async def kill(self, name: str) -> None:
        self._network.stop(name)

    async def start(self, name: str) -> None:
        self._network.start(name)

    async def close(self) -> None:
        self._network.check()


class RemoteClosing:
    """The simulated network in a process of its own."""

    look_seconds = 0.05

    def __init__(self, network: SimulatedProcess) -> None:
        """Take a network whose wallets of buyer and provider are open."""
        self._network = network
        self.broker = RemoteNode(network.url)
        self.buyer = RemoteNode(network.url, self._name("buyer"))
        self.provider = RemoteNode(network.url, self._name("provider"))

    async def mine(self, blocks: int) -> None:
        await self._network.mine(blocks, force=True)

    async def kill(self, name: str) -> None:
        await self._network.act(self._name(name), NodeAction.STOP)

    async def start(self, name: str) -> None:
        await self._network.act(self._name(name), NodeAction.START)

    @staticmethod
    def _name(name: str) -> str:
        return name if name == "broker" else f"{WALLET_NODE_PREFIX}{name}"

    async def close(self) -> None:
        for node in (self.broker, self.buyer, self.provider):
            await node.close()


class LndClosing:
    """A fresh network of real nodes."""

    look_seconds = 0.7

    def __init__(self, network: Network) -> None:
        self.network = network
        self.broker, self.buyer, self.provider = map(self._open, ("broker", "buyer", "provider"))

    def _open(self, name: str) -> LndNode:
        node = self.network.node(name)
        return LndNode(
            LndSettings(
                address=node.grpc_address,
                tls_cert=node.tls_cert,
                macaroon=node.admin_macaroon,
                pay_margin_seconds=3,
            )
        )

    async def mine(self, blocks: int) -> None:
        await asyncio.to_thread(self.network.mine, blocks, force=True)

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(self.network.kill_node, name)

    async def start(self, name: str) -> None:
        await asyncio.to_thread(start_alone, self.network, name)
        node: LndNode = getattr(self, name)

        async def heard() -> bool:
            try:
                return (await node.summary()).synced_to_chain
            except LightningUnavailable:
                return False

        await until(heard)

    async def close(self) -> None:
        for node in (self.broker, self.buyer, self.provider):
            await node.close()


def start_alone(network: Network, name: str) -> None:
    """Start an LND whose channels may be gone, so that nobody waits for them."""
    node = network.node(name)
    program = network.description.programs["lnd"].path
    node.spawn(program, chain=network.description.bitcoind, env=dict(os.environ))
    node.wait_answering()


async def held(world: ClosingWorld, *, sat: int) -> tuple[Preimage, int, asyncio.Task[Payout]]:
    """Let the buyer pay a hold invoice of the broker; return its preimage and at which height the HTLC expires."""
    preimage = secret()
    text = await hold(world.broker, preimage, sat=sat)
    paying = asyncio.create_task(pay(world.buyer, text, preimage.payment_hash))
    found = await in_state(world.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
    assert found.min_expiry_height is not None
    return preimage, found.min_expiry_height, paying


async def mined_until(world: ClosingWorld, check: Callable[[], Awaitable[bool]]) -> None:
    """Mine block after block, each when the nodes have had time to answer the last one, until `check` is true."""
    for _ in range(BLOCKS_AT_MOST):
        try:
            await until(check, seconds=world.look_seconds)
        except AssertionError:
            await world.mine(1)
        else:
            return
    await until(check)
