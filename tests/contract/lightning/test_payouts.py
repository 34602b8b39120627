"""The port Payouts."""

from __future__ import annotations

import asyncio
import time

import pytest
from contract.lightning.worlds import (
    LightningWorld,
    hold,
    in_state,
    pay,
    paying,
    secret,
    strangers_invoice,
    until,
)

from lightwork_broker.lightning.errors import Refused
from lightwork_broker.lightning.ports import CreatedInvoice, InvoiceState, PayoutFailure, PayoutStatus
from lightwork_contracts.bolt11 import Hop
from lightwork_contracts.money import Msat

FINAL_CLTV = 40


async def invoice_of_provider(lightning: LightningWorld, *, msat: int = 1_000_000) -> CreatedInvoice:
    return await lightning.provider.add_invoice(
        value_msat=Msat(msat), expiry_seconds=3600, memo="work", final_cltv=FINAL_CLTV
    )


async def test_a_payment_moves_exactly_the_amount_and_returns_the_preimage(lightning: LightningWorld) -> None:
    rich, poor = await lightning.provider.local_balance_msat(), await lightning.broker.local_balance_msat()
    made = await invoice_of_provider(lightning, msat=1_234_567)
    outcome = await pay(lightning.broker, made.payment_request, made.payment_hash, fee_limit_msat=0)
    assert (outcome.status, outcome.fee_msat, outcome.failure) == (PayoutStatus.SUCCEEDED, 0, None)
    assert outcome.preimage is not None
    assert outcome.preimage.matches(made.payment_hash)
    await lightning.quiet()
    assert await lightning.provider.local_balance_msat() == rich + 1_234_567
    assert await lightning.broker.local_balance_msat() == poor - 1_234_567
    found = await lightning.provider.lookup_invoice(made.payment_hash)
    assert found is not None
    assert (found.state, found.accepted_msat) == (InvoiceState.SETTLED, 1_234_567)


async def test_a_routed_payment_costs_the_fee_that_it_reports(lightning: LightningWorld) -> None:
    buyer, broker = await lightning.buyer.local_balance_msat(), await lightning.broker.local_balance_msat()
    made = await invoice_of_provider(lightning, msat=50_000_000)
    outcome = await pay(lightning.buyer, made.payment_request, made.payment_hash)
    assert outcome.fee_msat is not None
    assert outcome.fee_msat > 0
    await lightning.quiet()
    assert await lightning.buyer.local_balance_msat() == buyer - 50_000_000 - outcome.fee_msat
    assert await lightning.broker.local_balance_msat() == broker + outcome.fee_msat


async def test_paying_twice_gives_the_same_outcome_and_moves_the_money_once(
    lightning: LightningWorld,
) -> None:
    before = await lightning.provider.local_balance_msat()
    made = await invoice_of_provider(lightning)
    first = await pay(lightning.broker, made.payment_request, made.payment_hash)
    again = await pay(lightning.broker, made.payment_request, made.payment_hash)
    assert first.status is PayoutStatus.SUCCEEDED
    assert again == first
    await lightning.quiet()
    assert await lightning.provider.local_balance_msat() == before + 1_000_000


async def test_two_at_once_pay_once_and_both_learn_the_outcome(lightning: LightningWorld) -> None:
    before = await lightning.provider.local_balance_msat()
    made = await invoice_of_provider(lightning)
    outcomes = await asyncio.gather(
        *(pay(lightning.broker, made.payment_request, made.payment_hash) for _ in range(3))
    )
    assert {outcome.status for outcome in outcomes} == {PayoutStatus.SUCCEEDED}
    await lightning.quiet()
    assert await lightning.provider.local_balance_msat() == before + 1_000_000


async def test_a_payee_without_channels_cannot_be_reached(lightning: LightningWorld) -> None:
    preimage = secret()
    outcome = await pay(lightning.broker, strangers_invoice(preimage=preimage), preimage.payment_hash)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.NO_ROUTE)
    assert await lightning.broker.track(preimage.payment_hash) == outcome


async def test_an_expired_invoice_is_refused_and_never_sent(lightning: LightningWorld) -> None:
    preimage = secret()
    old = strangers_invoice(preimage=preimage, timestamp=int(time.time()) - 100_000)
    outcome = await pay(lightning.broker, old, preimage.payment_hash)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.INVOICE_EXPIRED)
    tracked = await lightning.broker.track(preimage.payment_hash)
    assert tracked.failure is PayoutFailure.NEVER_SENT


async def test_a_payee_that_does_not_know_the_invoice_any_more_refuses(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.provider, preimage)
    await lightning.provider.cancel(preimage.payment_hash)
    outcome = await pay(lightning.broker, text, preimage.payment_hash)
    assert outcome.status is PayoutStatus.FAILED
    assert outcome.failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS


async def test_a_fee_limit_below_the_route_fails_and_a_higher_one_may_try_again(
    lightning: LightningWorld,
) -> None:
    made = await invoice_of_provider(lightning, msat=50_000_000)
    poor = await pay(lightning.buyer, made.payment_request, made.payment_hash, fee_limit_msat=0)
    assert (poor.status, poor.failure) == (PayoutStatus.FAILED, PayoutFailure.NO_ROUTE)
    rich = await pay(lightning.buyer, made.payment_request, made.payment_hash, fee_limit_msat=1_000_000)
    assert rich.status is PayoutStatus.SUCCEEDED


async def test_a_cltv_limit_below_the_route_fails_as_no_route(lightning: LightningWorld) -> None:
    made = await invoice_of_provider(lightning)
    outcome = await pay(lightning.buyer, made.payment_request, made.payment_hash, cltv_limit=FINAL_CLTV + 4)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.NO_ROUTE)


async def test_a_cltv_limit_below_the_final_hop_is_refused_and_never_sent(lightning: LightningWorld) -> None:
    made = await invoice_of_provider(lightning)
    outcome = await pay(lightning.broker, made.payment_request, made.payment_hash, cltv_limit=FINAL_CLTV - 1)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.REFUSED)
    tracked = await lightning.broker.track(made.payment_hash)
    assert tracked.failure is PayoutFailure.NEVER_SENT


async def test_three_blocks_are_added_to_the_final_hop_and_the_limit_must_leave_room_for_them(
    lightning: LightningWorld,
) -> None:
    made = await invoice_of_provider(lightning)
    outcome = await pay(lightning.broker, made.payment_request, made.payment_hash, cltv_limit=FINAL_CLTV + 3)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.REFUSED)
    outcome = await pay(lightning.broker, made.payment_request, made.payment_hash, cltv_limit=FINAL_CLTV + 4)
    assert outcome.status is PayoutStatus.SUCCEEDED


async def test_less_than_a_satoshi_finds_no_route_and_a_satoshi_does(lightning: LightningWorld) -> None:
    little = await invoice_of_provider(lightning, msat=999)
    outcome = await pay(lightning.broker, little.payment_request, little.payment_hash)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.NO_ROUTE)
    enough = await invoice_of_provider(lightning, msat=1_000)
    outcome = await pay(lightning.broker, enough.payment_request, enough.payment_hash)
    assert outcome.status is PayoutStatus.SUCCEEDED


async def test_more_than_the_channels_hold_fails_as_insufficient_balance(lightning: LightningWorld) -> None:
    made = await invoice_of_provider(lightning, msat=30_000_000_000)
    outcome = await pay(lightning.broker, made.payment_request, made.payment_hash)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.INSUFFICIENT_BALANCE)


async def test_a_hash_that_was_never_paid_is_tracked_as_never_sent(lightning: LightningWorld) -> None:
    nobody = secret().payment_hash
    for outcome in (await lightning.broker.track(nobody), await lightning.broker.wait(nobody, 5)):
        assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, PayoutFailure.NEVER_SENT)


async def test_an_invoice_for_another_hash_is_never_sent(lightning: LightningWorld) -> None:
    made = await invoice_of_provider(lightning)
    with pytest.raises(Refused):
        await pay(lightning.broker, made.payment_request, secret().payment_hash)
    tracked = await lightning.broker.track(made.payment_hash)
    assert tracked.failure is PayoutFailure.NEVER_SENT


async def test_a_payment_that_the_payee_holds_is_in_flight_until_it_settles(
    lightning: LightningWorld,
) -> None:
    preimage = secret()
    text = await hold(lightning.provider, preimage)
    async with paying(lightning.broker, text, preimage.payment_hash) as payment:
        await in_state(lightning.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
        assert (await lightning.broker.track(preimage.payment_hash)).status is PayoutStatus.IN_FLIGHT
        assert (await lightning.broker.wait(preimage.payment_hash, 0.5)).status is PayoutStatus.IN_FLIGHT
        waiting = asyncio.create_task(lightning.broker.wait(preimage.payment_hash, 30))
        await lightning.provider.settle(preimage)
        assert (await waiting).preimage == preimage
    assert payment.result().preimage == preimage
    assert (await lightning.broker.track(preimage.payment_hash)).preimage == preimage


async def test_a_payment_that_the_payee_holds_and_cancels_has_failed(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.provider, preimage)
    async with paying(lightning.broker, text, preimage.payment_hash) as payment:
        await in_state(lightning.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
        await lightning.provider.cancel(preimage.payment_hash)
    assert payment.result().failure is PayoutFailure.INCORRECT_PAYMENT_DETAILS


async def test_a_payment_that_is_held_longer_than_we_listen_is_in_flight_and_not_failed(
    lightning: LightningWorld,
) -> None:
    preimage = secret()
    text = await hold(lightning.provider, preimage)
    outcome = await pay(lightning.broker, text, preimage.payment_hash, timeout_seconds=1)
    assert (outcome.status, outcome.failure) == (PayoutStatus.IN_FLIGHT, None)
    await lightning.provider.settle(preimage)
    assert (await lightning.broker.wait(preimage.payment_hash, 30)).preimage == preimage


async def test_a_payment_in_flight_is_not_failed_because_its_invoice_has_expired(
    lightning: LightningWorld,
) -> None:
    preimage = secret()
    text = await hold(lightning.provider, preimage, expiry_seconds=3)
    expires = time.time() + 4
    async with paying(lightning.broker, text, preimage.payment_hash):
        await in_state(lightning.provider, preimage.payment_hash, InvoiceState.ACCEPTED)

        async def expired() -> bool:
            return time.time() > expires

        await until(expired)
        again = await pay(lightning.broker, text, preimage.payment_hash)
        assert again.status is PayoutStatus.IN_FLIGHT
        await lightning.provider.settle(preimage)


async def test_an_estimate_is_what_the_payment_then_costs(lightning: LightningWorld) -> None:
    provider = (await lightning.provider.summary()).pubkey
    estimate = await lightning.buyer.estimate_fee(
        invoice_destination=provider, amount_msat=Msat(50_000_000), final_cltv=FINAL_CLTV
    )
    assert estimate is not None
    made = await invoice_of_provider(lightning, msat=50_000_000)
    paid = await pay(
        lightning.buyer,
        made.payment_request,
        made.payment_hash,
        fee_limit_msat=estimate.fee_msat,
        cltv_limit=estimate.time_lock_blocks,
    )
    assert paid.fee_msat == estimate.fee_msat


async def test_a_direct_channel_costs_nothing_and_locks_the_final_blocks(lightning: LightningWorld) -> None:
    provider = (await lightning.provider.summary()).pubkey
    estimate = await lightning.broker.estimate_fee(
        invoice_destination=provider, amount_msat=Msat(1_000_000), final_cltv=FINAL_CLTV
    )
    assert estimate is not None
    assert estimate.fee_msat == 0
    assert FINAL_CLTV <= estimate.time_lock_blocks <= FINAL_CLTV + 3


async def test_where_there_is_no_route_there_is_no_estimate(lightning: LightningWorld) -> None:
    broker = lightning.broker
    provider = (await lightning.provider.summary()).pubkey
    stranger = "02" + "11" * 32
    assert await broker.estimate_fee(invoice_destination=stranger, amount_msat=Msat(1_000)) is None
    too_much = Msat(30_000_000_000)
    assert await broker.estimate_fee(invoice_destination=provider, amount_msat=too_much) is None
    short = await lightning.buyer.estimate_fee(
        invoice_destination=provider,
        amount_msat=Msat(1_000_000),
        final_cltv=FINAL_CLTV,
        cltv_limit=FINAL_CLTV + 4,
    )
    assert short is None


async def test_a_route_hint_leads_to_a_payee_outside_the_graph_and_is_priced(
    lightning: LightningWorld,
) -> None:
    provider = (await lightning.provider.summary()).pubkey
    private = Hop(
        node=provider,
        short_channel_id=(16_000_000 << 40) | (1 << 16),
        fee_base_msat=Msat(7_000_000),
        fee_proportional_millionths=0,
        cltv_expiry_delta=40,
    )
    estimate = await lightning.broker.estimate_fee(
        invoice_destination="02" + "11" * 32,
        amount_msat=Msat(1_000_000),
        final_cltv=FINAL_CLTV,
        route_hints=((private,),),
    )
    assert estimate is not None
    # more than the amount: whether that is too much is for the caller to say
    assert estimate.fee_msat == 7_000_000
    assert estimate.time_lock_blocks >= FINAL_CLTV + 40


async def test_what_the_node_has_paid_since_then_is_listed_whoever_asked_for_it_and_what_failed_is_not(
    lightning: LightningWorld,
) -> None:
    node, begun = lightning.broker, time.time() - 60

    async def listed() -> dict[str, tuple[int, int]]:
        return {one.payment_hash: (one.amount_msat, one.fee_msat) for one in await node.sent_since(begun)}

    made = await lightning.provider.add_invoice(
        value_msat=Msat(1_234_000), expiry_seconds=600, memo="listed", final_cltv=FINAL_CLTV
    )
    paid = await pay(node, made.payment_request, made.payment_hash)
    assert paid.status is PayoutStatus.SUCCEEDED
    assert (await listed())[made.payment_hash] == (1_234_000, paid.fee_msat)
    unknown = secret()
    failed = await pay(node, strangers_invoice(preimage=unknown), unknown.payment_hash)
    assert failed.status is PayoutStatus.FAILED
    assert unknown.payment_hash not in await listed()
    held = secret()
    text = await hold(lightning.provider, held)
    async with paying(node, text, held.payment_hash):
        await in_state(lightning.provider, held.payment_hash, InvoiceState.ACCEPTED)
        assert (await listed())[held.payment_hash][0] == 1_000_000, "under way, it may still succeed"
        await lightning.provider.cancel(held.payment_hash)
    assert held.payment_hash not in await listed()
    assert await node.sent_since(time.time() + 3_600) == ()
