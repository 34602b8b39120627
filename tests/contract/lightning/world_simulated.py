"""The contract's world on the simulated network."""

from __future__ import annotations

from contract.lightning.worlds import until

from lightwork_broker.lightning.simulated import SimulatedNetwork


class SimulatedWorld:
    """The market network in this process, by the machine's clock."""

    def __init__(self) -> None:
        self._network = SimulatedNetwork.market()
        self.broker = self._network.node("broker")
        self.buyer = self._network.node("buyer")
        self.provider = self._network.node("provider")

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        self._network.mine(blocks)

    async def kill_broker(self) -> None:
        self._network.stop("broker")

    async def start_broker(self) -> None:
        self._network.start("broker")

    async def quiet(self) -> None:
        async def nothing_waits() -> bool:
            return not self._network.waiting()

        await until(nothing_waits)

    async def close(self) -> None:
        """Check that no msat was made or lost by all that the suite did."""
        self._network.check()
        for node in (self.broker, self.buyer, self.provider):
            await node.close()
