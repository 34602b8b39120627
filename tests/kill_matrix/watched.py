"""The broker's two ports to what outlives it, each call and each commit of which is a step."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import sqlalchemy as sa
from kill_matrix.steps import Kind, Moment, Steps

from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.sqlite import SqliteDatabase
from lightwork_broker.lightning.closures import Closure, IncomingHtlc
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import (
    Allowance,
    ChannelSlots,
    CreatedInvoice,
    HoldInvoice,
    LightningNode,
    NodeId,
    NodeSummary,
    Payout,
    PayoutStatus,
    RouteEstimate,
    SentPayment,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

T = TypeVar("T")

_ENGINES: dict[str, sa.Engine] = {}


class Killed(BaseException):
    """The process that does this is dead; nothing in it may go on."""


class AnswerLost(Exception):
    """The node went away with its answer."""


class Life:
    """Whether a process lives. What it asks of the world passes here, so that a dead one asks nothing."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.dead = False

    def require(self) -> None:
        if self.dead:
            raise Killed

    def reach(self, kind: Kind, name: str, moment: Moment) -> None:
        self.require()
        self.steps.reach(kind, name, moment)
        self.require()


class WatchedDatabase(SqliteDatabase):
    """A broker's database. A transaction whose process dies before the commit leaves no trace."""

    def __init__(self, path: str, *, life: Life) -> None:
        super().__init__(path)
        # An engine compiles each statement once: thousands of brokers on one path share it.
        self._engine = _ENGINES.setdefault(path, self._engine)
        self._life = life

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        self._life.require()
        async with super().write() as tx:
            yield tx
            self._life.reach(Kind.COMMIT, "commit", Moment.BEFORE)
        self._life.reach(Kind.COMMIT, "commit", Moment.AFTER)

    async def add_once(self, table: sa.Table, **values: object) -> bool:
        self._life.require()
        return await super().add_once(table, **values)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[Transaction]:
        self._life.require()
        async with super().read() as tx:
            yield tx


class WatchedNode:
    """A connection to a Lightning node. `AnswerLost` at a step becomes what a caller of LND would see."""

    def __init__(self, node: LightningNode, *, life: Life) -> None:
        self._node = node
        self._life = life

    async def _call(self, name: str, work: Awaitable[T]) -> T:
        try:
            self._life.reach(Kind.CALL, name, Moment.BEFORE)
        except BaseException:
            _never_begun(work)
            raise
        answer = await work
        try:
            self._life.reach(Kind.CALL, name, Moment.AFTER)
        except AnswerLost as error:
            raise LightningUnavailable("the node went away with its answer") from error
        return answer

    async def _payout(self, name: str, payment_hash: PaymentHash, work: Awaitable[Payout]) -> Payout:
        try:
            return await self._call(name, work)
        except LightningUnavailable:
            return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        work = self._node.add_hold(
            payment_hash=payment_hash,
            value_msat=value_msat,
            expiry_seconds=expiry_seconds,
            cltv_blocks=cltv_blocks,
            memo=memo,
        )
        return await self._call("add_hold", work)

    async def settle(self, preimage: Preimage) -> None:
        await self._call("settle", self._node.settle(preimage))

    async def cancel(self, payment_hash: PaymentHash) -> None:
        await self._call("cancel", self._node.cancel(payment_hash))

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self._call("lookup", self._node.lookup(payment_hash))

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        self._life.reach(Kind.CALL, "watch", Moment.BEFORE)
        async for hold in self._node.watch(payment_hash):
            try:
                self._life.reach(Kind.CALL, f"watch: {hold.state}", Moment.AFTER)
            except AnswerLost as error:
                raise LightningUnavailable("the stream ended") from error
            yield hold

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        work = self._node.pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )
        return await self._payout("pay", payment_hash, work)

    async def track(self, payment_hash: PaymentHash) -> Payout:
        return await self._payout("track", payment_hash, self._node.track(payment_hash))

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        return await self._payout("wait", payment_hash, self._node.wait(payment_hash, timeout))

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        work = self._node.estimate_fee(
            invoice_destination=invoice_destination,
            amount_msat=amount_msat,
            final_cltv=final_cltv,
            cltv_limit=cltv_limit,
            route_hints=route_hints,
        )
        return await self._call("estimate_fee", work)

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        work = self._node.add_invoice(
            value_msat=value_msat, expiry_seconds=expiry_seconds, memo=memo, final_cltv=final_cltv
        )
        return await self._call("add_invoice", work)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self._call("lookup_invoice", self._node.lookup_invoice(payment_hash))

    async def summary(self) -> NodeSummary:
        return await self._call("summary", self._node.summary())

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        return await self._call("pending_holds", self._node.pending_holds())

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        return await self._call("sent_since", self._node.sent_since(since))

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        return await self._call("channel_slots", self._node.channel_slots())

    async def closures(self) -> tuple[Closure, ...]:
        return await self._call("closures", self._node.closures())

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        return await self._call("incoming_htlcs", self._node.incoming_htlcs(payment_hash))

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        return await self._call("waiting_htlcs", self._node.waiting_htlcs())

    async def allowance(self) -> Allowance:
        return await self._node.allowance()

    async def local_balance_msat(self) -> Msat:
        return await self._call("local_balance_msat", self._node.local_balance_msat())

    async def blocks(self) -> AsyncGenerator[int, None]:
        self._life.require()
        async for height in self._node.blocks():
            self._life.require()
            yield height

    async def close(self) -> None:
        await self._node.close()


def _never_begun(work: object) -> None:
    close = getattr(work, "close", None)
    if close is not None:
        close()
