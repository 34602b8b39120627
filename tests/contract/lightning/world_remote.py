"""The contract's world on the simulated network in a process of its own, over HTTP."""

from __future__ import annotations

from pathlib import Path

from contract.lightning.worlds import until
from simulated_process import SimulatedProcess

from lightwork_broker.lightning.simulated.remote import RemoteNode
from lightwork_contracts.money import sats
from lightwork_contracts.wire.simulated import WALLET_NODE_PREFIX, NodeAction


class RemoteWorld:
    """The market network: buyer and provider are wallets' nodes, called as the broker's is."""

    def __init__(self, folder: Path) -> None:
        self._network = SimulatedProcess(folder)

    async def start(self) -> None:
        await self._network.start()
        for name in ("buyer", "provider"):
            await self._network.open_wallet(name, balance_msat=sats(8_000_000))
        self.broker = RemoteNode(self._network.url)
        self.buyer = RemoteNode(self._network.url, f"{WALLET_NODE_PREFIX}buyer")
        self.provider = RemoteNode(self._network.url, f"{WALLET_NODE_PREFIX}provider")

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        # Whether a test forces what it should is LND's to say.
        await self._network.mine(blocks, force=True)

    async def kill_broker(self) -> None:
        await self._network.act("broker", NodeAction.STOP)

    async def start_broker(self) -> None:
        await self._network.act("broker", NodeAction.START)

    async def quiet(self) -> None:
        async def nothing_waits() -> bool:
            return not (await self._network.view()).htlcs

        await until(nothing_waits)

    async def close(self) -> None:
        for node in (self.broker, self.buyer, self.provider):
            await node.close()
        await self._network.stop()
