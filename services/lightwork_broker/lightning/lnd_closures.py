"""What LND says of channels that were closed by force, and of single HTLCs that came in.

Before 0.21.3 LND could take a payer's spend of an HTLC for its own claim (lnd #10869); TAKEN is certain from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import grpc
import grpc.aio

from lightwork_broker.lightning.closures import ChannelNumber, Closure, HtlcEnd, IncomingHtlc
from lightwork_broker.lightning.errors import InvoiceNotFound, PermissionMissing
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_errors import keeps_no_record, translate
from lightwork_broker.lightning.lnd_stubs import (
    ChannelClose,
    CloseTypeNumber,
    ClosingChannel,
    HtlcStateNumber,
    Invoice,
    InvoiceHtlc,
    RequestName,
    ResolutionOutcomeNumber,
    ResolutionTypeNumber,
    request,
)
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MSAT_PER_SAT, Msat

BY_FORCE: Final = frozenset(
    {CloseTypeNumber.LOCAL_FORCE, CloseTypeNumber.REMOTE_FORCE, CloseTypeNumber.BREACH}
)
BACK: Final = frozenset(
    {ResolutionOutcomeNumber.TIMEOUT, ResolutionOutcomeNumber.ABANDONED, ResolutionOutcomeNumber.UNCLAIMED}
)
"""How LND says that it has not claimed an HTLC: its time was over, its invoice was cancelled, or others were faster."""


class LndClosures:
    """The port `Closures` on one LND."""

    def __init__(self, connection: LndConnection) -> None:
        self._connection = connection
        self._over: tuple[float, frozenset[ChannelNumber]] | None = None

    async def closures(self) -> tuple[Closure, ...]:
        closed = await self._closed()
        reply = await self._connection.call(
            lambda stubs: stubs.lightning.PendingChannels, request(RequestName.PENDING_CHANNELS)
        )
        going = (*reply.waiting_close_channels, *reply.pending_force_closing_channels)
        return (*map(closing, going), *(closure_of(one) for one in closed if one.close_type in BY_FORCE))

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        message = request(RequestName.LOOKUP, payment_hash=bytes.fromhex(payment_hash))
        try:
            found: Invoice = await self._connection.call(
                lambda stubs: stubs.invoices.LookupInvoiceV2, message
            )
        except InvoiceNotFound:
            return ()
        # Asked first: what was over by then, and is not in the record, is not going to be.
        over = await self._channels_that_are_over()
        return tuple([await self._incoming_htlc(htlc, over) for htlc in found.htlcs])

    async def _incoming_htlc(self, htlc: InvoiceHtlc, over: frozenset[ChannelNumber]) -> IncomingHtlc:
        return IncomingHtlc(
            channel=htlc.chan_id,
            amount_msat=Msat(htlc.amt_msat),
            is_settled=htlc.state == HtlcStateNumber.SETTLED,
            end=await self._end(htlc, is_over=htlc.chan_id in over),
        )

    async def _end(self, htlc: InvoiceHtlc, *, is_over: bool) -> HtlcEnd:
        message = request(RequestName.HTLC_RESOLUTION, chan_id=htlc.chan_id, htlc_index=htlc.htlc_index)
        try:
            told = await self._connection.raw_call(
                lambda stubs: stubs.lightning.LookupHtlcResolution, message
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return HtlcEnd.UNTOLD if is_over else HtlcEnd.WAITING
            if keeps_no_record(error):
                return HtlcEnd.UNTOLD
            failure = translate(error)
        else:
            return HtlcEnd.TAKEN if told.settled else HtlcEnd.RETURNED
        if isinstance(failure, PermissionMissing):
            return HtlcEnd.UNASKED
        raise failure

    async def _channels_that_are_over(self) -> frozenset[ChannelNumber]:
        """Return which channels are closed, with nothing on its way any more; a look may be a second old."""
        now = asyncio.get_running_loop().time()
        if self._over is None or now - self._over[0] >= self._connection.settings.summary_seconds:
            self._over = (now, frozenset(one.chan_id for one in await self._closed()))
        return self._over[1]

    async def _closed(self) -> Iterable[ChannelClose]:
        reply = await self._connection.call(
            lambda stubs: stubs.lightning.ClosedChannels, request(RequestName.CLOSED_CHANNELS)
        )
        return reply.channels


def closing(channel: ClosingChannel) -> Closure:
    """Return a channel whose money is on its way on the chain."""
    return Closure(point=channel.channel.channel_point, limbo_msat=Msat(channel.limbo_balance * MSAT_PER_SAT))


def closure_of(close: ChannelClose) -> Closure:
    """Return a channel of which nothing is on its way any more."""
    incoming = [one for one in close.resolutions if one.resolution_type == ResolutionTypeNumber.INCOMING_HTLC]

    def amounts(*outcomes: int) -> tuple[int, ...]:
        return tuple(sorted(one.amount_sat for one in incoming if one.outcome in outcomes))

    return Closure(
        point=close.channel_point,
        channel=close.chan_id,
        height=close.close_height,
        taken_sat=amounts(ResolutionOutcomeNumber.CLAIMED),
        returned_sat=amounts(*BACK),
    )
