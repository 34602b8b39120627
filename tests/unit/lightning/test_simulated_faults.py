"""Each fault of the simulated network, and what it leaves behind."""

from __future__ import annotations

import asyncio

import pytest
from unit.lightning.simulated_scene import Scene, going, hold, invoice, looked_up, pay, secret, settle_down

from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated import Call, Fault, NoFaults, SeededFaults


async def test_a_lost_call_has_no_effect() -> None:
    scene = Scene()
    scene.faults.plan(Fault.LOST_BEFORE, method="add_hold")
    with pytest.raises(LightningUnavailable):
        await hold(scene.broker, secret())
    assert await scene.broker.lookup(secret().payment_hash) is None


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Fault.UNKNOWN_OUTCOME, Fault.RESTART])
async def test_a_lost_answer_leaves_the_effect(fault: Fault) -> None:
    scene = Scene()
    scene.faults.plan(fault, method="add_hold")
    with pytest.raises(LightningUnavailable):
        await hold(scene.broker, secret())
    assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.OPEN
    assert scene.faults.is_used_up


async def test_a_settle_whose_answer_is_lost_is_settled_and_may_be_repeated() -> None:
    scene = Scene()
    text = await hold(scene.broker, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)) as payment:
        scene.faults.plan(Fault.LOST_AFTER, method="settle")
        with pytest.raises(LightningUnavailable):
            await scene.broker.settle(secret())
        await scene.broker.settle(secret())
        assert (await payment).preimage == secret()


async def test_a_payment_that_never_reached_the_node_is_unknown_to_the_caller() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.LOST_BEFORE, method="pay")
    assert (await pay(scene.broker, text, payment_hash)).status is PayoutStatus.UNKNOWN
    assert (await scene.broker.track(payment_hash)).failure is PayoutFailure.NEVER_SENT


async def test_a_payment_whose_answer_is_lost_is_found_by_a_second_look() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.LOST_AFTER, method="pay")
    assert (await pay(scene.broker, text, payment_hash)).status is PayoutStatus.SUCCEEDED


async def test_an_unknown_outcome_is_unknown_although_the_money_has_gone() -> None:
    scene = Scene()
    before = await scene.provider.local_balance_msat()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.UNKNOWN_OUTCOME, method="pay")
    assert (await pay(scene.broker, text, payment_hash)).status is PayoutStatus.UNKNOWN
    assert await scene.provider.local_balance_msat() == before + 1_000_000


async def test_a_failure_behind_a_lost_answer_is_unknown_and_not_failed() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    await scene.provider.cancel(secret().payment_hash)
    scene.faults.plan(Fault.LOST_AFTER, method="pay")
    assert (await pay(scene.broker, text, secret().payment_hash)).status is PayoutStatus.UNKNOWN
    assert (await scene.broker.track(secret().payment_hash)).status is PayoutStatus.FAILED


async def test_a_call_that_arrives_twice_pays_once() -> None:
    scene = Scene()
    before = await scene.provider.local_balance_msat()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.DUPLICATE, method="pay")
    assert (await pay(scene.broker, text, payment_hash)).status is PayoutStatus.SUCCEEDED
    assert await scene.provider.local_balance_msat() == before + 1_000_000


async def test_an_invoice_asked_for_twice_leaves_an_orphan() -> None:
    scene = Scene()
    scene.faults.plan(Fault.DUPLICATE, method="add_invoice")
    _, payment_hash = await invoice(scene.provider)
    assert (await looked_up(scene.provider, payment_hash)).add_index == 2


async def test_a_late_answer_comes_when_its_time_has_come() -> None:
    scene = Scene()
    scene.faults.plan(Fault.LATE_ANSWER, method="add_hold", seconds=5)
    async with going(hold(scene.broker, secret())) as adding:
        assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.OPEN
        scene.clock.advance(4.9)
        await settle_down()
        assert not adding.done()
        scene.clock.advance(0.2)
        assert (await adding).startswith("lnbcrt")


async def test_an_answer_that_is_later_than_patience_is_lost() -> None:
    scene = Scene()
    scene.faults.plan(Fault.LATE_ANSWER, method="add_hold", seconds=60)
    async with going(hold(scene.broker, secret())) as adding:
        scene.clock.advance(10)
        with pytest.raises(LightningUnavailable):
            await adding
    assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.OPEN


async def test_a_late_payment_may_begin_after_it_was_tracked_as_never_sent() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.LATE_CALL, method="pay", seconds=60)
    async with going(pay(scene.broker, text, payment_hash)) as payment:
        scene.clock.advance(10)
        assert (await payment).status is PayoutStatus.UNKNOWN
    assert (await scene.broker.track(payment_hash)).failure is PayoutFailure.NEVER_SENT
    scene.clock.advance(60)
    assert (await scene.broker.track(payment_hash)).status is PayoutStatus.SUCCEEDED


async def test_a_call_that_is_a_little_late_succeeds() -> None:
    scene = Scene()
    scene.faults.plan(Fault.LATE_CALL, method="add_hold", seconds=5)
    async with going(hold(scene.broker, secret())) as adding:
        assert await scene.broker.lookup(secret().payment_hash) is None
        scene.clock.advance(5)
        assert (await adding).startswith("lnbcrt")


@pytest.mark.parametrize(
    ("fault", "word"), [(Fault.NODE_DOWN, "down"), (Fault.WALLET_LOCKED, "locked")], ids=["down", "locked"]
)
async def test_a_node_that_went_away_stays_away_until_it_is_started(fault: Fault, word: str) -> None:
    scene = Scene()
    scene.faults.plan(fault, node="broker")
    for _ in range(2):
        with pytest.raises(LightningUnavailable, match=word):
            await scene.broker.summary()
    assert (await scene.broker.track(secret().payment_hash)).status is PayoutStatus.UNKNOWN
    assert (await scene.buyer.summary()).alias == "buyer"
    scene.network.start("broker")
    assert (await scene.broker.summary()).alias == "broker"


async def test_a_refused_macaroon_is_an_error_of_its_own_for_payments_too() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    scene.faults.plan(Fault.NO_PERMISSION, method="pay")
    with pytest.raises(PermissionMissing):
        await pay(scene.broker, text, payment_hash)
    assert (await scene.broker.track(payment_hash)).failure is PayoutFailure.NEVER_SENT


async def test_a_restart_ends_streams_and_forgets_nothing() -> None:
    scene = Scene()
    text = await hold(scene.broker, secret())
    seen: list[InvoiceState] = []

    async def watch() -> None:
        nonlocal seen
        async for now in scene.broker.watch(secret().payment_hash):
            seen += [now.state]

    async def count() -> None:
        async for _ in scene.broker.blocks():
            pass

    async with (
        going(pay(scene.buyer, text, secret().payment_hash)) as payment,
        going(watch()) as watching,
        going(count()) as counting,
    ):
        scene.network.restart("broker")
        ended = await asyncio.gather(watching, counting, return_exceptions=True)
        assert [type(error) for error in ended] == [LightningUnavailable, LightningUnavailable]
        assert seen == [InvoiceState.ACCEPTED]
        assert (await looked_up(scene.broker, secret().payment_hash)).state is InvoiceState.ACCEPTED
        await scene.broker.settle(secret())
        assert (await payment).preimage == secret()


async def test_a_closed_connection_serves_no_more_and_a_new_one_finds_everything() -> None:
    scene = Scene()
    await hold(scene.broker, secret())
    await scene.broker.close()
    with pytest.raises(LightningUnavailable):
        await scene.broker.summary()
    again = scene.network.node("broker")
    assert (await looked_up(again, secret().payment_hash)).state is InvoiceState.OPEN


async def test_planned_faults_strike_only_what_they_are_planned_for() -> None:
    scene = Scene()
    scene.faults.plan(Fault.LOST_BEFORE, method="lookup", node="provider")
    await scene.provider.summary()
    await scene.broker.lookup(secret().payment_hash)
    assert not scene.faults.is_used_up
    with pytest.raises(LightningUnavailable):
        await scene.provider.lookup(secret().payment_hash)
    assert [(call.node, call.method) for call, _ in scene.faults.struck] == [("provider", "lookup")]


def test_the_same_seed_gives_the_same_faults_at_about_the_rate_asked_for() -> None:
    call = Call(node="broker", method="pay", payment_hash=None)
    rates = {Fault.LOST_BEFORE: 0.1, Fault.LOST_AFTER: 0.2}

    def run(seed: bytes) -> list[Fault | None]:
        faults = SeededFaults(seed, rates)
        struck = [faults.strike(call) for _ in range(2_000)]
        return [strike and strike.fault for strike in struck]

    first = run(b"one")
    assert first == run(b"one")
    assert first != run(b"two")
    assert 150 < first.count(Fault.LOST_BEFORE) < 250
    assert 320 < first.count(Fault.LOST_AFTER) < 480


def test_rates_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        SeededFaults(b"", {Fault.LOST_BEFORE: 0.6, Fault.LOST_AFTER: 0.6})


def test_without_faults_nothing_ever_strikes() -> None:
    assert NoFaults().strike(Call(node="broker", method="pay", payment_hash=None)) is None
