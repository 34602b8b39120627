"""The port `Payouts` on a simulated node."""

from __future__ import annotations

from lightwork_broker.lightning.errors import LightningUnavailable, Refused
from lightwork_broker.lightning.ports import NodeId, Payout, PayoutStatus, RouteEstimate, SentPayment
from lightwork_broker.lightning.simulated.connection import Connection, OutcomeUnknown
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_broker.lightning.simulated.routes import BLOCK_PADDING, Wish, find_route
from lightwork_broker.lightning.simulated.sending import MAX_ROUTE_BLOCKS, Order, Sent, send
from lightwork_broker.lightning.simulated.timing import pause, woken
from lightwork_contracts.bolt11 import InvoiceError, RouteHint, read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MAX_MSAT, Msat


class SimulatedPayouts:
    """Payments out of one node. As with LND, what is lost on the way is UNKNOWN and never FAILED."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        try:
            begun = await self.begin(
                invoice=invoice,
                payment_hash=payment_hash,
                fee_limit_msat=fee_limit_msat,
                cltv_limit=cltv_limit,
            )
            if begun.outcome.status.is_final or begun.was_refused:
                return begun.outcome
            patience = timeout_seconds + self._connection.patience.pay_margin_seconds
            return await self._follow(payment_hash, seconds=patience)
        except OutcomeUnknown:
            return _unknown(payment_hash)
        except LightningUnavailable:
            # A failure found now may be an older attempt's, and this one still on its way.
            seen = await self.track(payment_hash)
            return _unknown(payment_hash) if seen.status is PayoutStatus.FAILED else seen

    async def begin(
        self, *, invoice: str, payment_hash: PaymentHash, fee_limit_msat: Msat, cltv_limit: int
    ) -> Sent:
        """Begin to pay and return how it stands at once, without waiting for a payee that holds.

        Raises:
            Refused: the invoice is for another hash.
            LightningUnavailable, PermissionMissing: as every call.
        """
        _check_hash(invoice, payment_hash)
        order = Order(
            invoice=invoice, payment_hash=payment_hash, fee_limit_msat=fee_limit_msat, cltv_limit=cltv_limit
        )
        board = self._connection.board
        return await self._connection.call("pay", payment_hash, lambda node: send(board, node, order))

    async def track(self, payment_hash: PaymentHash) -> Payout:
        try:
            return await self._connection.call("track", payment_hash, lambda node: node.payout(payment_hash))
        except LightningUnavailable:
            return _unknown(payment_hash)

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        def effect(node: NodeState) -> tuple[SentPayment, ...]:
            return tuple(
                SentPayment(
                    payment_hash=one.payment_hash,
                    amount_msat=Msat(one.amount_msat),
                    fee_msat=Msat(one.fee_msat),
                )
                for one in node.payments.values()
                if one.began_at >= since and one.status is not PayoutStatus.FAILED
            )

        return await self._connection.call("sent_since", None, effect)

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        clock = self._connection.board.clock
        end = clock.now() + timeout
        while True:
            seen = await self.track(payment_hash)
            left = end - clock.now()
            if seen.status.is_final or left <= 0:
                return seen
            if seen.status is PayoutStatus.UNKNOWN:
                await pause(clock, min(left, self._connection.patience.retry_seconds))
                continue
            try:
                seen = await self._follow(payment_hash, seconds=left)
            except LightningUnavailable:
                continue
            if seen.status.is_final or clock.now() >= end:
                return seen

    async def _follow(self, payment_hash: PaymentHash, *, seconds: float) -> Payout:
        """Return the outcome once it is final, or how the payment stands after `seconds`.

        Raises: LightningUnavailable when the node goes away meanwhile.
        """
        clock = self._connection.board.clock
        node = self._connection.serving()
        session, end = node.session, clock.now() + seconds
        while True:
            with self._connection.serving(session=session).waiters.on(payment_hash) as waiter:
                seen = node.payout(payment_hash)
                left = end - clock.now()
                if seen.status.is_final or left <= 0:
                    return seen
                await woken(clock, waiter, seconds=left)

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        board = self._connection.board

        def effect(node: NodeState) -> RouteEstimate | None:
            wish = Wish(
                payer=node.pubkey,
                payee=invoice_destination,
                amount_msat=amount_msat,
                final_blocks=final_cltv + BLOCK_PADDING,
                fee_limit_msat=MAX_MSAT,
                cltv_limit=MAX_ROUTE_BLOCKS if cltv_limit is None else cltv_limit,
            )
            route = find_route(wish, board.graph(node.pubkey, route_hints, payee=invoice_destination))
            if route is None:
                return None
            return RouteEstimate(fee_msat=Msat(route.fee_msat), time_lock_blocks=route.blocks)

        return await self._connection.call("estimate_fee", None, effect)


def _check_hash(invoice: str, payment_hash: PaymentHash) -> None:
    try:
        named = read_invoice(invoice).payment_hash
    except InvoiceError:
        return
    if named != payment_hash:
        raise Refused("the invoice is for another payment hash; nothing was sent")


def _unknown(payment_hash: PaymentHash) -> Payout:
    return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)
