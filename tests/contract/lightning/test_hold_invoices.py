"""The port HoldInvoices."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from contract.lightning.worlds import (
    CLTV,
    PATIENCE_SECONDS,
    LightningWorld,
    hold,
    in_state,
    pay,
    paying,
    secret,
)

from lightwork_broker.lightning.errors import (
    AlreadySettled,
    HashInUse,
    InvoiceCanceled,
    InvoiceNotFound,
    InvoiceStillOpen,
    Refused,
)
from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_contracts.bolt11 import Network, read_invoice
from lightwork_contracts.money import Msat


async def test_a_new_hold_invoice_is_open_and_says_what_was_asked(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await lightning.broker.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(1_234_567),
        expiry_seconds=777,
        cltv_blocks=144,
        memo="a job",
    )
    read = read_invoice(text)
    assert (read.payment_hash, read.amount_msat, read.expiry_seconds) == (
        preimage.payment_hash,
        1_234_567,
        777,
    )
    assert (read.min_final_cltv, read.description, read.network) == (144, "a job", Network.REGTEST)
    assert read.payee == (await lightning.broker.summary()).pubkey
    found = await lightning.broker.lookup(preimage.payment_hash)
    assert found is not None
    assert (found.state, found.value_msat, found.accepted_msat) == (InvoiceState.OPEN, 1_234_567, 0)
    assert (found.min_expiry_height, found.htlc_count, found.payment_request) == (None, 0, text)
    assert found.add_index > 0


async def test_an_unknown_hash_is_looked_up_as_none(lightning: LightningWorld) -> None:
    assert await lightning.broker.lookup(secret().payment_hash) is None


async def test_a_paid_hold_waits_and_settling_it_takes_the_money(lightning: LightningWorld) -> None:
    preimage = secret()
    before = await lightning.broker.local_balance_msat()
    height = (await lightning.broker.summary()).block_height
    text = await hold(lightning.broker, preimage, sat=5_000)
    async with paying(lightning.buyer, text, preimage.payment_hash) as payment:
        held = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        assert (held.accepted_msat, held.htlc_count) == (5_000_000, 1)
        assert held.min_expiry_height is not None
        assert held.min_expiry_height >= height + CLTV
        assert await lightning.broker.local_balance_msat() == before
        await lightning.broker.settle(preimage)
    outcome = payment.result()
    assert outcome.status is PayoutStatus.SUCCEEDED
    assert outcome.preimage == preimage
    settled = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.SETTLED)
    assert (settled.accepted_msat, settled.min_expiry_height) == (5_000_000, None)
    await lightning.quiet()
    assert await lightning.broker.local_balance_msat() == before + 5_000_000


async def test_cancelling_a_paid_hold_gives_the_money_back(lightning: LightningWorld) -> None:
    preimage = secret()
    before = await lightning.buyer.local_balance_msat()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash) as payment:
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        await lightning.broker.cancel(preimage.payment_hash)
    outcome = payment.result()
    assert outcome.status is PayoutStatus.FAILED
    assert outcome.failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS
    gone = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.CANCELED)
    assert (gone.accepted_msat, gone.min_expiry_height, gone.htlc_count) == (0, None, 0)
    await lightning.quiet()
    assert await lightning.buyer.local_balance_msat() == before


async def test_an_invoice_cancelled_while_open_cannot_be_paid(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    await lightning.broker.cancel(preimage.payment_hash)
    outcome = await pay(lightning.buyer, text, preimage.payment_hash)
    assert outcome.failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS


async def test_settling_and_cancelling_twice_is_the_same_as_once(lightning: LightningWorld) -> None:
    kept, returned = secret(), secret()
    text = await hold(lightning.broker, kept)
    async with paying(lightning.buyer, text, kept.payment_hash):
        await in_state(lightning.broker, kept.payment_hash, InvoiceState.ACCEPTED)
        await lightning.broker.settle(kept)
        await lightning.broker.settle(kept)
    await hold(lightning.broker, returned)
    await lightning.broker.cancel(returned.payment_hash)
    await lightning.broker.cancel(returned.payment_hash)


async def test_a_final_invoice_refuses_the_other_end(lightning: LightningWorld) -> None:
    kept, returned = secret(), secret()
    text = await hold(lightning.broker, kept)
    async with paying(lightning.buyer, text, kept.payment_hash):
        await in_state(lightning.broker, kept.payment_hash, InvoiceState.ACCEPTED)
        await lightning.broker.settle(kept)
    with pytest.raises(AlreadySettled):
        await lightning.broker.cancel(kept.payment_hash)
    await hold(lightning.broker, returned)
    await lightning.broker.cancel(returned.payment_hash)
    with pytest.raises(InvoiceCanceled):
        await lightning.broker.settle(returned)


async def test_an_unpaid_invoice_cannot_be_settled(lightning: LightningWorld) -> None:
    preimage = secret()
    await hold(lightning.broker, preimage)
    with pytest.raises(InvoiceStillOpen):
        await lightning.broker.settle(preimage)


async def test_what_the_node_does_not_know_it_neither_settles_nor_cancels(lightning: LightningWorld) -> None:
    with pytest.raises(InvoiceNotFound):
        await lightning.broker.settle(secret())
    with pytest.raises(InvoiceNotFound):
        await lightning.broker.cancel(secret().payment_hash)


async def test_adding_the_same_hold_again_returns_the_same_request(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    assert await hold(lightning.broker, preimage) == text
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        assert await hold(lightning.broker, preimage) == text
        await lightning.broker.cancel(preimage.payment_hash)


async def test_a_hash_with_another_amount_is_in_use(lightning: LightningWorld) -> None:
    preimage = secret()
    await hold(lightning.broker, preimage, sat=1_000)
    with pytest.raises(HashInUse):
        await hold(lightning.broker, preimage, sat=1_001)


async def test_a_hash_whose_invoice_is_cancelled_is_in_use(lightning: LightningWorld) -> None:
    preimage = secret()
    await hold(lightning.broker, preimage)
    await lightning.broker.cancel(preimage.payment_hash)
    with pytest.raises(HashInUse):
        await hold(lightning.broker, preimage)


async def test_a_hash_that_the_hold_of_another_broker_on_the_same_node_has_is_in_use(
    lightning: LightningWorld,
) -> None:
    # A provider may quote to both with one invoice. Each would take the other's payment for its own, and give it back.
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        found = await lightning.broker.lookup(preimage.payment_hash)
        assert found is not None
        with pytest.raises(HashInUse):
            await lightning.broker.add_hold(
                payment_hash=preimage.payment_hash,
                value_msat=found.value_msat,
                expiry_seconds=3600,
                cltv_blocks=CLTV,
                memo=f"{found.memo} of another broker",
            )
        await lightning.broker.cancel(preimage.payment_hash)


async def test_the_hash_of_a_plain_invoice_of_the_same_node_is_in_use(lightning: LightningWorld) -> None:
    plain = await lightning.broker.add_invoice(
        value_msat=Msat(1_000_000), expiry_seconds=3600, memo="plain", final_cltv=CLTV
    )
    with pytest.raises(HashInUse):
        await lightning.broker.add_hold(
            payment_hash=plain.payment_hash,
            value_msat=Msat(1_000_000),
            expiry_seconds=3600,
            cltv_blocks=CLTV,
            memo="held",
        )


async def test_a_final_cltv_that_the_node_finds_too_short_is_refused(lightning: LightningWorld) -> None:
    with pytest.raises(Refused):
        await lightning.broker.add_hold(
            payment_hash=secret().payment_hash,
            value_msat=Msat(1_000_000),
            expiry_seconds=3600,
            cltv_blocks=3,
            memo="",
        )


@pytest.mark.parametrize(
    "change",
    [
        {"value_msat": Msat(-1)},
        {"value_msat": Msat(10**17)},
        {"expiry_seconds": 31_536_001},
        {"cltv_blocks": 65_536},
        {"memo": "m" * 1_025},
    ],
    ids=lambda change: "-".join(change),
)
async def test_values_that_no_invoice_may_have_are_refused(
    lightning: LightningWorld, change: dict[str, Any]
) -> None:
    terms = {"value_msat": Msat(1_000_000), "expiry_seconds": 3600, "cltv_blocks": CLTV, "memo": ""}
    with pytest.raises(Refused):
        await lightning.broker.add_hold(payment_hash=secret().payment_hash, **(terms | change))


async def test_an_open_invoice_is_cancelled_by_the_clock_and_a_watch_hears_of_it(
    lightning: LightningWorld,
) -> None:
    preimage = secret()
    await hold(lightning.broker, preimage, expiry_seconds=1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        seen = [now.state async for now in lightning.broker.watch(preimage.payment_hash)]
    assert seen == [InvoiceState.OPEN, InvoiceState.CANCELED]
    with pytest.raises(InvoiceCanceled):
        await lightning.broker.settle(preimage)


async def test_a_watch_sees_every_state_and_ends_at_settled(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    seen: list[InvoiceState] = []

    async def watch() -> None:
        async for now in lightning.broker.watch(preimage.payment_hash):
            seen.append(now.state)
            if now.state is InvoiceState.OPEN:
                opened.set()
            if now.state is InvoiceState.ACCEPTED:
                assert now.accepted_msat == 1_000_000
                assert now.min_expiry_height is not None
                accepted.set()

    opened, accepted = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(watch())
    await asyncio.wait_for(opened.wait(), PATIENCE_SECONDS)
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await asyncio.wait_for(accepted.wait(), PATIENCE_SECONDS)
        await lightning.broker.settle(preimage)
        await asyncio.wait_for(watching, PATIENCE_SECONDS)
    assert seen == [InvoiceState.OPEN, InvoiceState.ACCEPTED, InvoiceState.SETTLED]


async def test_a_watch_that_comes_late_begins_with_the_state_as_it_is(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    seen: list[InvoiceState] = []
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        async for now in lightning.broker.watch(preimage.payment_hash):
            seen.append(now.state)
            if now.state is InvoiceState.ACCEPTED:
                await lightning.broker.cancel(preimage.payment_hash)
    assert seen == [InvoiceState.ACCEPTED, InvoiceState.CANCELED]
    assert [now.state async for now in lightning.broker.watch(preimage.payment_hash)] == [
        InvoiceState.CANCELED
    ]


async def test_a_watch_of_an_unknown_hash_ends_at_once(lightning: LightningWorld) -> None:
    watching = aiter(lightning.broker.watch(secret().payment_hash))
    with pytest.raises(InvoiceNotFound):
        await asyncio.wait_for(anext(watching), PATIENCE_SECONDS)


async def test_a_hold_whose_deadline_nears_is_returned_by_the_node_itself(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash) as payment:
        held = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        node = await lightning.broker.summary()
        assert held.min_expiry_height is not None
        assert node.hold_expiry_delta is not None
        blocks = held.min_expiry_height - node.hold_expiry_delta - node.block_height
        await lightning.mine(blocks - 1, force=True)
        assert await lightning.broker.lookup(preimage.payment_hash) == held
        await lightning.mine(1, force=True)
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.CANCELED)
    assert payment.result().failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS


async def test_what_is_held_or_may_be_paid_is_listed_with_its_memo_until_it_ends(
    lightning: LightningWorld,
) -> None:
    node, memo = lightning.broker, f"Lightwork echo {secrets.token_hex(8)}"

    async def listed() -> list[tuple[str, InvoiceState, int]]:
        return [
            (hold.payment_hash, hold.state, hold.accepted_msat)
            for hold in await node.pending_holds()
            if hold.memo == memo
        ]

    await node.add_invoice(value_msat=Msat(1_000_000), expiry_seconds=600, memo=memo, final_cltv=CLTV)
    assert await listed() == [], "a plain invoice is not held"
    preimage = secret()
    text = await node.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(1_000_000),
        expiry_seconds=600,
        cltv_blocks=CLTV,
        memo=memo,
    )
    assert await listed() == [(preimage.payment_hash, InvoiceState.OPEN, 0)]
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(node, preimage.payment_hash, InvoiceState.ACCEPTED)
        assert await listed() == [(preimage.payment_hash, InvoiceState.ACCEPTED, 1_000_000)]
        await node.cancel(preimage.payment_hash)
    assert await listed() == []
