"""Withdrawals: paid once, to the msat, or owed again; and every refusal says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import Template
from withdrawal_world import AGENT, OWED, STRANGER, WithdrawalWorld, open_withdrawals

from lightwork_broker.accounts import store
from lightwork_broker.accounts.machine import TRANSITIONS, WithdrawalEvent, after
from lightwork_broker.accounts.service import withdrawal_view
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.errors import (
    BalanceTooLow,
    BrokerError,
    IdempotencyConflict,
    IllegalTransition,
    InvoiceRefused,
    NotFound,
    WithdrawalLimit,
    code_of,
)
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.simulated import Fault
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import PaymentHash, WithdrawalId
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.accounts import WithdrawalStatus

FEE = 1_000
"""What the router takes: LND's base fee, and a ppm that rounds to nothing."""
S, E = WithdrawalStatus, WithdrawalEvent


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        opened.start()
        yield opened


async def _ask(
    world: WithdrawalWorld, invoice: str, *, fee: Msat = sats(2), key: str | None = None
) -> WithdrawalStatus:
    made = await world.accounts[0].withdraw(AGENT, invoice=invoice, max_fee_msat=fee, key=key)
    await world.settle_down()
    return (await world.accounts[0].get(AGENT, made.id)).status


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({}, True),
        ({"called_at": 2.0}, False),  # the node was asked, and may say at any time what became of it
        ({"status": S.PAID, "called_at": 2.0}, False),
        ({"status": S.FAILED}, False),
    ],
)
def test_an_agent_is_told_when_its_withdrawal_waits_for_the_operator(
    made: dict[str, Any], told: bool
) -> None:
    waiting = Withdrawal(
        id=WithdrawalId("wdr_1"),
        agent=AGENT,
        status=S.PAYING,
        payment_hash=PaymentHash("ab" * 32),
        invoice="lnbcrt1",
        amount_msat=sats(1),
        max_fee_msat=sats(1),
        created_at=1.0,
        updated_at=1.0,
    )
    one = replace(waiting, **made)
    assert withdrawal_view(one, is_stopped=True).waits_for_operator is told
    assert not withdrawal_view(one, is_stopped=False).waits_for_operator


EDGES = {(S.PAYING, E.SUCCEEDED): S.PAID, (S.PAYING, E.FAILED): S.FAILED}


@pytest.mark.parametrize(("status", "event"), [(status, event) for status in S for event in E])
def test_a_withdrawal_takes_the_edges_of_the_design_and_no_other(status: S, event: E) -> None:
    assert TRANSITIONS == EDGES
    if (status, event) in EDGES:
        assert after(status, event) is EDGES[status, event]
    else:
        with pytest.raises(IllegalTransition):
            after(status, event)


async def test_amount_and_fee_leave_the_balance_and_what_was_not_needed_stays(world: WithdrawalWorld) -> None:
    assert await _ask(world, await world.invoice(sats(100))) is S.PAID
    assert await world.payee_has() == sats(100)
    assert await world.owed() == OWED - sats(100) - FEE
    assert await world.node_spent() == await world.ledger_spent() == sats(100) + FEE
    (done,) = await world.withdrawals()
    view = withdrawal_view(done, is_stopped=False)
    assert (view.fee_paid_msat, view.error_code) == (FEE, None)
    assert view.preimage is not None
    assert view.preimage not in repr(done)
    lines = await world.accounts[0].statement(AGENT, before=None, limit=10)
    assert [line.amount_msat for line in lines] == [sats(1), -sats(102), OWED]
    assert (await world.audit()).breaches == ()


async def test_a_withdrawal_that_fails_for_good_is_owed_again_to_the_msat(world: WithdrawalWorld) -> None:
    world.network.stop("payee")
    assert await _ask(world, await _unpayable(world), fee=Msat(0)) is S.FAILED
    assert await world.owed() == OWED
    assert await world.node_spent() == 0
    assert (await world.audit()).breaches == ()


async def _unpayable(world: WithdrawalWorld) -> str:
    """An invoice whose way costs more than its budget allows."""
    world.network.start("payee")
    return await world.invoice(sats(10))


async def test_all_of_the_balance_and_not_a_msat_more_can_be_taken(world: WithdrawalWorld) -> None:
    with pytest.raises(BalanceTooLow) as caught:
        await _ask(world, await world.invoice(Msat(OWED - sats(2) + 1)))
    assert caught.value.context == {"balance_msat": OWED, "needed_msat": OWED + 1}
    assert await _ask(world, await world.invoice(Msat(OWED - sats(2)))) is S.PAID
    assert await world.owed() == sats(2) - FEE
    with pytest.raises(BalanceTooLow):
        await _ask(world, await world.invoice(sats(1)))


@pytest.mark.parametrize("brokers", [1, 2])
async def test_of_two_hundred_withdrawals_at_once_of_a_balance_that_covers_one_exactly_one_is_paid(
    world: WithdrawalWorld, brokers: int
) -> None:
    for _ in range(brokers - 1):
        world.start()
    amount = sats(800)  # of the thousand that are owed
    asked = [
        world.accounts[number % brokers].withdraw(
            AGENT, invoice=await world.invoice(amount), max_fee_msat=sats(2), key=f"key {number}"
        )
        for number in range(200)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await world.settle_down()
    begun = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(begun) == 1
    assert {type(answer) for answer in answers if isinstance(answer, BaseException)} == {BalanceTooLow}
    assert [one.status for one in await world.withdrawals()] == [S.PAID]
    assert await world.payee_has() == amount
    assert await world.owed() == OWED - amount - FEE
    assert (await world.audit()).breaches == ()


async def test_what_is_under_way_cannot_be_taken_a_second_time(world: WithdrawalWorld) -> None:
    world.network.stall("router")
    assert await _ask(world, await world.invoice(sats(900))) is S.PAYING
    assert await world.owed() == OWED - sats(902)
    view = await world.accounts[0].balance(AGENT)
    assert (view.balance_msat, view.withdrawing_msat) == (OWED - sats(902), sats(902))
    with pytest.raises(BalanceTooLow):
        await _ask(world, await world.invoice(sats(900)))
    world.network.flow("router")
    await world.settle_down()
    assert [w.status for w in await world.withdrawals()] == [S.PAID]


async def test_the_same_key_gives_the_same_withdrawal_and_another_body_is_a_conflict(
    world: WithdrawalWorld,
) -> None:
    invoice = await world.invoice(sats(10))
    assert await _ask(world, invoice, key="once") is S.PAID
    assert await _ask(world, invoice, key="once") is S.PAID
    assert len(await world.withdrawals()) == 1
    with pytest.raises(IdempotencyConflict):
        await _ask(world, await world.invoice(sats(10)), key="once")


async def test_the_same_key_at_the_same_time_gives_one_withdrawal(world: WithdrawalWorld) -> None:
    invoice = await world.invoice(sats(10))
    made = await asyncio.gather(
        *(
            world.accounts[0].withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key="once")
            for _ in range(5)
        )
    )
    await world.settle_down()
    assert len({one.id for one in made}) == 1
    assert await world.owed() == OWED - sats(10) - FEE


async def test_an_invoice_is_paid_once_whoever_asks(world: WithdrawalWorld) -> None:
    invoice = await world.invoice(sats(10))
    assert await _ask(world, invoice) is S.PAID
    with pytest.raises(InvoiceRefused) as caught:
        await _ask(world, invoice)
    assert code_of(caught.value) == "invoice_hash_used"
    assert await world.owed() == OWED - sats(10) - FEE


async def test_the_hash_of_a_providers_invoice_that_guards_a_job_cannot_be_withdrawn_to(
    world: WithdrawalWorld,
) -> None:
    # Or its payout would seem made, and the buyer's HTLC would be settled for work that nobody did.
    invoice = await world.invoice(sats(10))
    async with world.database.write() as tx:
        assert await ledger.claim(tx, read_invoice(invoice).payment_hash, purpose="escrow:job_1")
    with pytest.raises(InvoiceRefused) as caught:
        await _ask(world, invoice)
    assert code_of(caught.value) == "invoice_hash_used"
    assert await world.owed() == OWED


async def _own(world: WithdrawalWorld) -> str:
    made = await world.network.node("broker").add_invoice(
        value_msat=sats(1), expiry_seconds=600, memo="", final_cltv=40
    )
    return made.payment_request


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("invoice_malformed", "lnbcrt1nonsense"),
        ("invoice_malformed", "lnbcrt" + "q" * 4_000),
        ("invoice_own_node", "own"),
        ("invoice_expired", "expiring"),
        ("invoice_network", "mainnet"),
    ],
)
async def test_an_invoice_that_cannot_be_paid_is_refused_before_anything_is_reserved(
    world: WithdrawalWorld, code: str, text: str
) -> None:
    match text:
        case "own":
            text = await _own(world)
        case "expiring":
            text = await world.invoice(sats(1), expiry_seconds=30)
        case "mainnet":
            world.accounts[0]._limits = replace(world.limits, network="mainnet")
            text = await world.invoice(sats(1))
        case _:
            pass
    with pytest.raises(BrokerError) as caught:
        await _ask(world, text)
    assert code_of(caught.value) == code
    assert await world.owed() == OWED
    assert await world.withdrawals() == []


async def test_a_stranger_has_nothing_to_take_and_sees_nothing(world: WithdrawalWorld) -> None:
    assert await _ask(world, await world.invoice(sats(10))) is S.PAID
    (mine,) = await world.withdrawals()
    with pytest.raises(NotFound):
        await world.accounts[0].get(STRANGER, mine.id)
    assert await world.accounts[0].statement(STRANGER, before=None, limit=10) == []
    with pytest.raises(BalanceTooLow):
        await world.accounts[0].withdraw(
            STRANGER, invoice=await world.invoice(sats(1)), max_fee_msat=Msat(0), key=None
        )


async def test_only_so_many_are_under_way_at_once(world: WithdrawalWorld) -> None:
    world.network.stall("router")
    for _ in range(3):
        assert await _ask(world, await world.invoice(sats(1))) is S.PAYING
    with pytest.raises(WithdrawalLimit):
        await _ask(world, await world.invoice(sats(1)))


async def test_only_so_many_are_asked_for_in_a_day_although_each_fails_and_costs_nothing(
    template: Template, tmp_path: Path
) -> None:
    async with open_withdrawals(tmp_path, template) as world:
        world.limits = replace(world.limits, of_agent_a_day=2)
        world.start()
        for _ in range(2):
            assert await _ask(world, await _unpayable(world), fee=Msat(0)) is S.FAILED
        with pytest.raises(WithdrawalLimit):
            await _ask(world, await world.invoice(sats(1)))
        await world.pass_time(86_401)
        assert await _ask(world, await world.invoice(sats(1))) is S.PAID


@pytest.mark.parametrize("whose", ["day_msat", "day_msat_of_all"])
async def test_a_days_limit_holds_until_the_day_is_over(
    template: Template, tmp_path: Path, whose: str
) -> None:
    async with open_withdrawals(tmp_path, template) as world:
        world.limits = replace(world.limits, **{whose: sats(18)})  # routing counts too
        world.start()
        assert await _ask(world, await world.invoice(sats(10))) is S.PAID
        with pytest.raises(WithdrawalLimit):
            await _ask(world, await world.invoice(sats(6)))
        assert await _ask(world, await world.invoice(sats(5))) is S.PAID
        await world.pass_time(86_401)
        assert await _ask(world, await world.invoice(sats(10))) is S.PAID


@pytest.mark.parametrize(
    "fault",
    [Fault.LOST_BEFORE, Fault.UNKNOWN_OUTCOME, Fault.NODE_DOWN, Fault.WALLET_LOCKED],
)
async def test_an_answer_that_does_not_come_fails_nothing_and_gives_nothing_back(
    world: WithdrawalWorld, fault: Fault
) -> None:
    world.faults.plan(fault, method="pay", node="broker")
    assert await _ask(world, await world.invoice(sats(10))) is S.PAYING
    assert await world.owed() == OWED - sats(12)
    # While the node is silent, no time is long enough.
    world.network.stop("broker")
    for _ in range(5):
        await world.pass_time(600)
        await world.sweep()
    (waiting,) = await world.withdrawals()
    assert waiting.status is S.PAYING
    assert waiting.unknown_since is not None
    assert (await world.audit()).breaches == ()
    world.network.start("broker")
    for _ in range(6):
        await world.sweep()
        await world.pass_time(31)
    (ended,) = await world.withdrawals()
    arrived = await world.payee_has() == sats(10)
    assert ended.status is (S.PAID if arrived else S.FAILED)
    assert arrived is (fault is Fault.UNKNOWN_OUTCOME)
    assert await world.owed() == (OWED - sats(10) - FEE if arrived else OWED)
    assert await world.node_spent() == await world.ledger_spent()


async def test_a_call_that_is_late_on_its_way_is_waited_for_before_anything_is_given_back(
    world: WithdrawalWorld,
) -> None:
    other = world.start()
    world.faults.plan(Fault.LATE_CALL, method="pay", node="broker", seconds=29)
    assert await _ask(world, await world.invoice(sats(10))) is S.PAYING
    # Another broker asks the node, which knows nothing of it yet, and says so again some time later.
    for _ in range(3):
        await other.sweep()
        await world.settle_down()
        await world.pass_time(11)
    await world.sweep()
    await world.pass_time(31)
    assert [w.status for w in await world.withdrawals()] == [S.PAID]
    assert await world.payee_has() == sats(10)
    assert await world.owed() == OWED - sats(10) - FEE


async def test_what_has_ended_is_not_ended_again_by_one_who_read_it_before(world: WithdrawalWorld) -> None:
    world.network.stall("router")
    assert await _ask(world, await world.invoice(sats(10))) is S.PAYING
    (stale,) = await world.withdrawals()
    world.network.flow("router")
    await world.settle_down()
    async with world.database.write() as tx:
        assert await store.change(tx, stale, E.FAILED, now=world.clock.now(), failure="no_route") is None
    assert [w.status for w in await world.withdrawals()] == [S.PAID]


async def test_many_who_ask_at_once_take_the_balance_once(world: WithdrawalWorld) -> None:
    both = [world.accounts[0], world.start()]
    invoices = [await world.invoice(sats(600)) for _ in range(6)]
    asked = [
        both[number % 2].withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key=None)
        for number, invoice in enumerate(invoices)
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [BalanceTooLow] * 5
    await world.settle_down()
    assert await world.owed() == OWED - sats(600) - FEE


async def test_a_closed_gate_holds_a_withdrawal_back_and_an_open_one_lets_it_go_on(
    world: WithdrawalWorld,
) -> None:
    world.gate.close("the books do not hold")
    assert await _ask(world, await world.invoice(sats(10))) is S.PAYING
    await world.sweep()
    assert (await world.payee_has(), await world.owed()) == (0, OWED - sats(12))
    assert await world.accounts[0].is_stopped()
    world.gate.open()
    assert not await world.accounts[0].is_stopped()
    await world.sweep()
    assert [w.status for w in await world.withdrawals()] == [S.PAID]
    assert await world.payee_has() == sats(10)
