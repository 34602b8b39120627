"""A node of a simulated network that lives in another process, as the port `LightningNode`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from lightwork_broker.lightning.closures import Closure, IncomingHtlc
from lightwork_broker.lightning.errors import InvoiceNotFound, LightningUnavailable, Refused
from lightwork_broker.lightning.ports import (
    Allowance,
    ChannelSlots,
    CreatedInvoice,
    HoldInvoice,
    NodeId,
    NodeSummary,
    Payout,
    PayoutStatus,
    RouteEstimate,
    SentPayment,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.remote import wire
from lightwork_contracts.bolt11 import RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.simulated import SIMULATED_PATH, SimulatedNetworkView

CALL_SECONDS = 15.0
"""Longer than the patience of the node's own connection, so that what it says is heard."""
PAY_MARGIN_SECONDS = 10.0
GLANCE_SECONDS = 5.0
RETRY_SECONDS = 0.25
SILENCE_SECONDS = 40.0
"""The server of a stream says every 15 s that it is still there."""

HOLD: TypeAdapter[HoldInvoice] = TypeAdapter(HoldInvoice)
HOLDS: TypeAdapter[tuple[HoldInvoice, ...]] = TypeAdapter(tuple[HoldInvoice, ...])
SENT: TypeAdapter[tuple[SentPayment, ...]] = TypeAdapter(tuple[SentPayment, ...])
SUMMARY: TypeAdapter[NodeSummary] = TypeAdapter(NodeSummary)
SLOTS: TypeAdapter[tuple[ChannelSlots, ...]] = TypeAdapter(tuple[ChannelSlots, ...])
CLOSURES: TypeAdapter[tuple[Closure, ...]] = TypeAdapter(tuple[Closure, ...])
INCOMING_HTLCS: TypeAdapter[tuple[IncomingHtlc, ...]] = TypeAdapter(tuple[IncomingHtlc, ...])
WAITING: TypeAdapter[tuple[WaitingHtlc, ...]] = TypeAdapter(tuple[WaitingHtlc, ...])
CREATED: TypeAdapter[CreatedInvoice] = TypeAdapter(CreatedInvoice)
ESTIMATE: TypeAdapter[RouteEstimate | None] = TypeAdapter(RouteEstimate | None)
REQUEST, FOUND = TypeAdapter(wire.PaymentRequest), TypeAdapter(wire.Found)
BALANCE, PAYOUT = TypeAdapter(wire.Balance), TypeAdapter(wire.PayoutView)
NETWORK, NOTHING = TypeAdapter(SimulatedNetworkView), TypeAdapter(None)
HEIGHT = TypeAdapter(int)

T = TypeVar("T")


class RemoteNode:
    """One node of the network at `url`. A lost connection is LightningUnavailable, and UNKNOWN for payments."""

    def __init__(
        self, url: str, name: str = "broker", *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._url, self._name = url.rstrip("/"), name
        self._client = httpx2.AsyncClient(
            base_url=f"{self._url}{SIMULATED_PATH}",
            transport=transport,
            timeout=CALL_SECONDS,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"RemoteNode({self._url!r}, {self._name!r})"

    async def network(self) -> SimulatedNetworkView:
        """Return the network itself, whose `id` is another one after each of its starts.

        Raises: LightningUnavailable.
        """
        return await self._answered("GET", "/network", NETWORK)

    # --- HoldInvoices -------------------------------------------------------------------------------------

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        body = wire.AddHold(
            payment_hash=payment_hash,
            value_msat=value_msat,
            expiry_seconds=expiry_seconds,
            cltv_blocks=cltv_blocks,
            memo=memo,
        )
        return (await self._call("add_hold", body, REQUEST)).payment_request

    async def settle(self, preimage: Preimage) -> None:
        await self._call("settle", wire.Settle(preimage=preimage.hex()), NOTHING)

    async def cancel(self, payment_hash: PaymentHash) -> None:
        await self._call("cancel", wire.AboutHash(payment_hash=payment_hash), NOTHING)

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return (await self._call("lookup", wire.AboutHash(payment_hash=payment_hash), FOUND)).invoice

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        return await self._call("pending_holds", None, HOLDS)

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        async with aclosing(self._stream(f"watch/{quote(payment_hash)}", HOLD)) as seen:
            async for invoice in seen:
                yield invoice
                if invoice.state.is_final:
                    return

    # --- Payouts ------------------------------------------------------------------------------------------

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        body = wire.Pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )
        return await self._payout("pay", body, payment_hash, seconds=timeout_seconds + PAY_MARGIN_SECONDS)

    async def track(self, payment_hash: PaymentHash) -> Payout:
        return await self._payout("track", wire.AboutHash(payment_hash=payment_hash), payment_hash)

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        end = time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            body = wire.Wait(payment_hash=payment_hash, seconds=min(left, GLANCE_SECONDS))
            seen = await self._payout("wait", body, payment_hash, seconds=CALL_SECONDS + GLANCE_SECONDS)
            left = end - time.monotonic()
            if seen.status.is_final or left <= 0:
                return seen
            if seen.status is PayoutStatus.UNKNOWN:
                await asyncio.sleep(min(left, RETRY_SECONDS))

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        return await self._call("sent_since", wire.SentSince(since=since), SENT)

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        body = wire.EstimateFee(
            invoice_destination=invoice_destination,
            amount_msat=amount_msat,
            final_cltv=final_cltv,
            cltv_limit=cltv_limit,
            route_hints=route_hints,
        )
        return await self._call("estimate_fee", body, ESTIMATE)

    # --- Invoices and NodeInfo ----------------------------------------------------------------------------

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        body = wire.AddInvoice(
            value_msat=value_msat, expiry_seconds=expiry_seconds, memo=memo, final_cltv=final_cltv
        )
        return await self._call("add_invoice", body, CREATED)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return (await self._call("lookup_invoice", wire.AboutHash(payment_hash=payment_hash), FOUND)).invoice

    async def summary(self) -> NodeSummary:
        return await self._call("summary", None, SUMMARY)

    async def allowance(self) -> Allowance:
        return Allowance()  # there are no macaroons on a simulated network

    async def local_balance_msat(self) -> Msat:
        return (await self._call("local_balance_msat", None, BALANCE)).balance_msat

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        return await self._call("channel_slots", None, SLOTS)

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        return await self._call("waiting_htlcs", None, WAITING)

    def blocks(self) -> AsyncGenerator[int, None]:
        return self._stream("blocks", HEIGHT)

    # --- Closures -----------------------------------------------------------------------------------------

    async def closures(self) -> tuple[Closure, ...]:
        return await self._call("closures", None, CLOSURES)

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        return await self._call("incoming_htlcs", wire.AboutHash(payment_hash=payment_hash), INCOMING_HTLCS)

    async def close(self) -> None:
        await self._client.aclose()

    # --- over the wire ------------------------------------------------------------------------------------

    def _path(self, rest: str) -> str:
        return f"/nodes/{quote(self._name)}/port/{rest}"

    async def _payout(
        self, method: str, body: BaseModel, payment_hash: PaymentHash, *, seconds: float = CALL_SECONDS
    ) -> Payout:
        try:
            return (await self._call(method, body, PAYOUT, seconds=seconds)).payout()
        except (LightningUnavailable, ValueError):
            return Payout(status=PayoutStatus.UNKNOWN, payment_hash=payment_hash)

    async def _call(
        self, method: str, body: BaseModel | None, answer: TypeAdapter[T], *, seconds: float = CALL_SECONDS
    ) -> T:
        return await self._answered("POST", self._path(method), answer, body=body, seconds=seconds)

    async def _answered(
        self,
        verb: str,
        path: str,
        answer: TypeAdapter[T],
        *,
        body: BaseModel | None = None,
        seconds: float = CALL_SECONDS,
    ) -> T:
        """Make one call.

        Raises: LightningError, the one that the node raised; LightningUnavailable when nothing usable came.
        """
        content = None if body is None else body.model_dump_json().encode()
        try:
            response = await self._client.request(
                verb, path, content=content, headers={"Content-Type": "application/json"}, timeout=seconds
            )
        except (httpx2.TransportError, RuntimeError) as error:
            # RuntimeError is what a client says that we have closed.
            raise _lost(self._url, error) from None
        if response.status_code == 422:
            raise Refused("the simulated network cannot read the call")
        try:
            if response.status_code == 200:
                return answer.validate_json(response.content)
            raise wire.Complaint.model_validate_json(response.content).error()
        except ValidationError:
            raise LightningUnavailable(
                f"{self._url} answered {response.status_code} and nothing that a simulated network says"
            ) from None

    async def _stream(self, rest: str, answer: TypeAdapter[T]) -> AsyncGenerator[T, None]:
        """Yield what a stream says. It raises at its end: who watches an invoice stops when it is final."""
        try:
            async with self._client.stream(
                "GET", self._path(rest), timeout=httpx2.Timeout(CALL_SECONDS, read=SILENCE_SECONDS)
            ) as response:
                if response.status_code == 422:
                    raise InvoiceNotFound("this is no payment hash")
                if response.status_code != 200:
                    raise LightningUnavailable(f"{self._url} answered {response.status_code}")
                async for event in httpx2.EventSource(response):
                    if event.event == wire.ENDED:
                        raise wire.Complaint.model_validate_json(event.data).error()
                    yield answer.validate_json(event.data)
        except (httpx2.TransportError, httpx2.SSEError, ValidationError, RuntimeError) as error:
            raise _lost(self._url, error) from None
        raise LightningUnavailable("the stream ended")


def _lost(url: str, error: Exception) -> LightningUnavailable:
    return LightningUnavailable(f"{url} gave no answer: {type(error).__name__}")
