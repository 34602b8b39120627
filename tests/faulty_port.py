"""A broker's connection to the faulty node: the port `LightningNode`, and the place where faults strike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import NoReturn, TypeVar

from faulty_node import HOLD_EXPIRY_DELTA, OWN_NODE, PEER, ROUTE_BLOCKS, Crash, Fault, FaultyNode, Letter

from lightwork_broker.lightning.closures import Closure, IncomingHtlc
from lightwork_broker.lightning.errors import (
    InvoiceNotFound,
    LightningError,
    LightningUnavailable,
    PermissionMissing,
    Refused,
)
from lightwork_broker.lightning.ports import (
    Allowance,
    ChannelSlots,
    CreatedInvoice,
    HoldInvoice,
    NodeSummary,
    Payout,
    PayoutStatus,
    RouteEstimate,
    SentPayment,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import RouteHint, read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

T = TypeVar("T")


class Port:
    """One broker's connection: the port `LightningNode`, and where the faults strike."""

    def __init__(self, node: FaultyNode) -> None:
        self._node = node
        self.dead = False

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        def effect() -> str:
            return self._node.add_hold(payment_hash, value_msat, expiry_seconds, cltv_blocks, memo)

        return await self._call("add_hold", payment_hash, effect, value_msat=value_msat)

    async def settle(self, preimage: Preimage) -> None:
        await self._call("settle", preimage.payment_hash, lambda: self._node.settle(preimage))

    async def cancel(self, payment_hash: PaymentHash) -> None:
        await self._call("cancel", payment_hash, lambda: self._node.cancel(payment_hash))

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        return await self._call("pending_holds", None, self._node.pending)

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self._call("lookup", payment_hash, lambda: self._node.look(payment_hash))

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        while True:
            hold = self._node.holds.get(payment_hash)
            if self._node.down or not self._node.streaming:
                raise LightningUnavailable("the stream of invoice states ended before a final one")
            if hold is None:
                raise InvoiceNotFound("the node has no invoice under this payment hash")
            state, seen = hold.state, self._node.look(payment_hash)
            if seen is not None:
                yield seen
            if hold.state is not state:
                continue  # it changed while whoever watches was busy with the last news
            if hold.state.is_final:
                return
            waiter = asyncio.get_running_loop().create_future()
            hold.waiters.append(waiter)
            await waiter

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        def effect() -> Payout:
            return self._node.pay(invoice, payment_hash, fee_limit_msat, cltv_limit)

        def unknown() -> Payout:
            return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)

        amount = read_invoice(invoice).amount_msat or 0
        return await self._call(
            "pay",
            payment_hash,
            effect,
            lost=unknown,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            amount_msat=amount,
        )

    async def track(self, payment_hash: PaymentHash) -> Payout:
        def unknown() -> Payout:
            return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)

        return await self._call("track", payment_hash, lambda: self._node.track(payment_hash), lost=unknown)

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        def unknown() -> Payout:
            return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)

        return await self._call("wait", payment_hash, lambda: self._node.track(payment_hash), lost=unknown)

    async def estimate_fee(
        self,
        *,
        invoice_destination: str,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        return RouteEstimate(fee_msat=Msat(0), time_lock_blocks=final_cltv + ROUTE_BLOCKS)

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        raise Refused("this node sells nothing")

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return self._node.look(payment_hash)

    async def summary(self) -> NodeSummary:
        def effect() -> NodeSummary:
            return NodeSummary(
                pubkey=OWN_NODE,
                alias="faulty",
                network="regtest",
                block_height=self._node.height,
                synced_to_chain=True,
                synced_to_graph=True,
                version="0.21.3-beta",
                hold_expiry_delta=HOLD_EXPIRY_DELTA,
            )

        return await self._call("summary", None, effect)

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        del since
        return ()

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        taken, waiting = self._node.slots_taken, self._node.waiting()
        return (
            ChannelSlots(
                active=True,
                incoming=taken,
                most=483,
                peer=PEER,
                incoming_msat=Msat(sum(htlc.amount_msat for htlc in waiting)),
            ),
        )

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        return await self._call("waiting_htlcs", None, self._node.waiting)

    async def closures(self) -> tuple[Closure, ...]:
        return ()

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        return await self._call("incoming_htlcs", payment_hash, lambda: self._node.incoming(payment_hash))

    async def allowance(self) -> Allowance:
        return self._node.allowance

    async def local_balance_msat(self) -> Msat:
        return Msat(self._node.balances["broker"])

    async def blocks(self) -> AsyncGenerator[int, None]:
        yield self._node.height

    async def close(self) -> None:
        self.dead = True

    # --- faults -----------------------------------------------------------------------------------------

    async def _call(
        self,
        name: str,
        payment_hash: PaymentHash | None,
        effect: Callable[[], T],
        *,
        lost: Callable[[], T] | None = None,
        **facts: int,
    ) -> T:
        self._live()
        node = self._node

        def no_answer() -> T:
            if lost is None:
                raise LightningUnavailable("the node gives no answer")
            return lost()

        def happen() -> T:
            if node.observer is not None:
                node.observer.happened(name, payment_hash)
            return effect()

        if node.observer is not None:
            node.observer.called(name, payment_hash, **facts)
        fault = node.take_fault(name)
        if node.down and fault not in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
            return no_answer()
        match fault:
            case None:
                return happen()
            case Fault.LOST_BEFORE:
                return no_answer()
            case Fault.NO_PERMISSION:
                node.denied.add(name)
                raise PermissionMissing("the macaroon does not allow this")
            case Fault.CRASH_BEFORE:
                self._die()
            case Fault.LOST_AFTER:
                happen()
                return no_answer()
            case Fault.CRASH_AFTER:
                happen()
                self._die()
            case Fault.SLOW_BEFORE:
                return await self._slowly(name, payment_hash, happen, no_answer, before=True)
            case Fault.SLOW_AFTER:
                try:
                    answer = happen()
                except LightningError as error:
                    return await self._slowly(name, payment_hash, _raising(error), no_answer, before=False)
                return await self._slowly(name, payment_hash, lambda: answer, no_answer, before=False)
        raise AssertionError("unreachable")

    async def _slowly(
        self,
        name: str,
        payment_hash: PaymentHash | None,
        happen: Callable[[], T],
        no_answer: Callable[[], T],
        *,
        before: bool,
    ) -> T:
        arrived: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def end(with_: Callable[[], T]) -> None:
            try:
                answer = with_()
            except LightningError as error:
                if not arrived.done():
                    arrived.set_exception(error)
            else:
                if not arrived.done():
                    arrived.set_result(answer)

        letter = Letter(
            name=name,
            payment_hash=payment_hash,
            sent_at=self._node.clock.now(),
            deliver=lambda: end(happen),
            drop=lambda: end(no_answer),
            before=before,
        )
        self._node.wire.append(letter)
        answer = await arrived
        self._live()
        return answer

    def _live(self) -> None:
        if self.dead:
            raise Crash

    def _die(self) -> None:
        self.dead = True
        raise Crash


def _raising(error: LightningError) -> Callable[[], NoReturn]:
    def fail() -> NoReturn:
        raise error

    return fail
