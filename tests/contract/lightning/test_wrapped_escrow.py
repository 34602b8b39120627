"""The flow that the broker lives on: the provider's hash on the broker's hold invoice, paid on late."""

from __future__ import annotations

from contract.lightning.worlds import LightningWorld, in_state, pay, paying

from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_contracts.money import Msat

PRICE, FEE = Msat(10_000_000), Msat(101_001)


async def balances(lightning: LightningWorld) -> list[int]:
    nodes = (lightning.buyer, lightning.broker, lightning.provider)
    return [await node.local_balance_msat() for node in nodes]


async def test_the_wrapped_escrow_moves_price_and_fee_and_nothing_else(lightning: LightningWorld) -> None:
    before = await balances(lightning)
    work = await lightning.provider.add_invoice(
        value_msat=PRICE, expiry_seconds=3600, memo="work", final_cltv=40
    )
    text = await lightning.broker.add_hold(
        payment_hash=work.payment_hash,
        value_msat=Msat(PRICE + FEE),
        expiry_seconds=600,
        cltv_blocks=144,
        memo="job",
    )
    async with paying(lightning.buyer, text, work.payment_hash) as payment:
        held = await in_state(lightning.broker, work.payment_hash, InvoiceState.ACCEPTED)
        assert held.accepted_msat == PRICE + FEE
        out = await pay(lightning.broker, work.payment_request, work.payment_hash, fee_limit_msat=0)
        assert out.preimage is not None
        await lightning.broker.settle(out.preimage)
    assert payment.result().preimage == out.preimage
    await lightning.quiet()
    after = await balances(lightning)
    assert [now - then for now, then in zip(after, before, strict=True)] == [-(PRICE + FEE), FEE, PRICE]


async def test_an_escrow_whose_payout_fails_goes_back_whole(lightning: LightningWorld) -> None:
    before = await balances(lightning)
    work = await lightning.provider.add_invoice(
        value_msat=PRICE, expiry_seconds=3600, memo="work", final_cltv=40
    )
    text = await lightning.broker.add_hold(
        payment_hash=work.payment_hash,
        value_msat=Msat(PRICE + FEE),
        expiry_seconds=600,
        cltv_blocks=144,
        memo="job",
    )
    async with paying(lightning.buyer, text, work.payment_hash) as payment:
        await in_state(lightning.broker, work.payment_hash, InvoiceState.ACCEPTED)
        await lightning.provider.cancel(work.payment_hash)
        out = await pay(lightning.broker, work.payment_request, work.payment_hash)
        assert (out.status, out.failure) == (PayoutStatus.FAILED, PayoutFailure.INCORRECT_PAYMENT_DETAILS)
        await lightning.broker.cancel(work.payment_hash)
    assert payment.result().status is PayoutStatus.FAILED
    await lightning.quiet()
    after = await balances(lightning)
    assert after == before
