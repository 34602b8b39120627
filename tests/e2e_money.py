"""What each node owns, read from LND, and what the broker's books say, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from e2e_broker import BrokerProcess
from e2e_waiting import until

from lightwork_broker import audit as audits
from lightwork_broker.db.engine import Database
from lightwork_contracts.wire.market import QuoteView
from lightwork_regtest import Network

NODES: tuple[str, ...] = ("buyer", "broker", "provider")


@dataclass(frozen=True, slots=True)
class Wealth:
    """Msat of each node's channels, and the broker's own account of its node."""

    nodes: dict[str, int]
    ledger: int


@dataclass(slots=True)
class Change:
    """What each node must have gained at the end of a block, in msat. Nothing, unless it is told."""

    buyer: int = 0
    broker: int = 0
    provider: int = 0

    def sold(self, quote: QuoteView, *, routing_paid_msat: int = 0) -> None:
        """One job was settled: the buyer paid the total, the provider has the price, the broker the rest."""
        assert quote.total_msat == quote.price_msat + quote.fee_msat + quote.routing_msat
        self.buyer -= quote.total_msat
        self.provider += quote.price_msat
        self.broker += quote.fee_msat + quote.routing_msat - routing_paid_msat


class Money:
    """Measures one network and one broker's ledger."""

    def __init__(self, network: Network, broker: BrokerProcess) -> None:
        self._network = network
        self._broker = broker

    async def measure(self) -> Wealth:
        read = [asyncio.to_thread(self._network.node(name).wealth_msat) for name in NODES]
        nodes: dict[str, int] = dict(zip(NODES, await asyncio.gather(*read), strict=True))
        return Wealth(nodes=nodes, ledger=(await self.books()).balances.get("assets:node", 0))

    async def books(self) -> audits.Audit:
        """Audit the broker's database, as `lightwork broker audit` does, without its start-up time."""
        database = Database(str(self._broker.data_dir / "broker.sqlite"))
        try:
            return await audits.audit(database)
        finally:
            await database.close()

    async def held(self, payment_hash: str) -> set[str]:
        """Return the nodes on whose channels an HTLC with this hash hangs."""

        def look() -> set[str]:
            return {
                name
                for name in NODES
                for htlc in self._network.node(name).pending_htlcs()
                if htlc.payment_hash == payment_hash
            }

        return await asyncio.to_thread(look)

    async def until_held(self, payment_hash: str) -> None:
        """Wait until the buyer's HTLC hangs between buyer and broker."""

        async def held() -> bool:
            return {"buyer", "broker"} <= await self.held(payment_hash)

        await until(held, what=f"an HTLC with hash {payment_hash} is held")

    async def until_gone(self, *payment_hashes: str, seconds: float = 20) -> None:
        """Wait until no HTLC with one of these hashes is left on any channel; without any, no HTLC at all."""

        def look() -> set[str]:
            return {htlc.payment_hash for name in NODES for htlc in self._network.node(name).pending_htlcs()}

        async def gone() -> bool:
            found = await asyncio.to_thread(look)
            return not (found & set(payment_hashes) if payment_hashes else found)

        await until(gone, what="no HTLC is left", seconds=seconds)

    @asynccontextmanager
    async def moves(self) -> AsyncGenerator[Change]:
        """Measure around a block; at its end the changes must be exactly those set on what was yielded."""
        await self.until_gone()
        before = await self.measure()
        change = Change()
        yield change
        await self.until_gone()
        after = await self.measure()
        seen = {name: after.nodes[name] - before.nodes[name] for name in NODES}
        wanted = {"buyer": change.buyer, "broker": change.broker, "provider": change.provider}
        assert seen == wanted
        assert after.ledger - before.ledger == seen["broker"], "the ledger is not its node's view"
        books = await self.books()
        assert books.breaches == ()
        assert books.unfinished == 0
        assert books.unknown == 0
