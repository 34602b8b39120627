"""What each node owns, read from LND, and what the broker's books say, before and after."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from e2e_broker import BrokerProcess
from e2e_waiting import until

from lightwork_broker import audit as audits
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import store as escrow_store
from lightwork_broker.escrow.store import Escrow
from lightwork_contracts.ids import JobId
from lightwork_contracts.wire.market import QuoteView
from lightwork_regtest import Network
from lightwork_regtest.nodes.lnd_answers import Empty

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

    async def escrow(self, job_id: str) -> Escrow:
        """Read the broker's own row of a job's escrow."""
        database = Database(str(self._broker.data_dir / "broker.sqlite"))
        try:
            async with database.read() as tx:
                escrow = await escrow_store.get(tx, JobId(job_id))
        finally:
            await database.close()
        assert escrow is not None
        return escrow

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
        before, books_before = await self.measure(), await self.books()
        change = Change()
        try:
            yield change
            await self.until_gone()
        except BaseException:
            # The next test must not pay for this one.
            await asyncio.to_thread(self._give_back)
            raise
        after, books = await self.measure(), await self.books()
        seen = {name: after.nodes[name] - before.nodes[name] for name in NODES}
        wanted = {"buyer": change.buyer, "broker": change.broker, "provider": change.provider}
        assert seen == wanted
        assert after.ledger - before.ledger == seen["broker"], "the ledger is not its node's view"
        assert books.breaches == ()
        assert books.unfinished == books_before.unfinished
        assert books.unknown == books_before.unknown

    def _give_back(self) -> None:
        node = self._network.node("broker")
        for htlc in node.pending_htlcs():
            if htlc.incoming:
                number = base64.b64encode(bytes.fromhex(htlc.payment_hash)).decode()
                node.rest.post("/v2/invoices/cancel", Empty, {"payment_hash": number})
