"""Paying through LND. Only LND's own final state is an outcome; every error on the way to it is UNKNOWN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import grpc
import grpc.aio

from lightwork_broker.lightning.errors import PermissionMissing, Refused
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_errors import is_no_route, refusal, translate
from lightwork_broker.lightning.lnd_stubs import Payment, PaymentStatusNumber, RequestName, request
from lightwork_broker.lightning.ports import (
    NodeId,
    Payout,
    PayoutFailure,
    PayoutStatus,
    RouteEstimate,
    SentPayment,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import Hop, InvoiceError, RouteHint, read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MAX_MSAT, Msat

BLOCK_PADDING: Final = 3
"""Blocks that LND's payment session adds to the final hop (LND: routing/payment_session.go)."""

RETRY_SECONDS: Final = 0.25
PAGE: Final = 500
"""How many payments are read at once."""

FAILURES: Final = {
    1: PayoutFailure.TIMEOUT,
    2: PayoutFailure.NO_ROUTE,
    3: PayoutFailure.ERROR,
    4: PayoutFailure.INCORRECT_PAYMENT_DETAILS,
    5: PayoutFailure.INSUFFICIENT_BALANCE,
    6: PayoutFailure.CANCELED,
}
"""lnrpc.PaymentFailureReason by number; 6 is newer than the stubs."""


class LndPayouts:
    """The port `Payouts` on one LND."""

    def __init__(self, connection: LndConnection) -> None:
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
        _check_hash(invoice, payment_hash)
        settings = self._connection.settings
        message = request(
            RequestName.SEND,
            payment_request=invoice,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
            max_parts=settings.max_parts,
            no_inflight_updates=True,
        )
        patience = timeout_seconds + settings.pay_margin_seconds
        updates = self._connection.stream(lambda stubs: stubs.router.SendPaymentV2, message, seconds=patience)
        try:
            outcome = await _last(updates, payment_hash)
        except grpc.aio.AioRpcError as error:
            return await self._after_error(error, payment_hash, patience=patience)
        return outcome if outcome.status.is_final else await self._look_again(payment_hash)

    async def _after_error(
        self, error: grpc.aio.AioRpcError, payment_hash: PaymentHash, *, patience: float
    ) -> Payout:
        if error.code() is grpc.StatusCode.ALREADY_EXISTS:
            return await self.wait(payment_hash, patience)
        cause = translate(error)
        if isinstance(cause, PermissionMissing):
            raise cause
        refused = refusal(error)
        if refused is None:
            return await self._look_again(payment_hash)
        # LND looks at the invoice before it looks whether the hash is on its way already.
        known = await self.track(payment_hash)
        if known.failure is PayoutFailure.NEVER_SENT:
            return _failed(payment_hash, refused)
        return known

    async def _look_again(self, payment_hash: PaymentHash) -> Payout:
        """Track after a lost stream. A failure found there may be an older attempt's, and this one on its way."""
        known = await self.track(payment_hash)
        return _unknown(payment_hash) if known.status is PayoutStatus.FAILED else known

    async def track(self, payment_hash: PaymentHash) -> Payout:
        seconds = self._connection.settings.call_seconds
        updates = self._track(payment_hash, seconds=seconds)
        try:
            async with aclosing(updates):
                async for payment in updates:
                    return read_payment(payment, payment_hash)
        except grpc.aio.AioRpcError as error:
            return _from_track_error(error, payment_hash)
        return _unknown(payment_hash)

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        seen = _unknown(payment_hash)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    updates = self._track(payment_hash, seconds=None)
                    try:
                        async with aclosing(updates):
                            async for payment in updates:
                                seen = read_payment(payment, payment_hash)
                                if seen.status.is_final:
                                    return seen
                    except grpc.aio.AioRpcError as error:
                        seen = _from_track_error(error, payment_hash)
                        if seen.status.is_final:
                            return seen
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            return seen

    def _track(self, payment_hash: PaymentHash, *, seconds: float | None) -> AsyncGenerator[Payment, None]:
        # With updates in flight LND answers at once; without, it is silent about a stuck payment for ever.
        message = request(
            RequestName.TRACK, payment_hash=bytes.fromhex(payment_hash), no_inflight_updates=False
        )
        return self._connection.stream(lambda stubs: stubs.router.TrackPaymentV2, message, seconds=seconds)

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        found: list[SentPayment] = []
        offset = 0
        while True:
            message = request(
                RequestName.LIST_PAYMENTS,
                include_incomplete=True,
                index_offset=offset,
                max_payments=PAGE,
                creation_date_start=max(0, int(since)),
            )
            reply = await self._connection.call(lambda stubs: stubs.lightning.ListPayments, message)
            found += [
                SentPayment(
                    payment_hash=PaymentHash(one.payment_hash),
                    amount_msat=Msat(one.value_msat),
                    fee_msat=Msat(one.fee_msat),
                )
                for one in reply.payments
                if one.status != PaymentStatusNumber.FAILED
            ]
            if len(reply.payments) < PAGE:
                return tuple(found)
            offset = reply.last_index_offset

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        message = request(
            RequestName.QUERY_ROUTES,
            pub_key=invoice_destination,
            amt_msat=amount_msat,
            final_cltv_delta=final_cltv,
            # LND compares its limit with and without padding in different places: keep it out of both.
            cltv_limit=0 if cltv_limit is None else max(cltv_limit - BLOCK_PADDING, 1),
            # Without a limit of ours LND takes the amount as one, which hides routes for small amounts.
            fee_limit=request(RequestName.FEE_LIMIT, fixed_msat=MAX_MSAT),
            use_mission_control=True,
            route_hints=[
                request(RequestName.ROUTE_HINT, hop_hints=[_hop_hint(hop) for hop in hint])
                for hint in route_hints
            ],
        )
        height = await self._connection.call(
            lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO)
        )
        try:
            reply = await self._connection.raw_call(lambda stubs: stubs.lightning.QueryRoutes, message)
        except grpc.aio.AioRpcError as error:
            if is_no_route(error):
                return None
            failure = translate(error)
        else:
            best = min(reply.routes, key=lambda route: route.total_fees_msat, default=None)
            if best is None:
                return None
            return RouteEstimate(
                fee_msat=Msat(best.total_fees_msat),
                time_lock_blocks=best.total_time_lock - height.block_height + BLOCK_PADDING,
            )
        raise failure


def _check_hash(invoice: str, payment_hash: PaymentHash) -> None:
    """Stop a payment that would be tracked under another hash than it runs under."""
    try:
        named = read_invoice(invoice).payment_hash
    except InvoiceError:
        # Whether it can be paid is for LND to say; what LND cannot read it does not pay.
        return
    if named != payment_hash:
        raise Refused("the invoice is for another payment hash; nothing was sent")


async def _last(updates: AsyncGenerator[Payment, None], payment_hash: PaymentHash) -> Payout:
    """Return the first final outcome of a stream, or UNKNOWN when it ends without one."""
    async with aclosing(updates):
        async for payment in updates:
            outcome = read_payment(payment, payment_hash)
            if outcome.status.is_final:
                return outcome
    return _unknown(payment_hash)


def read_payment(payment: Payment, payment_hash: PaymentHash) -> Payout:
    """Return LND's payment in our words. A success without the right preimage is UNKNOWN, never success."""
    if payment.payment_hash != payment_hash:
        return _unknown(payment_hash)
    match payment.status:
        case PaymentStatusNumber.SUCCEEDED:
            try:
                preimage = Preimage.from_hex(payment.payment_preimage)
            except ValueError:
                return _unknown(payment_hash)
            if not preimage.matches(payment_hash):
                return _unknown(payment_hash)
            return Payout(
                status=PayoutStatus.SUCCEEDED,
                payment_hash=payment_hash,
                preimage=preimage,
                fee_msat=Msat(payment.fee_msat),
            )
        case PaymentStatusNumber.FAILED:
            return _failed(payment_hash, FAILURES.get(payment.failure_reason, PayoutFailure.ERROR))
        case PaymentStatusNumber.IN_FLIGHT | PaymentStatusNumber.INITIATED:
            return Payout(status=PayoutStatus.IN_FLIGHT, payment_hash=payment_hash)
        case _:
            return _unknown(payment_hash)


def _from_track_error(error: grpc.aio.AioRpcError, payment_hash: PaymentHash) -> Payout:
    if error.code() is grpc.StatusCode.NOT_FOUND and "payment isn't initiated" in (error.details() or ""):
        return _failed(payment_hash, PayoutFailure.NEVER_SENT)
    cause = translate(error)
    if isinstance(cause, PermissionMissing):
        raise cause
    return _unknown(payment_hash)


def _failed(payment_hash: PaymentHash, failure: PayoutFailure) -> Payout:
    return Payout(status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=failure)


def _unknown(payment_hash: PaymentHash) -> Payout:
    return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)


def _hop_hint(hop: Hop) -> object:
    return request(
        RequestName.HOP_HINT,
        node_id=hop.node,
        chan_id=hop.short_channel_id,
        fee_base_msat=hop.fee_base_msat,
        fee_proportional_millionths=hop.fee_proportional_millionths,
        cltv_expiry_delta=hop.cltv_expiry_delta,
    )
