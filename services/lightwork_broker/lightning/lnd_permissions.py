"""What a macaroon allows, found out without moving money.

LND asks the macaroon before it looks at what is asked for. So each call is made in a way that LND can only refuse, with
a hash or a key of one byte: "permission denied" tells one thing, any other refusal the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc.aio
from google.protobuf.message import Message

from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_errors import is_away, keeps_no_record, translate
from lightwork_broker.lightning.lnd_stubs import LndStubs, RequestName, Streaming, Unary, request
from lightwork_broker.lightning.permissions import NEEDED
from lightwork_broker.lightning.ports import Allowance

MALFORMED: Final = b"\x00"
"""A hash or a preimage of the wrong length, which LND refuses before it does anything else."""


@dataclass(frozen=True, slots=True)
class _Probe:
    """A call that comes to nothing. One of `many` answers is a stream."""

    name: RequestName
    fields: dict[str, object]
    one: Callable[[LndStubs], Unary[object]] | None = None
    many: Callable[[LndStubs], Streaming[object]] | None = None

    def message(self) -> Message:
        return request(self.name, **self.fields)


_PROBES: Final = {
    "/invoicesrpc.Invoices/AddHoldInvoice": _Probe(
        RequestName.ADD_HOLD, {"hash": MALFORMED}, one=lambda stubs: stubs.invoices.AddHoldInvoice
    ),
    "/invoicesrpc.Invoices/CancelInvoice": _Probe(
        RequestName.CANCEL, {"payment_hash": MALFORMED}, one=lambda stubs: stubs.invoices.CancelInvoice
    ),
    "/invoicesrpc.Invoices/LookupInvoiceV2": _Probe(
        RequestName.LOOKUP, {"payment_hash": MALFORMED}, one=lambda stubs: stubs.invoices.LookupInvoiceV2
    ),
    "/invoicesrpc.Invoices/SettleInvoice": _Probe(
        RequestName.SETTLE, {"preimage": MALFORMED}, one=lambda stubs: stubs.invoices.SettleInvoice
    ),
    "/invoicesrpc.Invoices/SubscribeSingleInvoice": _Probe(
        RequestName.SUBSCRIBE,
        {"r_hash": MALFORMED},
        many=lambda stubs: stubs.invoices.SubscribeSingleInvoice,
    ),
    "/lnrpc.Lightning/GetInfo": _Probe(RequestName.GET_INFO, {}, one=lambda stubs: stubs.lightning.GetInfo),
    "/lnrpc.Lightning/QueryRoutes": _Probe(
        RequestName.QUERY_ROUTES, {"pub_key": "00", "amt": 1}, one=lambda stubs: stubs.lightning.QueryRoutes
    ),
    "/routerrpc.Router/SendPaymentV2": _Probe(
        RequestName.SEND,
        {"payment_request": "this is no invoice", "timeout_seconds": 1},
        many=lambda stubs: stubs.router.SendPaymentV2,
    ),
    "/routerrpc.Router/TrackPaymentV2": _Probe(
        RequestName.TRACK, {"payment_hash": MALFORMED}, many=lambda stubs: stubs.router.TrackPaymentV2
    ),
}
"""One for each of NEEDED."""

_NEEDLESS: Final = {
    "/lnrpc.Lightning/WalletBalance": _Probe(
        RequestName.WALLET_BALANCE, {}, one=lambda stubs: stubs.lightning.WalletBalance
    ),
    "/lnrpc.Lightning/BakeMacaroon": _Probe(
        RequestName.BAKE, {}, one=lambda stubs: stubs.lightning.BakeMacaroon
    ),
}
"""What a broker never does: one reads, and one with no permissions in it bakes nothing. Whoever may do these may do
much that a broker should not, such as emptying the on-chain wallet."""


class LndPermissions:
    """The part of the port `NodeInfo` that asks what the macaroon allows, on one LND."""

    def __init__(self, connection: LndConnection) -> None:
        self._connection = connection

    async def allowance(self) -> Allowance:
        needed, needless, forgets_htlcs = await asyncio.gather(
            asyncio.gather(*(self._may(_PROBES[uri]) for uri in NEEDED)),
            asyncio.gather(*(self._may(probe) for probe in _NEEDLESS.values())),
            self._forgets_htlcs(),
        )
        return Allowance(
            missing=tuple(uri for uri, may in zip(NEEDED, needed, strict=True) if not may),
            needless=tuple(uri for uri, may in zip(_NEEDLESS, needless, strict=True) if may),
            forgets_htlcs=forgets_htlcs,
        )

    async def _forgets_htlcs(self) -> bool:
        """Ask about an HTLC that there cannot be: a node with a record answers that it knows of none."""
        message = request(RequestName.HTLC_RESOLUTION, chan_id=0, htlc_index=0)
        try:
            await self._connection.raw_call(lambda stubs: stubs.lightning.LookupHtlcResolution, message)
        except grpc.aio.AioRpcError as error:
            return keeps_no_record(error)
        return False

    async def _may(self, probe: _Probe) -> bool:
        """Say whether LND would hear a call.

        Raises:
            LightningUnavailable: it gave no answer.
        """
        try:
            await self._ask(probe)
        except grpc.aio.AioRpcError as error:
            failure = translate(error)
            if isinstance(failure, PermissionMissing):
                return False
            if is_away(error):
                raise failure from None
        return True

    async def _ask(self, probe: _Probe) -> None:
        if probe.one is not None:
            await self._connection.raw_call(probe.one, probe.message())
        elif probe.many is not None:
            seconds = self._connection.settings.call_seconds
            async for _ in self._connection.stream(probe.many, probe.message(), seconds=seconds):
                raise LightningUnavailable("LND has taken for a call what was meant to be refused")
