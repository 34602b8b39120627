"""The broker, with a node that ends the whole process (SIGKILL) at a named moment of a named call.

Run as a program. The file CRASH_PLAN holds `<call>:<before|after>`; the first such call removes the file and
dies, so that the same program started again is an honest broker. Everything else is the real thing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn

from lightwork_broker.app import create_app
from lightwork_broker.cli import BrokerServer
from lightwork_broker.lightning.closures import Closure, IncomingHtlc
from lightwork_broker.lightning.ports import (
    Allowance,
    ChannelSlots,
    CreatedInvoice,
    HoldInvoice,
    LightningNode,
    NodeId,
    NodeSummary,
    Payout,
    RouteEstimate,
    SentPayment,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.remote import RemoteNode
from lightwork_broker.logs import configure
from lightwork_broker.settings import BrokerSettings, LightningNetwork
from lightwork_contracts.bolt11 import RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

PLAN = "CRASH_PLAN"


class CrashingNode:
    """A Lightning node whose calls may be the last thing that the process does."""

    def __init__(self, node: LightningNode, *, plan: Path) -> None:
        self._node = node
        self._plan = plan

    def _reach(self, call: str, moment: str) -> None:
        if self._plan.exists() and self._plan.read_text() == f"{call}:{moment}":
            self._plan.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        self._reach("add_hold", "before")
        made = await self._node.add_hold(
            payment_hash=payment_hash,
            value_msat=value_msat,
            expiry_seconds=expiry_seconds,
            cltv_blocks=cltv_blocks,
            memo=memo,
        )
        self._reach("add_hold", "after")
        return made

    async def settle(self, preimage: Preimage) -> None:
        self._reach("settle", "before")
        await self._node.settle(preimage)
        self._reach("settle", "after")

    async def cancel(self, payment_hash: PaymentHash) -> None:
        self._reach("cancel", "before")
        await self._node.cancel(payment_hash)
        self._reach("cancel", "after")

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self._node.lookup(payment_hash)

    def watch(self, payment_hash: PaymentHash) -> AsyncIterator[HoldInvoice]:
        return self._node.watch(payment_hash)

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        self._reach("pay", "before")
        paid = await self._node.pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )
        self._reach("pay", "after")
        return paid

    async def track(self, payment_hash: PaymentHash) -> Payout:
        return await self._node.track(payment_hash)

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        return await self._node.wait(payment_hash, timeout)

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        return await self._node.estimate_fee(
            invoice_destination=invoice_destination,
            amount_msat=amount_msat,
            final_cltv=final_cltv,
            cltv_limit=cltv_limit,
            route_hints=route_hints,
        )

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        return await self._node.add_invoice(
            value_msat=value_msat, expiry_seconds=expiry_seconds, memo=memo, final_cltv=final_cltv
        )

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self._node.lookup_invoice(payment_hash)

    async def summary(self) -> NodeSummary:
        return await self._node.summary()

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        return await self._node.pending_holds()

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        return await self._node.sent_since(since)

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        return await self._node.channel_slots()

    async def closures(self) -> tuple[Closure, ...]:
        return await self._node.closures()

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        return await self._node.incoming_htlcs(payment_hash)

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        self._reach("waiting_htlcs", "before")
        waiting = await self._node.waiting_htlcs()
        self._reach("waiting_htlcs", "after")
        return waiting

    async def allowance(self) -> Allowance:
        return await self._node.allowance()

    async def local_balance_msat(self) -> Msat:
        return await self._node.local_balance_msat()

    def blocks(self) -> AsyncIterator[int]:
        return self._node.blocks()

    async def close(self) -> None:
        await self._node.close()


def open_real(settings: BrokerSettings) -> LightningNode:
    """Open the node that the settings name, as `lightwork broker run` does."""
    if settings.network is LightningNetwork.SIMULATED:
        return RemoteNode(settings.simulated_url)
    from lightwork_broker.lightning.lnd import LndSettings, open_node

    return open_node(
        LndSettings(
            address=settings.lnd_address, tls_cert=settings.lnd_tls_cert, macaroon=settings.lnd_macaroon
        )
    )


async def serve() -> None:
    """Serve until ended, as `lightwork broker run` does."""
    configure(as_json=False)
    settings = BrokerSettings()
    node: LightningNode = CrashingNode(open_real(settings), plan=Path(os.environ[PLAN]))
    config = uvicorn.Config(
        create_app(settings, node),
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        lifespan="on",
    )
    await BrokerServer(config).serve()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
