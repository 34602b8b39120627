"""Brokers' accounts on one database and one simulated node, with a payee behind a router that takes fees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from databases import Backup, Template, WrappedDatabase

from lightwork_broker.accounts import store
from lightwork_broker.accounts.service import AccountLimits, Accounts
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.audit import Audit, audit
from lightwork_broker.clock import Ids
from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, Entry, Posting, balance_account
from lightwork_broker.lightning.simulated import ManualTime, PlannedFaults, SimulatedNetwork
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.money import Msat, sats

AGENT = Pubkey("ab" * 32)
STRANGER = Pubkey("cd" * 32)
OWED = sats(1_000)
CAPACITY = sats(1_000_000)


async def _nothing_pending(tx: Transaction, agent: Pubkey) -> int:
    del tx, agent
    return 0


class CountedDatabase(WrappedDatabase):
    """A database that knows how many of its transactions are open."""

    open = 0

    def __init__(self, place: str) -> None:
        super().__init__(open_database(place))
        self._place = place

    async def go_back(self, to: Backup) -> None:
        """Become what it was before, under whoever uses it."""
        await self._inner.close()
        to.restore()
        self._inner = open_database(self._place)

    @asynccontextmanager
    async def door(self, opened: AbstractAsyncContextManager[Transaction]) -> AsyncGenerator[Transaction]:
        self.open += 1
        try:
            async with opened as tx:
                yield tx
        finally:
            self.open -= 1


@dataclass
class WrongBy:
    """By how many seconds a broker's clock is ahead."""

    seconds: float = 0.0


class WrongClock:
    """A clock that somebody sets; how long things take is measured by another one."""

    def __init__(self, right: ManualTime, wrong_by: WrongBy) -> None:
        self._right, self._wrong_by = right, wrong_by

    def now(self) -> float:
        return self._right.now() + self._wrong_by.seconds


@dataclass
class WithdrawalWorld:
    """What is owed, who owes it, and the network on which it is paid."""

    place: str
    clock: ManualTime
    faults: PlannedFaults
    network: SimulatedNetwork
    database: CountedDatabase
    limits: AccountLimits
    accounts: list[Accounts] = field(default_factory=list[Accounts])
    first_balance: int = 0
    gate: PayoutGate = field(default_factory=PayoutGate)
    invoices: int = 0

    def start(
        self,
        node: str = "broker",
        *,
        wrong_by: WrongBy | None = None,
        database: WrappedDatabase | None = None,
    ) -> Accounts:
        """Start one more broker on the node, with a clock that may be wrong, and the database or a way to it."""
        opened = self.network.node(node)
        started = Accounts(
            database=database or self.database,
            node=opened,
            clock=WrongClock(self.clock, wrong_by) if wrong_by else self.clock,
            steady=self.clock.now,
            ids=Ids(self.clock),
            signals=Signals(),
            limits=replace(self.limits, own_node=opened.pubkey),
            pending=_nothing_pending,
            gate=self.gate,
        )
        self.accounts.append(started)
        return started

    async def kill(self, index: int = 0) -> None:
        """End whatever a broker is doing where it is."""
        await self.accounts.pop(index).close()

    async def invoice(self, amount: Msat, *, expiry_seconds: int = 3_600) -> str:
        self.invoices += 1
        made = await self.network.node("payee").add_invoice(
            value_msat=amount, expiry_seconds=expiry_seconds, memo=f"take {self.invoices}", final_cltv=40
        )
        return made.payment_request

    async def settle_down(self) -> None:
        """Let everything run until nothing moves by itself: what waits, waits for the manual clock."""
        quiet = 0
        async with asyncio.timeout(20):
            while quiet < 300:
                await asyncio.sleep(0.001 if self.database.open else 0)
                quiet = 0 if self.database.open else quiet + 1

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.settle_down()

    async def sweep(self) -> None:
        for accounts in self.accounts:
            await accounts.sweep()
        await self.settle_down()

    async def withdrawals(self) -> list[Withdrawal]:
        async with self.database.read() as tx:
            return await store.of_agent(tx, AGENT, before=None, limit=100)

    async def owed(self) -> int:
        async with self.database.read() as tx:
            return -await ledger.balance(tx, balance_account(AGENT))

    async def audit(self) -> Audit:
        return await audit(self.database)

    async def payee_has(self) -> int:
        return await self.network.node("payee").local_balance_msat()

    async def node_spent(self) -> int:
        return self.first_balance - await self.network.node("broker").local_balance_msat()

    async def ledger_spent(self) -> int:
        async with self.database.read() as tx:
            return OWED - await ledger.balance(tx, NODE)


@asynccontextmanager
async def open_withdrawals(
    folder: Path, template: Template, *, limits: AccountLimits | None = None
) -> AsyncGenerator[WithdrawalWorld]:
    """Open a world in which `OWED` msat are owed to `AGENT`; no broker runs yet."""
    place = template.copy(folder)
    clock, faults = ManualTime(), PlannedFaults()
    network = SimulatedNetwork(seed=b"withdraw", clock=clock, faults=faults)
    for name in ("broker", "router", "payee"):
        network.add_node(name)
    network.open_channel("broker", "router", capacity_msat=CAPACITY)
    network.open_channel("router", "payee", capacity_msat=CAPACITY)
    database = CountedDatabase(place)
    owed = Posting(
        key="settle:job", cause="work", entries=(Entry(NODE, OWED), Entry(balance_account(AGENT), -OWED))
    )
    async with database.write() as tx:
        await ledger.post(tx, owed, now=int(clock.now()))
    node = network.node("broker")
    summary = await node.summary()
    default = AccountLimits(
        network="regtest",
        own_node=summary.pubkey,
        ceiling_msat=sats(50_000),
        day_msat=Msat(0),
        day_msat_of_all=Msat(0),
        open_at_once=3,
    )
    world = WithdrawalWorld(place, clock, faults, network, database, limits or default)
    world.first_balance = await node.local_balance_msat()
    try:
        yield world
    finally:
        while world.accounts:
            await world.kill()
        await database.close()
    network.check()
