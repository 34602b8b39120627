"""An older copy of the database owes again what was withdrawn: nothing more leaves until somebody has looked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from databases import Backup, Template
from withdrawal_world import AGENT, OWED, WithdrawalWorld, open_withdrawals

from lightwork_broker import watchdog
from lightwork_broker.accounts import store
from lightwork_broker.accounts.forgotten import OVERLAP_SECONDS, stop_if_forgotten
from lightwork_broker.db.engine import Transaction
from lightwork_broker.errors import WithdrawalsStopped
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, Entry, Posting, balance_account
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import PayoutStatus
from lightwork_broker.lightning.simulated import Fault
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import WithdrawalId
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.accounts import WithdrawalStatus as S


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        await _compared(opened)
        yield opened
        await opened.database.close()


async def _compared(world: WithdrawalWorld) -> None:
    """The books were compared with the node a moment ago, as a running broker does each minute."""
    async with world.database.write() as tx:
        await ledger.set_watch_mark(tx, ledger.WatchMark(world.clock.now()))


async def _withdraw(world: WithdrawalWorld, amount: Msat = sats(300)) -> None:
    accounts = world.start()
    made = await accounts.withdraw(AGENT, invoice=await world.invoice(amount), max_fee_msat=sats(5), key=None)
    await world.settle_down()
    assert (await accounts.get(AGENT, made.id)).status is S.PAID
    await world.kill()


async def _look(world: WithdrawalWorld, *, pending: Msat = Msat(0)) -> str | None:
    async def of_open_jobs(tx: Transaction) -> int:
        return pending

    node = world.network.node("broker")
    return await stop_if_forgotten(world.database, node, clock=world.clock, pending=of_open_jobs)


async def _owe_nothing(world: WithdrawalWorld) -> None:
    back = Posting(
        key="back", cause="back", entries=(Entry(balance_account(AGENT), OWED), Entry(NODE, -OWED))
    )
    async with world.database.write() as tx:
        await ledger.post(tx, back, now=int(world.clock.now()))


async def _older_copy(world: WithdrawalWorld) -> None:
    """Withdraw, and put the database back to what it was before."""
    owed = await world.owed()
    backup = Backup(world.place)
    await _withdraw(world)
    await world.database.go_back(backup)
    assert await world.owed() == owed, "it is owed again"


async def _copy_with_one_to_pay(world: WithdrawalWorld) -> tuple[WithdrawalId, Backup]:
    """Ask for a withdrawal while nothing is paid out, so nobody has called yet when the copy is made."""
    world.gate.close("the books do not hold")
    asked = await world.start().withdraw(
        AGENT, invoice=await world.invoice(sats(600)), max_fee_msat=sats(5), key=None
    )
    await world.settle_down()
    await world.kill()
    world.gate.open()
    return asked.id, Backup(world.place)


async def test_with_an_older_copy_nothing_is_withdrawn_a_second_time_until_the_operator_has_looked(
    world: WithdrawalWorld,
) -> None:
    await _older_copy(world)
    paid = await world.payee_has()
    reason = await _look(world)
    assert reason is not None
    assert "1 payments" in reason
    assert "older copy" in reason
    accounts = world.start()
    with pytest.raises(WithdrawalsStopped):
        await accounts.withdraw(AGENT, invoice=await world.invoice(sats(400)), max_fee_msat=sats(5), key=None)
    assert await world.payee_has() == paid
    assert (await world.audit()).withdrawals_stopped == reason
    # A restart forgets nothing, and neither does the other broker on this database.
    await world.kill()
    with pytest.raises(WithdrawalsStopped):
        await world.start().withdraw(
            AGENT, invoice=await world.invoice(sats(1)), max_fee_msat=sats(5), key=None
        )
    await watchdog.acknowledge(world.database, now=world.clock.now())
    assert (await world.audit()).withdrawals_stopped is None


async def test_what_was_acknowledged_stops_nothing_again_and_what_was_not_does(
    world: WithdrawalWorld,
) -> None:
    await _older_copy(world)
    assert await _look(world) is not None
    assert await _look(world) is not None, "nobody has looked into it yet"
    await watchdog.acknowledge(world.database, now=world.clock.now())
    # The payment is not a quarter of an hour old: a restart meets it again.
    assert await _look(world) is None
    await _withdraw(world, sats(20))
    await _older_copy(world)
    reason = await _look(world)
    assert reason is not None
    assert "1 payments" in reason, "only the one that is not known"


async def test_an_older_copy_is_noticed_however_old_it_is(world: WithdrawalWorld) -> None:
    await _older_copy(world)
    await world.pass_time(30 * 86_400)
    assert await _look(world) is not None


async def test_a_payment_under_way_that_the_database_does_not_know_counts_too(world: WithdrawalWorld) -> None:
    backup = Backup(world.place)
    world.network.stall("router")
    accounts = world.start()
    await accounts.withdraw(AGENT, invoice=await world.invoice(sats(9)), max_fee_msat=sats(5), key=None)
    await world.settle_down()
    await world.kill()
    await world.database.go_back(backup)
    assert await _look(world) is not None
    world.network.flow("router")


async def test_a_restart_with_the_right_database_stops_nothing(world: WithdrawalWorld) -> None:
    await _withdraw(world)
    await world.pass_time(3_600)
    assert await _look(world) is None
    await _withdraw(world, sats(20))


async def test_a_failed_payment_was_not_paid_and_stops_nothing(world: WithdrawalWorld) -> None:
    node = world.network.node("broker")
    text = await world.invoice(sats(50))
    payment_hash = read_invoice(text).payment_hash
    seen = await node.pay(
        invoice=text, payment_hash=payment_hash, fee_limit_msat=Msat(0), cltv_limit=500, timeout_seconds=5
    )
    assert seen.status is PayoutStatus.FAILED
    assert await _look(world) is None


async def test_what_the_node_paid_before_the_books_were_last_compared_is_no_news(
    world: WithdrawalWorld,
) -> None:
    node = world.network.node("broker")
    text = await world.invoice(sats(50))
    await node.pay(
        invoice=text,
        payment_hash=read_invoice(text).payment_hash,
        fee_limit_msat=sats(5),
        cltv_limit=500,
        timeout_seconds=5,
    )
    await world.pass_time(OVERLAP_SECONDS + 1)
    await _compared(world)
    assert await _look(world) is None


async def test_where_nothing_is_owed_there_is_nothing_to_stop(world: WithdrawalWorld) -> None:
    await _older_copy(world)
    await _owe_nothing(world)
    assert await _look(world) is None
    async with world.database.read() as tx:
        assert await store.stopped(tx) is None


async def test_regression_what_open_jobs_will_be_owed_counts_as_owed(world: WithdrawalWorld) -> None:
    # With a copy from before a job was settled nothing was owed at the start, and a moment later it was again.
    await _older_copy(world)
    await _owe_nothing(world)
    assert await _look(world, pending=sats(10)) is not None
    with pytest.raises(WithdrawalsStopped):
        await world.start().withdraw(
            AGENT, invoice=await world.invoice(sats(1)), max_fee_msat=sats(5), key=None
        )


async def test_a_node_that_gives_no_answer_says_nothing_of_what_was_paid(world: WithdrawalWorld) -> None:
    world.faults.plan(Fault.LOST_BEFORE, method="sent_since")
    with pytest.raises(LightningUnavailable):
        await _look(world)
    # Without the permission the broker works as before, and says so.
    world.faults.plan(Fault.NO_PERMISSION, method="sent_since")
    assert await _look(world) is None


async def test_what_an_older_copy_had_still_to_pay_waits_for_the_operator_as_well(
    world: WithdrawalWorld,
) -> None:
    first, backup = await _copy_with_one_to_pay(world)
    # Since then it has failed for good, and what was owed again was taken by another one.
    world.network.stop("payee")
    world.start()
    await world.sweep()
    for seconds in (61, 31, 11):
        await world.pass_time(seconds)
        await world.sweep()
    assert [one.status for one in await world.withdrawals()] == [S.FAILED]
    await world.kill()
    world.network.start("payee")
    await _withdraw(world, sats(600))
    paid = await world.payee_has()
    await world.database.go_back(backup)
    assert await _look(world) is not None
    accounts = world.start()
    await world.sweep()
    assert await world.payee_has() == paid
    assert (await accounts.get(AGENT, first)).status is S.PAYING
    assert await accounts.is_stopped()
    await watchdog.acknowledge(world.database, now=world.clock.now())
    await world.sweep()
    assert (await accounts.get(AGENT, first)).status is S.PAID


async def test_what_an_older_copy_had_still_to_pay_and_the_node_has_paid_is_booked_without_the_operator(
    world: WithdrawalWorld,
) -> None:
    first, backup = await _copy_with_one_to_pay(world)
    world.start()
    await world.sweep()
    assert [one.status for one in await world.withdrawals()] == [S.PAID]
    await world.kill()
    paid = await world.payee_has()
    await world.database.go_back(backup)
    async with world.database.write() as tx:
        await store.stop(tx, reason="something else", unknown=[], now=world.clock.now())
    accounts = world.start()
    await world.sweep()
    assert (await accounts.get(AGENT, first)).status is S.PAID
    assert await world.payee_has() == paid
    assert (await world.audit()).withdrawals_stopped is not None


async def test_a_database_that_goes_back_under_a_running_broker_lets_nothing_be_withdrawn_a_second_time(
    world: WithdrawalWorld,
) -> None:
    """A standby takes over that had not heard the last commits: nobody starts again, and nobody looks at a start."""
    backup = Backup(world.place)
    accounts = world.start()
    made = await accounts.withdraw(
        AGENT, invoice=await world.invoice(sats(600)), max_fee_msat=sats(5), key=None
    )
    await world.settle_down()
    assert (await accounts.get(AGENT, made.id)).status is S.PAID
    paid = await world.payee_has()
    await world.database.go_back(backup)
    assert await world.owed() == OWED
    with pytest.raises(WithdrawalsStopped):
        await accounts.withdraw(AGENT, invoice=await world.invoice(sats(600)), max_fee_msat=sats(5), key=None)
    await world.settle_down()
    assert await world.payee_has() == paid
    reason = (await world.audit()).withdrawals_stopped
    assert reason is not None
    # Somebody has looked: it is not stopped for the same thing again, here or at the next start.
    await watchdog.acknowledge(world.database, now=world.clock.now())
    await world.sweep()
    assert (await world.audit()).withdrawals_stopped is None
    assert await _look(world) is None


async def test_brokers_beside_one_whose_withdrawal_was_forgotten_are_stopped_with_its_next_sweep(
    world: WithdrawalWorld,
) -> None:
    backup = Backup(world.place)
    accounts, other = world.start(), world.start()
    await accounts.withdraw(AGENT, invoice=await world.invoice(sats(600)), max_fee_msat=sats(5), key=None)
    await world.settle_down()
    await world.database.go_back(backup)
    await accounts.sweep()
    with pytest.raises(WithdrawalsStopped):
        await other.withdraw(AGENT, invoice=await world.invoice(sats(600)), max_fee_msat=sats(5), key=None)
