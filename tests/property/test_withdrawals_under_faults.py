"""Whatever fails and whoever crashes: a withdrawal is paid once or owed again, and never both or neither.

`LIGHTWORK_TEST_PROFILE=nightly` runs many more.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path

from databases import Template
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from withdrawal_world import AGENT, OWED, WithdrawalWorld, open_withdrawals

from lightwork_broker.errors import BrokerError
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import InvoiceState
from lightwork_broker.lightning.simulated import Fault
from lightwork_broker.watchdog import acknowledge
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.accounts import WithdrawalStatus

NIGHTLY = os.environ.get("LIGHTWORK_TEST_PROFILE") == "nightly"
EXAMPLES = 2_000 if NIGHTLY else 60
NAMES = (
    *("ask",) * 5,
    *("again",) * 2,
    *("fault",) * 5,
    *("sweep",) * 4,
    *("wait",) * 4,
    *("crash",) * 3,
    "acknowledge",
    "rush",
    "stall",
    "flow",
    "stop payee",
    "start",
)
FAULTS = tuple(fault for fault in Fault if fault is not Fault.NO_PERMISSION)


@dataclass(frozen=True, slots=True)
class Op:
    name: str
    number: int


ops = st.builds(Op, name=st.sampled_from(NAMES), number=st.integers(0, 999))


async def _do(world: WithdrawalWorld, op: Op, invoices: list[str]) -> None:
    accounts = world.accounts[op.number % 2]
    match op.name:
        case "ask":
            amount = Msat(1_000 + 997 * op.number)
            try:
                invoices.append(await world.invoice(amount, expiry_seconds=600 + 60 * op.number))
            except LightningUnavailable:
                return  # the payee is down
            fee = Msat(op.number % 4 * 700)
            await _tolerant(accounts.withdraw(AGENT, invoice=invoices[-1], max_fee_msat=fee, key=None))
        case "again" if invoices:
            again = invoices[op.number % len(invoices)]
            await _tolerant(accounts.withdraw(AGENT, invoice=again, max_fee_msat=sats(1), key=None))
        case "fault":
            method = ("pay", "pay", "pay", "track", "wait")[op.number % 5]
            world.faults.plan(
                FAULTS[op.number // 5 % len(FAULTS)],
                method=method,
                node="broker",
                seconds=(1, 5, 15)[op.number % 3],
            )
        case "sweep":
            await world.sweep()
        case "wait":
            await world.pass_time((1, 5, 11, 31, 61, 301)[op.number % 6])
        case "acknowledge":
            await acknowledge(world.database, now=world.clock.now())
        case "rush":
            for each in world.accounts:
                await each.sweep()
        case "crash":
            # Not let come to rest first: it dies in the middle of whatever it does.
            for _ in range(op.number % 25):
                await asyncio.sleep(0)
            await world.kill(op.number % 2)
            world.start()
        case "stall":
            world.network.stall("router")
        case "flow":
            world.network.flow("router")
        case "stop payee":
            world.network.stop("payee")
        case "start":
            world.network.start("broker")
            world.network.start("payee")
        case _:
            return
    if op.name != "rush":
        await world.settle_down()


async def _tolerant(asking: Coroutine[None, None, object]) -> None:
    try:
        await asking
    except BrokerError:
        return


async def _check(world: WithdrawalWorld) -> None:
    await world.settle_down()
    found = await world.withdrawals()
    reserved = sum(w.reserved_msat for w in found if w.status is WithdrawalStatus.PAYING)
    paid = sum(w.amount_msat + (w.fee_paid_msat or 0) for w in found if w.status is WithdrawalStatus.PAID)
    owed = await world.owed()
    assert owed >= 0
    assert owed + reserved + paid == OWED
    assert (await world.audit()).breaches == ()
    assert await world.ledger_spent() == paid
    try:
        spent = await world.node_spent()
        seen = {w.id: await world.network.node("payee").lookup_invoice(w.payment_hash) for w in found}
    except LightningUnavailable:
        return  # down, by a fault or by an operation: it is looked at when it is up again
    # The node may know more than the ledger by what is under way, and never less.
    assert paid <= spent <= paid + reserved
    for withdrawal in found:
        invoice = seen[withdrawal.id]
        assert invoice is not None
        settled = invoice.state is InvoiceState.SETTLED
        if withdrawal.status is WithdrawalStatus.PAID:
            assert settled, "paid, says the ledger, and the payee has nothing"
        if withdrawal.status is WithdrawalStatus.FAILED:
            assert not settled, "given back, and the payee has it too"


async def _heal(world: WithdrawalWorld, invoices: list[str]) -> None:
    world.faults.clear()
    world.network.flow("router")
    for name in ("broker", "payee", "router"):
        world.network.start(name)
    for _ in range(12):
        await world.sweep()
        await world.pass_time(31)
    found = await world.withdrawals()
    assert [w.status for w in found if w.status is WithdrawalStatus.PAYING] == []
    hashes = [w.payment_hash for w in found]
    assert len(set(hashes)) == len(hashes)
    assert set(hashes) <= {read_invoice(invoice).payment_hash for invoice in invoices}
    await _check(world)
    assert await world.node_spent() == await world.ledger_spent()


async def _play(template: Template, script: list[Op]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_withdrawals(Path(folder), template) as world:
            world.start()
            world.start()
            invoices: list[str] = []
            for op in script:
                await _do(world, op, invoices)
                await _check(world)
            await _heal(world, invoices)


@given(script=st.lists(ops, min_size=3, max_size=30))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
def test_a_withdrawal_is_paid_once_or_owed_again(template: Template, script: list[Op]) -> None:
    asyncio.run(_play(template, script))
