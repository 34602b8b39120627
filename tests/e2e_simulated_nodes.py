"""The stage on the simulated network in a process of its own, which outlives every broker on it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from e2e_stage import HangingHtlc
from postgres_server import PostgresServer
from simulated_process import SimulatedProcess

from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.simulated.remote import RemoteNode
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.simulated import WALLET_NODE_PREFIX, NodeAction

OPENED_WITH = sats(8_000_000)


class SimulatedNodes:
    """The network's process, and a connection of our own to each node."""

    def __init__(self, folder: Path, *, databases: PostgresServer | None = None) -> None:
        self._databases = databases
        self._made = 0
        self.process = SimulatedProcess(folder)
        self._nodes: dict[str, RemoteNode] = {}

    async def start(self) -> None:
        await self.process.start()
        self._nodes["broker"] = RemoteNode(self.process.url)
        for name in ("buyer", "provider"):
            await self.process.open_wallet(name, balance_msat=OPENED_WITH)
            self._nodes[name] = RemoteNode(self.process.url, f"{WALLET_NODE_PREFIX}{name}")

    async def stop(self) -> None:
        for node in self._nodes.values():
            await node.close()
        await self.process.stop()

    def broker_settings(self) -> Mapping[str, str]:
        settings = {"network": "simulated", "simulated_url": self.process.url}
        if self._databases is None:
            return settings
        self._made += 1
        return {**settings, "database": self._databases.create(f"broker_{self._made}")}

    def wallet(self, name: str) -> SimulatedWallet:
        return SimulatedWallet(self.process.url, name)

    def wallet_environment(self, name: str) -> Mapping[str, str]:
        return {"LIGHTWORK_SIMULATED_WALLET": name, "LIGHTWORK_SIMULATED_NETWORK": self.process.url}

    def secrets(self) -> tuple[str, ...]:
        return ()  # whoever reaches a simulated network may do everything there

    async def wealth_msat(self, name: str) -> int:
        return await self._nodes[name].local_balance_msat()

    async def htlcs(self) -> tuple[HangingHtlc, ...]:
        return tuple(
            HangingHtlc(
                node.removeprefix(WALLET_NODE_PREFIX), htlc.payment_hash, incoming, htlc.expiry_height
            )
            for htlc in (await self.process.view()).htlcs
            for node, incoming in ((htlc.sender, False), (htlc.receiver, True))
        )

    async def height(self) -> int:
        return (await self.process.view()).height

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        await self.process.mine(blocks, force=force)

    async def kill_broker_node(self) -> None:
        await self.process.act("broker", NodeAction.STOP)

    async def start_broker_node(self) -> None:
        await self.process.act("broker", NodeAction.START)

    async def invoice_of_broker_node(self, amount_msat: Msat) -> str:
        made = await self._nodes["broker"].add_invoice(
            value_msat=amount_msat, expiry_seconds=86_400, memo="simulated", final_cltv=80
        )
        return made.payment_request

    async def give_back(self, payment_hash: str) -> None:
        with suppress(LightningError):  # the broker may have done it meanwhile
            await self._nodes["broker"].cancel(PaymentHash(payment_hash))
