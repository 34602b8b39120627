"""What the contract of the ports is tested on: three nodes in a row, and what can happen to them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState, LightningNode, Payout
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

PATIENCE_SECONDS = 60.0
CLTV = 80


class LightningWorld(Protocol):
    """A regtest network buyer - broker - provider, both channels with money on both sides.

    `pay` of every node gives up listening a few seconds after its time-out.
    """

    broker: LightningNode
    buyer: LightningNode
    provider: LightningNode

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        """Add blocks; every node has seen them when this returns. `force` where it ends a held HTLC."""
        ...

    async def kill_broker(self) -> None:
        """End the broker's node without warning."""
        ...

    async def start_broker(self) -> None:
        """Start the broker's node again; both channels can be used when this returns."""
        ...

    async def quiet(self) -> None:
        """Return when no HTLC waits in any channel."""
        ...

    async def close(self) -> None:
        """Give back the connections; a simulated network has made or lost no msat."""
        ...


def secret() -> Preimage:
    return Preimage(secrets.token_bytes(32))


async def until(check: Callable[[], Awaitable[bool]], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once `check` is true; fail the test after `seconds`."""
    end = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.05)


async def in_state(node: LightningNode, payment_hash: PaymentHash, state: InvoiceState) -> HoldInvoice:
    """Return the invoice once it is in `state`."""

    async def there() -> bool:
        hold = await node.lookup(payment_hash)
        return hold is not None and hold.state is state

    await until(there)
    hold = await node.lookup(payment_hash)
    assert hold is not None
    return hold


async def hold(
    node: LightningNode, preimage: Preimage, *, sat: int = 1_000, expiry_seconds: int = 3600
) -> str:
    """Return the payment request of a new hold invoice."""
    return await node.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(sat * 1000),
        expiry_seconds=expiry_seconds,
        cltv_blocks=CLTV,
        memo="test",
    )


async def pay(
    node: LightningNode,
    invoice: str,
    payment_hash: PaymentHash,
    *,
    fee_limit_msat: int = 100_000,
    cltv_limit: int = 1000,
    timeout_seconds: int = 60,
) -> Payout:
    return await node.pay(
        invoice=invoice,
        payment_hash=payment_hash,
        fee_limit_msat=Msat(fee_limit_msat),
        cltv_limit=cltv_limit,
        timeout_seconds=timeout_seconds,
    )


@asynccontextmanager
async def paying(
    node: LightningNode, invoice: str, payment_hash: PaymentHash
) -> AsyncIterator[asyncio.Task[Payout]]:
    """Pay in the background; the payment must have an outcome soon after the block."""
    task = asyncio.create_task(pay(node, invoice, payment_hash))
    try:
        yield task
        await asyncio.wait_for(asyncio.shield(task), PATIENCE_SECONDS)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def strangers_invoice(
    *,
    preimage: Preimage,
    amount_msat: int | None = 1_000_000,
    timestamp: int | None = None,
    network: Network = Network.REGTEST,
    min_final_cltv: int = 40,
) -> str:
    """Return an invoice of a node that nobody has a channel with."""
    return write_invoice(
        network=network,
        amount_msat=None if amount_msat is None else Msat(amount_msat),
        timestamp=int(time.time()) if timestamp is None else timestamp,
        payment_hash=preimage.payment_hash,
        payment_secret=secrets.token_hex(32),
        private_key=secrets.token_bytes(32),
        description="test",
        min_final_cltv=min_final_cltv,
    )
