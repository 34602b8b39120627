"""LND's invoices, held and plain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, assert_never

import grpc.aio

from lightwork_broker.lightning.errors import (
    HashInUse,
    InvoiceCanceled,
    InvoiceNotFound,
    InvoiceStillOpen,
    LightningUnavailable,
)
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_errors import translate
from lightwork_broker.lightning.lnd_stubs import (
    HtlcStateNumber,
    Invoice,
    InvoiceStateNumber,
    RequestName,
    request,
)
from lightwork_broker.lightning.ports import CreatedInvoice, HoldInvoice, InvoiceState
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

SILENCE_SECONDS: Final = 0.5
"""How long a subscription may say nothing before LND is asked whether it knows the invoice at all."""

PAGE: Final = 500
"""How many invoices are read at once."""


class LndInvoices:
    """The ports `HoldInvoices` and `Invoices` on one LND."""

    def __init__(self, connection: LndConnection) -> None:
        self._connection = connection

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        message = request(
            RequestName.ADD_HOLD,
            hash=bytes.fromhex(payment_hash),
            value_msat=value_msat,
            expiry=expiry_seconds,
            cltv_expiry=cltv_blocks,
            memo=memo,
        )
        try:
            reply = await self._connection.call(lambda stubs: stubs.invoices.AddHoldInvoice, message)
        except HashInUse:
            return await self._same_hold(payment_hash, value_msat=value_msat, memo=memo)
        return reply.payment_request

    async def _same_hold(self, payment_hash: PaymentHash, *, value_msat: Msat, memo: str) -> str:
        found = await self._find(payment_hash)
        if found is None:
            raise HashInUse("the hash was taken a moment ago and is not there now")
        hold = read_invoice(found)
        # An invoice of which LND itself knows the preimage is a plain one: its payment settles at once.
        same = (hold.value_msat, hold.memo) == (value_msat, memo)
        if found.r_preimage or hold.state.is_final or not same:
            raise HashInUse("the node has another invoice under this payment hash")
        return hold.payment_request

    async def settle(self, preimage: Preimage) -> None:
        # LND logs the preimage of a settle that fails, so one that must fail is never sent.
        hold = await self.lookup(preimage.payment_hash)
        if hold is None:
            raise InvoiceNotFound("the node has no invoice for this preimage")
        match hold.state:
            case InvoiceState.SETTLED:
                return
            case InvoiceState.OPEN:
                raise InvoiceStillOpen("nobody has paid this invoice in full yet")
            case InvoiceState.CANCELED:
                raise InvoiceCanceled("this invoice is cancelled")
            case InvoiceState.ACCEPTED:
                message = request(RequestName.SETTLE, preimage=preimage.reveal())
                await self._connection.call(lambda stubs: stubs.invoices.SettleInvoice, message)
            case _:
                assert_never(hold.state)

    async def cancel(self, payment_hash: PaymentHash) -> None:
        message = request(RequestName.CANCEL, payment_hash=bytes.fromhex(payment_hash))
        await self._connection.call(lambda stubs: stubs.invoices.CancelInvoice, message)

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        found = await self._find(payment_hash)
        return None if found is None else read_invoice(found)

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        found: list[HoldInvoice] = []
        offset = 0
        while True:
            message = request(
                RequestName.LIST_INVOICES, pending_only=True, index_offset=offset, num_max_invoices=PAGE
            )
            reply = await self._connection.call(lambda stubs: stubs.lightning.ListInvoices, message)
            found += [read_invoice(one) for one in reply.invoices if not one.r_preimage]
            if len(reply.invoices) < PAGE:
                return tuple(found)
            offset = reply.last_index_offset

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        message = request(RequestName.SUBSCRIBE, r_hash=bytes.fromhex(payment_hash))
        states = self._connection.stream(lambda stubs: stubs.invoices.SubscribeSingleInvoice, message)
        last: InvoiceState | None = None
        try:
            async with aclosing(states):
                async for found in self._speaking(states, payment_hash):
                    hold = read_invoice(found)
                    if hold.state is not last:
                        last = hold.state
                        yield hold
        except grpc.aio.AioRpcError as error:
            failure = translate(error)
        else:
            if last is not None and last.is_final:
                return
            failure = LightningUnavailable("the stream of invoice states ended before a final one")
        raise failure

    async def _speaking(
        self, states: AsyncGenerator[Invoice, None], payment_hash: PaymentHash
    ) -> AsyncGenerator[Invoice, None]:
        """Yield the states. LND tells the present one at once, and is silent for ever about an unknown hash."""
        first = asyncio.create_task(anext(states, None))
        try:
            await asyncio.wait({first}, timeout=SILENCE_SECONDS)
            if not first.done() and await self._find(payment_hash) is None:
                raise InvoiceNotFound("the node has no invoice under this payment hash")
            told = await first
        finally:
            if not first.done():
                first.cancel()
                await asyncio.wait({first})
        if told is not None:
            yield told
            async for found in states:
                yield found

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        message = request(
            RequestName.ADD_INVOICE,
            value_msat=value_msat,
            expiry=expiry_seconds,
            memo=memo,
            cltv_expiry=final_cltv,
        )
        reply = await self._connection.call(lambda stubs: stubs.lightning.AddInvoice, message)
        return CreatedInvoice(
            payment_request=reply.payment_request, payment_hash=PaymentHash(reply.r_hash.hex())
        )

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self.lookup(payment_hash)

    async def _find(self, payment_hash: PaymentHash) -> Invoice | None:
        message = request(RequestName.LOOKUP, payment_hash=bytes.fromhex(payment_hash))
        try:
            return await self._connection.call(lambda stubs: stubs.invoices.LookupInvoiceV2, message)
        except InvoiceNotFound:
            return None


def read_invoice(found: Invoice) -> HoldInvoice:
    """Return LND's invoice in our words; returned HTLCs are not counted."""
    held = [htlc for htlc in found.htlcs if htlc.state != HtlcStateNumber.CANCELED]
    waiting = [htlc.expiry_height for htlc in held if htlc.state == HtlcStateNumber.ACCEPTED]
    return HoldInvoice(
        payment_hash=PaymentHash(found.r_hash.hex()),
        state=_state(found.state),
        value_msat=Msat(found.value_msat),
        accepted_msat=Msat(sum(htlc.amt_msat for htlc in held)),
        min_expiry_height=min(waiting, default=None),
        payment_request=found.payment_request,
        htlc_count=len(held),
        add_index=found.add_index,
        memo=found.memo,
    )


def _state(number: int) -> InvoiceState:
    try:
        return InvoiceState[InvoiceStateNumber(number).name]
    except ValueError:
        raise LightningUnavailable(f"LND gave an invoice state that we do not know: {number}") from None
