"""What each node owns, by its own word, what the broker owes, and what its books say, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import assert_never

from e2e_broker import BrokerProcess
from e2e_client import SignedClient
from e2e_stage import NODES, Nodes
from e2e_waiting import SECONDS, until

from lightwork_broker import audit as audits
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow import store as escrow_store
from lightwork_broker.escrow.store import Escrow
from lightwork_contracts.ids import JobId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.wire.accounts import BalanceView
from lightwork_contracts.wire.market import QuoteView


@dataclass(frozen=True, slots=True)
class Wealth:
    """Msat of each node's channels, what the providers are owed, and the broker's own account of its node."""

    nodes: dict[str, int]
    owed: int
    ledger: int


@dataclass(slots=True)
class Change:
    """What each must have gained at the end of a block, in msat. Nothing, unless it is told.

    `owed` is what the broker owes the providers: in credit mode they receive there and not on their node.
    """

    buyer: int = 0
    broker: int = 0
    provider: int = 0
    owed: int = 0

    def sold(self, quote: QuoteView, *, routing_paid_msat: int = 0) -> None:
        """One job was settled: the buyer paid the total, the provider has the price, the broker the rest."""
        assert quote.total_msat == quote.price_msat + quote.fee_msat + quote.routing_msat
        self.buyer -= quote.total_msat
        match quote.mode:
            case PaymentMode.ESCROW:
                self.provider += quote.price_msat
                self.broker += quote.fee_msat + quote.routing_msat - routing_paid_msat
            case PaymentMode.CREDIT:
                assert quote.routing_msat == routing_paid_msat == 0
                self.owed += quote.price_msat
                self.broker += quote.total_msat
            case _:
                assert_never(quote.mode)


class Money:
    """Measures the nodes, one broker's ledger, and the balances of `sellers` at that broker."""

    def __init__(self, nodes: Nodes, broker: BrokerProcess, *, sellers: Iterable[SignedClient]) -> None:
        self._nodes = nodes
        self._broker = broker
        self._sellers = sellers

    async def measure(self) -> Wealth:
        read = [self._nodes.wealth_msat(name) for name in NODES]
        nodes: dict[str, int] = dict(zip(NODES, await asyncio.gather(*read), strict=True))
        books = await self.books()
        return Wealth(nodes=nodes, owed=await self.owed(), ledger=books.balances.get("assets:node", 0))

    async def owed(self) -> int:
        """Return what the broker says, to each seller, that it owes; nothing where nobody sells on credit."""
        read = [seller.get("/v1/balance") for seller in self._sellers]
        return sum(
            BalanceView.model_validate(balance).balance_msat for balance in await asyncio.gather(*read)
        )

    async def books(self) -> audits.Audit:
        """Audit the broker's database, as `lightwork broker audit` does, without its start-up time."""
        database = open_database(self._broker.database)
        try:
            return await audits.audit(database)
        finally:
            await database.close()

    async def escrow(self, job_id: str) -> Escrow:
        """Read the broker's own row of a job's escrow."""
        database = open_database(self._broker.database)
        try:
            async with database.read() as tx:
                escrow = await escrow_store.get(tx, JobId(job_id))
        finally:
            await database.close()
        assert escrow is not None
        return escrow

    async def held(self, payment_hash: str) -> set[str]:
        """Return the nodes on whose channels an HTLC with this hash hangs."""
        return {htlc.node for htlc in await self._nodes.htlcs() if htlc.payment_hash == payment_hash}

    async def until_held(self, payment_hash: str) -> None:
        """Wait until the buyer's HTLC hangs between buyer and broker."""

        async def held() -> bool:
            return {"buyer", "broker"} <= await self.held(payment_hash)

        await until(held, what=f"an HTLC with hash {payment_hash} is held")

    async def until_gone(self, *payment_hashes: str, seconds: float = SECONDS) -> None:
        """Wait until no HTLC with one of these hashes is left on any channel; without any, no HTLC at all."""

        async def gone() -> bool:
            found = {htlc.payment_hash for htlc in await self._nodes.htlcs()}
            return not (found & set(payment_hashes) if payment_hashes else found)

        await until(gone, what="no HTLC is left", seconds=seconds)

    async def expiry(self, payment_hash: str) -> int:
        """Return the height at which the HTLC that the broker's node holds for this hash expires."""
        return min(
            htlc.expiry_height
            for htlc in await self._nodes.htlcs()
            if htlc.payment_hash == payment_hash and htlc.node == "broker" and htlc.incoming
        )

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
            await self._give_back()
            raise
        await self._until_written(unfinished=books_before.unfinished)
        after, books = await self.measure(), await self.books()
        seen = {name: after.nodes[name] - before.nodes[name] for name in NODES}
        seen["owed"] = after.owed - before.owed
        assert seen == asdict(change)
        assert after.ledger - before.ledger == seen["broker"], "the ledger is not its node's view"
        assert books.breaches == ()
        assert books.unfinished == books_before.unfinished
        assert books.unknown == books_before.unknown

    async def _until_written(self, *, unfinished: int) -> None:
        """Wait until the broker has written down what its node has done already; the test judges the rest."""

        async def written() -> bool:
            return (await self.books()).unfinished <= unfinished

        with suppress(AssertionError):
            await until(written, what="the broker's books are closed")

    async def _give_back(self) -> None:
        for htlc in await self._nodes.htlcs():
            if htlc.node == "broker" and htlc.incoming:
                await self._nodes.give_back(htlc.payment_hash)
