"""What blocks and absent nodes do to HTLCs on the simulated network."""

from __future__ import annotations

import asyncio

import pytest
from unit.lightning.simulated_scene import CLTV, Scene, going, hold, looked_up, pay, secret, settle_down

from lightwork_broker.lightning.errors import InvoiceCanceled, InvoiceStillOpen
from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated.network import MARKET_CAPACITY
from lightwork_broker.lightning.simulated.routes import BLOCK_PADDING

DELTA = 18


async def test_every_hop_of_a_held_payment_is_locked_and_the_first_the_longest() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)):
        last, first = scene.network.waiting()
        assert (first.amount_msat, last.amount_msat) == (1_001_001, 1_000_000)
        assert last.expiry_height - scene.network.height == CLTV + BLOCK_PADDING
        assert first.expiry_height - last.expiry_height == 80
        scene.network.check()


async def test_a_held_payment_goes_back_by_itself_before_its_deadline_and_not_a_block_sooner() -> None:
    scene = Scene()
    text = await hold(scene.broker, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        deadline = scene.network.next_deadline()
        assert deadline == scene.network.height + CLTV + BLOCK_PADDING - DELTA
        scene.network.mine(deadline - scene.network.height - 1)
        assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.ACCEPTED
        scene.network.mine()
        assert (await payment).failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS
    assert scene.network.next_deadline() is None
    with pytest.raises(InvoiceCanceled):
        await scene.broker.settle(secret())


async def test_a_node_without_automatic_cancelling_holds_until_the_chain_decides() -> None:
    scene = Scene()
    keeper = scene.network.add_node("keeper", hold_expiry_delta=0)
    scene.network.open_channel("broker", "keeper", capacity_msat=MARKET_CAPACITY)
    text = await hold(keeper, secret())
    async with going(pay(scene.broker, text, secret().payment_hash)) as payment:
        scene.network.mine(CLTV + BLOCK_PADDING - 1)
        assert (await looked_up(keeper, secret().payment_hash)).state is InvoiceState.ACCEPTED
        scene.network.mine()
        assert (await payment).status is PayoutStatus.FAILED
    scene.network.check()


async def test_a_payee_that_is_down_at_the_deadline_loses_the_payment_to_the_chain() -> None:
    scene = Scene()
    before = await scene.buyer.local_balance_msat()
    text = await hold(scene.broker, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.stop("broker")
        scene.network.mine(CLTV + BLOCK_PADDING - 1)
        assert not payment.done()
        scene.network.mine()
        assert (await payment).failure is PayoutFailure.TIMEOUT
    scene.network.start("broker")
    assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.CANCELED
    assert await scene.buyer.local_balance_msat() == before


async def test_a_payee_that_comes_back_after_its_deadline_cancels_at_once() -> None:
    scene = Scene()
    text = await hold(scene.broker, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.stop("broker")
        scene.network.mine(CLTV)
        assert not payment.done()
        scene.network.start("broker")
        assert (await payment).failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS


async def test_a_preimage_waits_for_a_node_on_the_way_that_is_down() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.stop("broker")
        await scene.provider.settle(secret())
        await settle_down()
        assert not payment.done()
        assert len(scene.network.waiting()) == 2
        scene.network.start("broker")
        assert (await payment).preimage == secret()
    assert scene.network.waiting() == ()
    scene.network.check()


async def test_a_preimage_is_claimed_on_chain_when_the_other_end_stays_away() -> None:
    scene = Scene()
    rich = await scene.provider.local_balance_msat()
    text = await hold(scene.provider, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.lock("broker")
        await scene.provider.settle(secret())
        scene.network.mine(CLTV + BLOCK_PADDING)
        assert await scene.provider.local_balance_msat() == rich + 1_000_000
        assert not payment.done()
        scene.network.start("broker")
        assert (await payment).preimage == secret()


async def test_a_payer_that_was_down_learns_the_outcome_when_it_starts() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    async with going(pay(scene.broker, text, secret().payment_hash)) as payment:
        scene.network.stop("broker")
        assert (await payment).status is PayoutStatus.UNKNOWN
    await scene.provider.settle(secret())
    scene.network.start("broker")
    assert (await scene.broker.track(secret().payment_hash)).preimage == secret()


async def test_a_channel_to_a_node_that_is_down_carries_nothing() -> None:
    scene = Scene()
    near, far = await hold(scene.broker, secret(1)), await hold(scene.provider, secret(2))
    scene.network.stop("broker")
    # LND counts a channel without its peer as empty.
    assert (
        await pay(scene.buyer, near, secret(1).payment_hash)
    ).failure is PayoutFailure.INSUFFICIENT_BALANCE
    scene.network.start("broker")
    scene.network.stop("provider")
    assert (await pay(scene.buyer, far, secret(2).payment_hash)).failure is PayoutFailure.NO_ROUTE
    scene.network.start("provider")
    async with going(pay(scene.buyer, far, secret(2).payment_hash)):
        assert (await looked_up(scene.provider, secret(2).payment_hash)).state is InvoiceState.ACCEPTED


async def test_the_clock_cancels_an_open_invoice_and_never_an_accepted_one() -> None:
    scene = Scene()
    await hold(scene.broker, secret(1), expiry_seconds=100)
    text = await hold(scene.broker, secret(2), expiry_seconds=100)
    async with going(pay(scene.buyer, text, secret(2).payment_hash)):
        scene.clock.advance(99.5)
        with pytest.raises(InvoiceStillOpen):
            await scene.broker.settle(secret(1))
        scene.clock.advance(0.5)
        assert (await looked_up(scene.broker, secret(1).payment_hash)).state is InvoiceState.CANCELED
        assert (await looked_up(scene.broker, secret(2).payment_hash)).state is InvoiceState.ACCEPTED


async def test_a_watch_hears_that_an_open_invoice_has_expired() -> None:
    scene = Scene()
    await hold(scene.broker, secret(), expiry_seconds=100)

    async def states() -> list[InvoiceState]:
        return [now.state async for now in scene.broker.watch(secret().payment_hash)]

    async with going(states()) as watching:
        scene.clock.advance(100)
        assert await asyncio.wait_for(watching, 5) == [InvoiceState.OPEN, InvoiceState.CANCELED]


async def test_a_node_that_does_not_follow_the_chain_says_so() -> None:
    scene = Scene()
    scene.network.set_synced("broker", synced=False)
    assert not (await scene.broker.summary()).synced_to_chain


async def test_a_payment_that_is_stuck_on_the_way_is_in_flight_and_its_payee_knows_nothing() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    scene.network.stall("broker")
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        assert (await scene.buyer.track(secret().payment_hash)).status is PayoutStatus.IN_FLIGHT
        assert (await looked_up(scene.provider, secret().payment_hash)).state is InvoiceState.OPEN
        scene.network.flow("broker")
        assert (await looked_up(scene.provider, secret().payment_hash)).state is InvoiceState.ACCEPTED
        await scene.provider.settle(secret())
        assert (await payment).preimage == secret()


@pytest.mark.parametrize(("late", "state"), [(3, InvoiceState.ACCEPTED), (4, InvoiceState.OPEN)])
async def test_the_payee_takes_what_comes_as_late_as_the_padding_and_refuses_what_comes_later(
    late: int, state: InvoiceState
) -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    scene.network.stall("broker")
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.mine(late)
        scene.network.flow("broker")
        assert (await looked_up(scene.provider, secret().payment_hash)).state is state
        await settle_down()
        if state is InvoiceState.OPEN:
            assert (await payment).failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS
        else:
            assert not payment.done()


async def test_what_is_stuck_until_its_deadline_goes_back_and_is_not_sent_on() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    scene.network.stall("broker")
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.mine(CLTV + BLOCK_PADDING + 80)
        assert (await payment).failure is PayoutFailure.TIMEOUT
    scene.network.flow("broker")
    assert scene.network.waiting() == ()
    assert (await looked_up(scene.provider, secret().payment_hash)).state is InvoiceState.OPEN


async def test_a_hop_that_has_lost_its_money_meanwhile_sends_the_payment_back() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    scene.network.stall("broker")
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.network.stop("provider")
        scene.network.flow("broker")
        assert (await payment).failure is PayoutFailure.NO_ROUTE
    scene.network.check()
