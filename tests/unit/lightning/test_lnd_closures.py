"""What LND's record of an HTLC says while its channel is just being closed, which a real LND does not do on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import grpc
import grpc.aio
from lndgrpc.compiled import invoices_pb2, lightning_pb2

from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.lnd_closures import LndClosures
from lightwork_broker.lightning.lnd_connection import LndSettings
from lightwork_broker.lightning.preimage import Preimage

HASH = Preimage(b"\x07" * 32).payment_hash
CHANNEL = 115_448_720_982_016
STUBS = SimpleNamespace(
    lightning=SimpleNamespace(ClosedChannels="closed", LookupHtlcResolution="resolution"),
    invoices=SimpleNamespace(LookupInvoiceV2="invoice"),
)
Message = invoices_pb2.LookupInvoiceMsg | lightning_pb2.ClosedChannelsRequest


@dataclass
class Closing:
    """An LND of which a channel is over, with what became of its HTLC, from the moment it is asked for the HTLC."""

    over: bool = False
    settings: LndSettings = field(
        default_factory=lambda: LndSettings(address="", tls_cert=Path(), macaroon=Path(), summary_seconds=0)
    )

    async def call(self, method: Callable[[object], str], message: Message) -> object:
        del message
        if method(STUBS) == "invoice":
            htlc = lightning_pb2.InvoiceHTLC(chan_id=CHANNEL, htlc_index=1, amt_msat=5_000, state=1)
            return lightning_pb2.Invoice(htlcs=[htlc])
        closed = [lightning_pb2.ChannelCloseSummary(chan_id=CHANNEL)] if self.over else []
        return lightning_pb2.ClosedChannelsResponse(channels=closed)

    async def raw_call(self, method: Callable[[object], str], message: Message) -> object:
        del method, message
        if self.over:
            return lightning_pb2.LookupHtlcResolutionResponse(settled=False, offchain=False)
        self.over = True
        raise grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "")


async def test_an_htlc_whose_channel_is_over_a_moment_after_it_was_asked_about_is_asked_about_again() -> None:
    closures = LndClosures(Closing())
    # What is untold is so for good, and nobody would ask again: that it went back would never be known.
    assert [htlc.end for htlc in await closures.incoming_htlcs(HASH)] == [HtlcEnd.WAITING]
    assert [htlc.end for htlc in await closures.incoming_htlcs(HASH)] == [HtlcEnd.RETURNED]
