"""A simulated market under a clock that stands still, and the few calls that its tests make all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from lightwork_broker.lightning.ports import HoldInvoice, Payout
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import (
    ManualTime,
    Patience,
    PlannedFaults,
    SimulatedNetwork,
    SimulatedNode,
)
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

T = TypeVar("T")

AMOUNT = Msat(1_000_000)
CLTV = 80


@dataclass
class Scene:
    """buyer - broker - provider, nothing random, no time but what a test lets pass."""

    clock: ManualTime = field(default_factory=ManualTime)
    faults: PlannedFaults = field(default_factory=PlannedFaults)
    seed: bytes = b"scene"
    latency_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.network = SimulatedNetwork.market(
            seed=self.seed,
            clock=self.clock,
            faults=self.faults,
            patience=Patience(latency_seconds=self.latency_seconds),
        )
        self.buyer, self.broker, self.provider = (
            self.network.node(name) for name in ("buyer", "broker", "provider")
        )


def secret(number: int = 1) -> Preimage:
    return Preimage(number.to_bytes(32, "big"))


async def hold(
    node: SimulatedNode, preimage: Preimage, *, msat: int = AMOUNT, expiry_seconds: int = 600
) -> str:
    return await node.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(msat),
        expiry_seconds=expiry_seconds,
        cltv_blocks=CLTV,
        memo="",
    )


async def invoice(node: SimulatedNode, *, msat: int = AMOUNT) -> tuple[str, PaymentHash]:
    made = await node.add_invoice(value_msat=Msat(msat), expiry_seconds=600, memo="", final_cltv=40)
    return made.payment_request, made.payment_hash


async def pay(
    node: SimulatedNode,
    text: str,
    payment_hash: PaymentHash,
    *,
    fee_limit_msat: int = 100_000,
    cltv_limit: int = 1_000,
) -> Payout:
    return await node.pay(
        invoice=text,
        payment_hash=payment_hash,
        fee_limit_msat=Msat(fee_limit_msat),
        cltv_limit=cltv_limit,
        timeout_seconds=60,
    )


@asynccontextmanager
async def going(work: Coroutine[None, None, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Let `work` run as far as it can before the block, and end it after."""
    task = asyncio.create_task(work)
    await settle_down()
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle_down() -> None:
    """Let every task run until it waits for the clock or for a change: nothing here waits for anything else."""
    for _ in range(20):
        await asyncio.sleep(0)


async def looked_up(node: SimulatedNode, payment_hash: PaymentHash) -> HoldInvoice:
    found = await node.lookup(payment_hash)
    assert found is not None
    return found
