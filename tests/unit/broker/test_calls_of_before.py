"""A call to pay that is still on its way is waited for, whatever clocks say and whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from databases import Template, WrappedDatabase
from hypothesis import given
from hypothesis import strategies as st
from withdrawal_world import AGENT, OWED, WithdrawalWorld, WrongBy, open_withdrawals

from lightwork_broker.accounts.service import Accounts
from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.lightning.conclusion import GRACE_SECONDS, SECOND_LOOK_SECONDS, Watch
from lightwork_broker.lightning.simulated import Fault
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.wire.accounts import WithdrawalStatus as S

HOUR = 3_600.0
FEE = Msat(1_000)


@pytest.fixture
async def world(template: Template, tmp_path: Path) -> AsyncGenerator[WithdrawalWorld]:
    async with open_withdrawals(tmp_path, template) as opened:
        yield opened


class StallingDatabase(WrappedDatabase):
    """A broker's way to the database, in which it stands still after the commit of its second transaction."""

    def __init__(self, place: str) -> None:
        super().__init__(open_database(place))
        self.writes = 0
        self.standing, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        async with super().write() as tx:
            yield tx
        self.writes += 1
        if self.writes == 2:
            self.standing.set()
            await self.go_on.wait()

    @asynccontextmanager
    async def door(self, opened: AbstractAsyncContextManager[Transaction]) -> AsyncGenerator[Transaction]:
        async with opened as tx:
            yield tx


async def _ask(world: WithdrawalWorld, accounts: Accounts) -> None:
    invoice = await world.invoice(sats(10))
    await accounts.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key=None)
    await world.settle_down()


async def _each_second(world: WithdrawalWorld, seconds: int) -> None:
    for _ in range(seconds):
        await world.sweep()
        await world.pass_time(1)


async def _require_paid(world: WithdrawalWorld) -> None:
    await world.sweep()
    await world.pass_time(31)
    await world.sweep()
    assert [w.status for w in await world.withdrawals()] == [S.PAID]
    assert await world.payee_has() == sats(10)
    assert await world.owed() == OWED - sats(10) - FEE
    assert await world.node_spent() == await world.ledger_spent()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("after", [1, 11, 29])
async def test_the_call_of_a_killed_broker_is_waited_for_although_the_clock_jumps_before_the_next_start(
    world: WithdrawalWorld, after: int, jump: float
) -> None:
    # The node reads the call so many seconds after the broker was started again.
    world.faults.plan(Fault.LATE_CALL, method="pay", node="broker", seconds=11 + after)
    await _ask(world, world.start(wrong_by=WrongBy()))
    await world.pass_time(11)
    await world.kill()
    wrong_by = WrongBy(jump)
    world.start(wrong_by=wrong_by)
    await _each_second(world, after + 1)
    wrong_by.seconds = 0.0
    await _require_paid(world)


async def test_a_node_that_stood_still_is_asked_twice_after_it_goes_on(world: WithdrawalWorld) -> None:
    world.faults.plan(Fault.LATE_CALL, method="pay", node="broker", seconds=60)
    await _ask(world, world.start())
    await world.pass_time(11)
    await world.kill()
    world.start(wrong_by=WrongBy(HOUR))
    await _each_second(world, 5)  # it says that it knows of no such payment,
    world.network.stop("broker")  # and stands still while the call reaches its socket;
    await _each_second(world, 40)
    world.network.start("broker")  # and answers look-ups before it reads what waits there
    await _each_second(world, 3)
    assert [w.status for w in await world.withdrawals()] == [S.PAYING]
    await _require_paid(world)


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_a_broker_whose_clock_is_another_one_gives_nothing_back_that_is_on_its_way(
    world: WithdrawalWorld, ahead: float
) -> None:
    first = world.start()
    world.start(wrong_by=WrongBy(ahead))
    world.faults.plan(Fault.LATE_CALL, method="pay", node="broker", seconds=29)
    await _ask(world, first)
    await _each_second(world, 30)
    await _require_paid(world)


@pytest.mark.parametrize("put_back", [0.0, 100.0], ids=["right clock", "clock put back meanwhile"])
async def test_a_broker_that_stood_still_before_its_call_does_not_make_it_when_another_may_have_given_up(
    world: WithdrawalWorld, put_back: float
) -> None:
    database, wrong_by = StallingDatabase(world.place), WrongBy()
    stalls = world.start(wrong_by=wrong_by, database=database)
    world.start(wrong_by=WrongBy(HOUR))
    invoice = await world.invoice(sats(10))
    await stalls.withdraw(AGENT, invoice=invoice, max_fee_msat=sats(2), key=None)
    async with asyncio.timeout(20):
        await database.standing.wait()
    await _each_second(world, GRACE_SECONDS + SECOND_LOOK_SECONDS + 2)
    assert [w.status for w in await world.withdrawals()] == [S.FAILED]
    wrong_by.seconds = -put_back
    database.go_on.set()
    await world.settle_down()
    assert await world.payee_has() == 0
    assert await world.owed() == OWED
    assert await world.node_spent() == await world.ledger_spent() == 0
    await world.kill()
    await database.close()


looks = st.lists(st.tuples(st.integers(0, 15), st.booleans()), min_size=1, max_size=30)


@given(looks)
def test_the_last_word_is_an_unbroken_row_of_denials_and_never_the_first_half_minute(
    found: list[tuple[int, bool]],
) -> None:
    now, row = 0, None
    watch = Watch(lambda: float(now))
    watch.begin("call")
    for seconds, denied in found:
        now += seconds
        if not denied:
            watch.was_not_denied("call")
            row = None
            continue
        row = now if row is None else row
        assert watch.is_last_word("call") is (now >= GRACE_SECONDS and now - row >= SECOND_LOOK_SECONDS)
