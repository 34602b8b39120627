"""What survives when the broker's node is killed, and what the ports say meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from contract.lightning.worlds import PATIENCE_SECONDS, LightningWorld, hold, in_state, pay, paying, secret

from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus


async def test_a_hold_survives_the_death_of_its_node(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    seen: list[InvoiceState] = []
    accepted = asyncio.Event()

    async def watch() -> None:
        async for now in lightning.broker.watch(preimage.payment_hash):
            seen.append(now.state)
            if now.state is InvoiceState.ACCEPTED:
                accepted.set()

    async with paying(lightning.buyer, text, preimage.payment_hash) as payment:
        watching = asyncio.create_task(watch())
        await asyncio.wait_for(accepted.wait(), PATIENCE_SECONDS)
        before = await lightning.broker.lookup(preimage.payment_hash)
        await lightning.kill_broker()
        with pytest.raises(LightningUnavailable):
            await asyncio.wait_for(watching, PATIENCE_SECONDS)
        with pytest.raises(LightningUnavailable):
            await lightning.broker.lookup(preimage.payment_hash)
        with pytest.raises(LightningUnavailable):
            await lightning.broker.summary()
        assert (await lightning.broker.track(preimage.payment_hash)).status is PayoutStatus.UNKNOWN
        await lightning.start_broker()
        assert await lightning.broker.lookup(preimage.payment_hash) == before
        await lightning.broker.settle(preimage)
    assert payment.result().preimage == preimage


async def test_a_payment_whose_node_dies_is_unknown_and_then_what_the_payee_made_of_it(
    lightning: LightningWorld,
) -> None:
    kept, returned = secret(), secret()
    for preimage in (kept, returned):
        text = await hold(lightning.provider, preimage)
        payment = asyncio.create_task(pay(lightning.broker, text, preimage.payment_hash))
        await in_state(lightning.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
        if preimage is returned:
            await lightning.kill_broker()
            assert (await asyncio.wait_for(payment, PATIENCE_SECONDS)).status is PayoutStatus.UNKNOWN
            # A node that is down cannot be paid from, and that is no failure of the payment either.
            assert (await pay(lightning.broker, text, preimage.payment_hash)).status is PayoutStatus.UNKNOWN
        else:
            payment.cancel()
            await asyncio.gather(payment, return_exceptions=True)
    waiting = asyncio.create_task(lightning.broker.wait(kept.payment_hash, 90))
    await lightning.start_broker()
    assert (await lightning.broker.track(kept.payment_hash)).status is PayoutStatus.IN_FLIGHT
    await lightning.provider.settle(kept)
    await lightning.provider.cancel(returned.payment_hash)
    assert (await waiting).preimage == kept
    assert (await lightning.broker.wait(returned.payment_hash, 30)).status is PayoutStatus.FAILED
    await lightning.quiet()
