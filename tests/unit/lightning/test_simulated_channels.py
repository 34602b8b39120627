"""Channels of the simulated network: what can be sent, what it costs, and that no msat is ever made or lost."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from unit.lightning.simulated_scene import (
    AMOUNT,
    CLTV,
    Scene,
    going,
    hold,
    invoice,
    looked_up,
    pay,
    secret,
    settle_down,
)

from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated import ManualTime, Policy, SimulatedNetwork
from lightwork_broker.lightning.simulated.channels import SLOTS
from lightwork_broker.lightning.simulated.network import MARKET_CAPACITY
from lightwork_broker.lightning.simulated.node_state import new_node
from lightwork_contracts.bolt11 import Hop, RouteHint, read_invoice, write_invoice
from lightwork_contracts.money import Msat, sats

HALF = MARKET_CAPACITY // 2
RESERVE = MARKET_CAPACITY // 100


async def test_a_side_can_be_spent_down_to_its_reserve_and_no_further() -> None:
    scene = Scene()
    too_much, its_hash = await invoice(scene.broker, msat=HALF - RESERVE + 1)
    assert (await pay(scene.buyer, too_much, its_hash)).failure is PayoutFailure.INSUFFICIENT_BALANCE
    most, its_hash = await invoice(scene.broker, msat=HALF - RESERVE)
    assert (await pay(scene.buyer, most, its_hash)).status is PayoutStatus.SUCCEEDED
    assert await scene.buyer.local_balance_msat() == RESERVE


async def test_a_hop_without_money_in_the_right_direction_is_no_route_although_the_graph_shows_one() -> None:
    scene = Scene()
    drain, its_hash = await invoice(scene.provider, msat=HALF - RESERVE)
    assert (await pay(scene.broker, drain, its_hash)).status is PayoutStatus.SUCCEEDED
    text, its_hash = await invoice(scene.provider)
    assert (await pay(scene.buyer, text, its_hash)).failure is PayoutFailure.NO_ROUTE
    estimate = await scene.buyer.estimate_fee(invoice_destination=scene.provider.pubkey, amount_msat=AMOUNT)
    assert estimate is not None
    # The broker sees its own channel as it is.
    assert (
        await scene.broker.estimate_fee(invoice_destination=scene.provider.pubkey, amount_msat=AMOUNT) is None
    )


async def test_a_channel_holds_483_payments_in_one_direction_and_a_settled_one_makes_room() -> None:
    scene = Scene()
    for number in range(1, SLOTS + 1):
        text = await hold(scene.broker, secret(number), msat=1_000)
        begun = await scene.buyer.begin(
            invoice=text,
            payment_hash=secret(number).payment_hash,
            fee_limit_msat=Msat(0),
            cltv_limit=1_000,
        )
        assert begun.outcome.status is PayoutStatus.IN_FLIGHT
    text = await hold(scene.broker, secret(SLOTS + 1), msat=1_000)
    full = await pay(scene.buyer, text, secret(SLOTS + 1).payment_hash)
    assert full.failure is PayoutFailure.INSUFFICIENT_BALANCE
    back, its_hash = await invoice(scene.buyer, msat=1_000)
    assert (await pay(scene.broker, back, its_hash)).status is PayoutStatus.SUCCEEDED
    await scene.broker.settle(secret(7))
    async with going(pay(scene.buyer, text, secret(SLOTS + 1).payment_hash)):
        found = await looked_up(scene.broker, secret(SLOTS + 1).payment_hash)
        assert found.state is InvoiceState.ACCEPTED
    scene.network.check()


async def test_forwarding_costs_what_the_policy_of_the_forwarding_node_says() -> None:
    scene = Scene()
    scene.network.add_node("far")
    far = scene.network.node("far")
    scene.network.open_channel(
        "provider",
        "far",
        capacity_msat=sats(1_000_000),
        policy=Policy(fee_base_msat=Msat(5), fee_ppm=10_000, cltv_delta=7),
    )
    text, its_hash = await invoice(far, msat=1_000_000)
    by_provider = 5 + 10_000
    by_broker = 1_000 + (1_000_000 + by_provider) // 1_000_000
    estimate = await scene.buyer.estimate_fee(
        invoice_destination=far.pubkey, amount_msat=Msat(1_000_000), final_cltv=40
    )
    assert estimate is not None
    assert (estimate.fee_msat, estimate.time_lock_blocks) == (by_provider + by_broker, 40 + 3 + 7 + 80)
    limits = {"fee_limit_msat": by_provider + by_broker - 1, "cltv_limit": 130}
    assert (await pay(scene.buyer, text, its_hash, **limits)).failure is PayoutFailure.NO_ROUTE
    limits = {"fee_limit_msat": by_provider + by_broker, "cltv_limit": 129}
    assert (await pay(scene.buyer, text, its_hash, **limits)).failure is PayoutFailure.NO_ROUTE
    before = [await node.local_balance_msat() for node in (scene.buyer, scene.broker, scene.provider)]
    limits = {"fee_limit_msat": by_provider + by_broker, "cltv_limit": 130}
    assert (await pay(scene.buyer, text, its_hash, **limits)).fee_msat == by_provider + by_broker
    after = [await node.local_balance_msat() for node in (scene.buyer, scene.broker, scene.provider)]
    moved = [now - then for now, then in zip(after, before, strict=True)]
    assert moved == [-(1_000_000 + by_provider + by_broker), by_broker, by_provider]


async def test_the_cheaper_of_two_ways_is_taken_and_the_dearer_one_when_it_is_full() -> None:
    scene = Scene()
    scene.network.open_channel(
        "broker",
        "provider",
        capacity_msat=sats(1_000_000),
        policy=Policy(fee_base_msat=Msat(0), fee_ppm=0),
    )
    text, its_hash = await invoice(scene.provider, msat=900_000_000)
    assert (await pay(scene.buyer, text, its_hash)).fee_msat == 0
    text, its_hash = await invoice(scene.provider, msat=900_000_000)
    assert (await pay(scene.buyer, text, its_hash)).fee_msat == 1_000 + 900


async def test_less_than_the_smallest_htlc_finds_no_way() -> None:
    scene = Scene()
    text, its_hash = await invoice(scene.provider, msat=999)
    assert (await pay(scene.broker, text, its_hash)).failure is PayoutFailure.NO_ROUTE
    text, its_hash = await invoice(scene.provider, msat=1_000)
    assert (await pay(scene.broker, text, its_hash)).status is PayoutStatus.SUCCEEDED


def hinted(text: str, hint: RouteHint) -> str:
    """Return the same invoice with a route hint, signed again by the hidden node."""
    plain = read_invoice(text)
    return write_invoice(
        network=plain.network,
        amount_msat=plain.amount_msat,
        timestamp=plain.timestamp,
        payment_hash=plain.payment_hash,
        payment_secret=plain.payment_secret,
        private_key=new_node("hidden", seed=b"scene").private_key,
        description="",
        expiry_seconds=plain.expiry_seconds,
        min_final_cltv=plain.min_final_cltv,
        route_hints=(hint,),
    )


async def test_a_channel_that_is_not_announced_carries_only_those_who_are_told_of_it() -> None:
    scene = Scene()
    hidden = scene.network.add_node("hidden")
    number = scene.network.open_channel("provider", "hidden", capacity_msat=sats(1_000_000), announced=False)
    text, its_hash = await invoice(hidden)
    assert (await pay(scene.buyer, text, its_hash)).failure is PayoutFailure.NO_ROUTE

    def hop(channel: int) -> Hop:
        return Hop(
            node=scene.provider.pubkey,
            short_channel_id=channel,
            fee_base_msat=Msat(1_000),
            fee_proportional_millionths=1,
            cltv_expiry_delta=80,
        )

    invented = hinted(text, (hop(12_345),))
    assert (await pay(scene.buyer, invented, its_hash)).failure is PayoutFailure.NO_ROUTE
    told = hinted(text, (hop(number),))
    assert (await pay(scene.buyer, told, its_hash)).status is PayoutStatus.SUCCEEDED


async def test_the_same_seed_gives_the_same_keys_invoices_and_preimages() -> None:
    async def run(seed: bytes) -> list[str]:
        scene = Scene(seed=seed)
        text, its_hash = await invoice(scene.provider)
        outcome = await pay(scene.broker, text, its_hash)
        assert outcome.preimage is not None
        return [scene.provider.pubkey, text, outcome.preimage.hex(), await hold(scene.broker, secret())]

    first = await run(b"one")
    assert first == await run(b"one")
    assert set(first).isdisjoint(await run(b"two"))
    assert SimulatedNetwork.market().node("broker").pubkey != SimulatedNetwork.market().node("broker").pubkey


async def test_a_latency_that_was_asked_for_is_waited_for_on_the_networks_clock() -> None:
    scene = Scene(latency_seconds=2)
    async with going(scene.broker.summary()) as asking:
        scene.clock.advance(1.9)
        await settle_down()
        assert not asking.done()
        scene.clock.advance(0.1)
        assert (await asking).alias == "broker"


async def test_a_wait_ends_when_the_networks_clock_says_so() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    async with going(pay(scene.broker, text, secret().payment_hash)) as payment:
        async with going(scene.broker.wait(secret().payment_hash, 30)) as waiting:
            scene.clock.advance(29)
            await settle_down()
            assert not waiting.done()
            scene.clock.advance(1)
            assert (await waiting).status is PayoutStatus.IN_FLIGHT
        scene.clock.advance(60)
        assert (await payment).status is PayoutStatus.IN_FLIGHT


async def test_hundreds_of_payments_under_way_settled_and_cancelled_at_random_lose_no_msat() -> None:
    scene = Scene()
    nodes = (scene.buyer, scene.broker, scene.provider)
    wealth = sum([await node.local_balance_msat() for node in nodes])
    drawn = hashlib.shake_256(b"a random walk").digest(3_000)
    open_holds: list[tuple[int, int]] = []
    payments: list[asyncio.Task[object]] = []
    for step in range(600):
        payer, payee, choice = (drawn[3 * step + place] for place in range(3))
        if payer % 3 != payee % 3:
            text = await hold(nodes[payee % 3], secret(step + 1), msat=1_000 + 997 * choice)
            paying = pay(nodes[payer % 3], text, secret(step + 1).payment_hash)
            payments.append(asyncio.create_task(paying))
            open_holds.append((payee % 3, step + 1))
        await settle_down()
        if open_holds and choice % 2:
            node, number = open_holds.pop(choice % len(open_holds))
            found = await looked_up(nodes[node], secret(number).payment_hash)
            if found.state is InvoiceState.ACCEPTED and choice % 4 == 1:
                await nodes[node].settle(secret(number))
            elif found.state is not InvoiceState.SETTLED:
                await nodes[node].cancel(secret(number).payment_hash)
        if choice % 50 == 0:
            scene.network.mine()
        scene.network.check()
        assert sum([await node.local_balance_msat() for node in nodes]) == wealth
    scene.network.mine(CLTV + 100)
    await asyncio.wait_for(asyncio.gather(*payments), 30)
    assert scene.network.waiting() == ()


@pytest.mark.parametrize("push", [-1, MARKET_CAPACITY + 1], ids=["less than nothing", "more than there is"])
def test_a_channel_that_cannot_be_is_not_opened(push: int) -> None:
    with pytest.raises(ValueError, match="part of it"):
        Scene().network.open_channel("buyer", "provider", capacity_msat=MARKET_CAPACITY, push_msat=Msat(push))


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="already"):
        Scene().network.add_node("buyer")


def test_no_secret_of_a_node_is_shown() -> None:
    node = new_node("quiet", seed=b"scene")
    assert repr(node.private_key) not in repr(node)
    assert node.private_key.hex() not in repr(node)


def test_an_alarm_that_was_taken_back_does_not_ring_and_the_others_ring_in_their_order() -> None:
    clock = ManualTime(1_000)
    rung: list[tuple[str, float]] = []
    clock.call_later(2, lambda: rung.append(("second", clock.now())))
    clock.call_later(1, lambda: rung.append(("first", clock.now())))
    clock.call_later(1, lambda: rung.append(("never", clock.now())))()
    clock.call_later(3, lambda: rung.append(("too late", clock.now())))
    clock.advance(2.5)
    assert rung == [("first", 1_001), ("second", 1_002)]
    assert clock.now() == 1_002.5
