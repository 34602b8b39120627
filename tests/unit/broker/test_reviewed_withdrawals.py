"""What the second hostile review found about balances and withdrawals, as promises."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from databases import Template
from withdrawal_world import AGENT, OWED, STRANGER, WithdrawalWorld, open_withdrawals

from lightwork_broker.errors import IdempotencyConflict, WithdrawalLimit
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, Entry, Posting, balance_account
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.accounts import WithdrawalStatus as S

HOUR = 3_600


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        yield opened


async def test_who_lost_the_answer_is_told_of_the_same_withdrawal_although_its_invoice_has_expired(
    world: WithdrawalWorld,
) -> None:
    accounts = world.start()
    invoice = await world.invoice(sats(10), expiry_seconds=HOUR)
    made = await accounts.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key="once")
    await world.settle_down()
    await world.pass_time(2 * HOUR)
    # A refusal here would have the agent withdraw a second time.
    again = await accounts.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key="once")
    assert (again.id, again.status) == (made.id, S.PAID)
    with pytest.raises(IdempotencyConflict):
        await accounts.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(3), key="once")
    assert await world.payee_has() == sats(10)


@pytest.mark.parametrize("whose", ["day_msat", "day_msat_of_all"])
async def test_a_days_limit_cannot_be_passed_by_way_of_the_routing_fee(
    world: WithdrawalWorld, whose: str
) -> None:
    # Who owns the last channel of the route sets its fee, and so is paid by it.
    world.limits = replace(world.limits, **{whose: sats(15)})
    accounts = world.start()
    with pytest.raises(WithdrawalLimit):
        await accounts.withdraw(AGENT, invoice=await world.invoice(sats(1)), max_fee_msat=sats(500), key=None)
    assert await world.owed() == OWED


async def test_a_days_limit_counts_the_fee_that_was_paid_and_not_the_one_that_was_allowed(
    world: WithdrawalWorld,
) -> None:
    world.limits = replace(world.limits, day_msat=sats(30))
    accounts = world.start()
    for _ in range(2):
        await accounts.withdraw(AGENT, invoice=await world.invoice(sats(4)), max_fee_msat=sats(20), key=None)
        await world.settle_down()
    assert [one.status for one in await world.withdrawals()] == [S.PAID, S.PAID]


async def test_agents_who_let_their_withdrawals_hang_leave_slots_for_payouts(world: WithdrawalWorld) -> None:
    # Each withdrawal that its payee does not take is an HTLC, and a channel has 483 of them.
    world.limits = replace(world.limits, open_at_once=2, open_at_once_of_all=3)
    accounts = world.start()
    owed = Posting(
        key="settle:other", cause="work", entries=(Entry(NODE, OWED), Entry(balance_account(STRANGER), -OWED))
    )
    async with world.database.write() as tx:
        await ledger.post(tx, owed, now=int(world.clock.now()))
    world.network.stall("router")
    for agent in (AGENT, AGENT, STRANGER):
        await accounts.withdraw(agent, invoice=await world.invoice(sats(1)), max_fee_msat=sats(2), key=None)
    with pytest.raises(WithdrawalLimit):
        await accounts.withdraw(
            STRANGER, invoice=await world.invoice(sats(1)), max_fee_msat=Msat(2_000), key=None
        )
    world.network.flow("router")
    await world.settle_down()
    await accounts.withdraw(STRANGER, invoice=await world.invoice(sats(1)), max_fee_msat=sats(2), key=None)
