"""Running one cell: a market of its own on a simulated network, one kill, a restart, and the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog.testing
from kill_matrix.cells import Aftermath, Cell
from kill_matrix.flows import Flow
from kill_matrix.parties import PROVIDER, Buyer, Provider
from kill_matrix.process import Gone, Host, owned_task
from kill_matrix.steps import STATE, Kind, Moment, Step, Steps, state_of
from kill_matrix.stores import PostgresStore, SqliteStore, Store
from kill_matrix.verdict import Facts, Finding, Money, judge
from kill_matrix.virtual_time import LoopTime, VirtualLoop
from kill_matrix.watched import AnswerLost

from lightwork_broker.audit import audit
from lightwork_broker.db.place import migrate
from lightwork_broker.ledger.rules import balance_account
from lightwork_broker.lightning.simulated import Policy, SimulatedNetwork
from lightwork_contracts.money import Msat, sats

T = TypeVar("T")

PATIENCE_SECONDS = 1_500
"""Virtual seconds in which every flow must be over, counted from the restart."""
AT_REST_SECONDS = 60.0
"""How long the broker may go on with its books when all that it has to do is write down what the node says."""
STUCK_SECONDS = 20
CAPACITY = sats(16_000_000)
BLOCK_SECONDS = 600
BLOCKS_WITHOUT_HTLC = 60
SPARE_BLOCKS = 20
"""How many blocks before LND's own deadline the restart comes: half of the guardian's margin is gone."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run led to: its steps, its length, of which nothing could happen for `outage_seconds`, the verdict."""

    steps: tuple[Step, ...]
    seconds: float
    outage_seconds: float
    finding: Finding
    boot_seconds: float


def run_flow(flow: Flow, *, template: Path, folder: Path) -> Run:
    """Run a flow that nobody disturbs, with each step described. What was in the folder is overwritten."""
    return run_on(SqliteStore(template, folder), flow, None, folder=folder)


def run_cell(cell: Cell, *, template: Path, folder: Path) -> Run:
    """Run a cell.

    Raises:
        NeverCame: the run did not come to the cell's step.
    """
    return run_on(SqliteStore(template, folder), cell.flow, cell, folder=folder)


def run_on(store: Store, flow: Flow, cell: Cell | None, *, folder: Path) -> Run:
    """Run a flow on a database, disturbed by a cell or by nobody.

    Raises:
        NeverCame: the run did not come to the cell's step.
    """
    return _run(_Story(flow, cell, store=store, folder=folder).run())


class NeverCame(AssertionError):
    """A run went by without its step: a server's answers do not come in the same order each time."""


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.get_loop().set_task_factory(owned_task)
        return runner.run(work)


@dataclass
class _Story:
    flow: Flow
    cell: Cell | None
    store: Store
    folder: Path
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    struck_again: asyncio.Event = field(default_factory=asyncio.Event)
    outage_seconds: float = 0.0

    async def run(self) -> Run:
        self.store.fresh()
        self.network = _network()
        self.steps = Steps(now=LoopTime().now)
        self.host = Host(
            lambda: self.network.node("broker"), folder=self.folder, store=self.store, steps=self.steps
        )
        with structlog.testing.capture_logs() as logs:
            await self.host.start()
            provider = Provider(self.host, self.network, self.flow)
            buyer = Buyer(self.host, self.network, self.flow, await provider.publish())
            before = await self._money()
            self._arm()
            begun = LoopTime().now()
            background = [
                asyncio.create_task(work, name=name)
                for name, work in (
                    ("provider", provider.run()),
                    ("road", self._road()),
                    ("aftermath", self._aftermath()),
                )
            ]
            over = await self._until_over(buyer, provider, aftermath=background[-1])
            ended = LoopTime().now()
            self.steps.counting = False
            facts = await self._facts(before, buyer=buyer, provider=provider, over=over)
            boots = self.host.boots[-1]
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self.host.stop()
        if self.cell is not None and not self.struck.is_set():
            raise NeverCame(f"the run never came to its step: {self.cell}")
        finding = judge(facts, flow=self.flow, cell=self.cell, logs=logs)
        return Run(tuple(self.steps.taken), ended - begun, self.outage_seconds, finding, boots)

    # --- the kill ---------------------------------------------------------------------------------------

    def _arm(self) -> None:
        self._keep(0)
        self.steps.counting = True
        self.steps.saw_commit = self._keep
        if self.cell is None or self.store.on_server:
            self.steps.describe = self._describe
        if self.cell is not None:
            self.steps.strike = self._strike
            if self.store.on_server:
                self.steps.aim = self.cell.step
            else:
                self.steps.kill_at = self.cell.step.number

    def _strike(self, step: Step) -> None:
        cell = self.cell
        if cell is None:
            return
        planned = cell.step
        if (step.kind, step.name, step.moment) != (planned.kind, planned.name, planned.moment):
            raise AssertionError(f"the run took another way: {step} instead of {planned}")
        self.steps.counting = False
        self.struck.set()
        if cell.takes_down_lnd:
            self.network.stop("broker")
        if cell.takes_down_server:
            self._server.kill()
        if cell.takes_down_broker:
            self.host.die()
        elif step.moment is Moment.AFTER and step.kind is (
            Kind.COMMIT if cell.takes_down_server else Kind.CALL
        ):
            raise AnswerLost

    async def _aftermath(self) -> None:
        """Wait for the kill, let time pass, and bring back what was killed."""
        await self.struck.wait()
        cell, since = self.cell, LoopTime().now()
        if cell is None:
            return
        if cell.takes_down_broker:
            await self.host.stop()
        else:
            await asyncio.sleep(1)
        if cell.aftermath in (Aftermath.BLOCKS, Aftermath.OUTAGE):
            await self._mine(cell)
        if cell.takes_down_server:
            self._server.server.start()
        if cell.backup is not None and cell.takes_down_broker:
            self.store.restore()
        if cell.takes_down_lnd:
            self.network.start("broker")
        self.outage_seconds = LoopTime().now() - since
        if cell.again is not None:
            self._arm_again(cell.again)
        if cell.takes_down_broker:
            await self._start_until_it_serves()
        if cell.again is not None:
            await self.struck_again.wait()
            await self.host.stop()
            await self._start_until_it_serves()

    async def _start_until_it_serves(self) -> None:
        while True:
            try:
                await self.host.start()
            except Gone:
                await self.host.stop()
            else:
                return

    def _arm_again(self, number: int) -> None:
        """Kill what recovers, too: its steps are counted from its start."""

        def strike(step: Step) -> None:
            self.steps.counting = False
            self.struck_again.set()
            self.host.die()

        self.steps.restart(kill_at=number, strike=strike)

    async def _mine(self, cell: Cell) -> None:
        deadline = self.network.next_deadline()
        blocks = BLOCKS_WITHOUT_HTLC
        if deadline is not None:
            spare = SPARE_BLOCKS if cell.aftermath is Aftermath.BLOCKS else -1
            blocks = deadline - spare - self.network.height
        for _ in range(max(blocks, 0)):
            self.network.mine()
        if cell.takes_down_broker:
            await asyncio.sleep(BLOCK_SECONDS * blocks)

    # --- the database -----------------------------------------------------------------------------------

    def _keep(self, commit: int) -> None:
        """Keep a copy of the database as it is at this commit, if the restart needs it."""
        if self.cell is not None and self.cell.backup == commit:
            self.store.keep()

    @property
    def _server(self) -> PostgresStore:
        assert isinstance(self.store, PostgresStore), "there is no server to kill"
        return self.store

    def _describe(self) -> str:
        found = self.store.rows(STATE, "")
        return state_of(tuple(found[0].values()) if found else None)

    def _has_open_books(self) -> bool:
        query = (
            "SELECT id FROM escrow WHERE state NOT IN ('settled', 'canceled', 'returned', 'lost') "
            "UNION ALL SELECT id FROM withdrawal WHERE status = 'paying'"
        )
        return bool(self.store.rows(query))

    # --- to the end -------------------------------------------------------------------------------------

    async def _road(self) -> None:
        """Keep the payout stuck on its way for a while, if the flow is about that."""
        if not self.flow.stuck:
            return
        self.network.stall("road")
        while len(self.network.waiting()) < 2 and not self.struck.is_set():  # noqa: ASYNC110  (in no time)
            await asyncio.sleep(1)
        await asyncio.sleep(STUCK_SECONDS)
        self.network.flow("road")

    async def _until_over(self, buyer: Buyer, provider: Provider, *, aftermath: asyncio.Task[None]) -> bool:
        """Wait until the parties are done and no money waits anywhere; False when that does not come."""

        async def parties() -> None:
            await buyer.run()
            if self.flow.withdraws and buyer.is_settled:
                await provider.withdraw()
            while self.network.waiting():  # noqa: ASYNC110  (in no time)
                await asyncio.sleep(1)
            if self.cell is not None:
                await aftermath

        done = asyncio.create_task(parties(), name="parties")
        # The outage itself is not the broker's to answer for: the patience begins anew at the restart.
        await asyncio.wait({done, aftermath}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self.struck.is_set():
            await aftermath
        await asyncio.wait({done}, timeout=PATIENCE_SECONDS)
        if done.done():
            done.result()
            # The parties of a job that an older database has open may be done with it before the broker is.
            end = LoopTime().now() + AT_REST_SECONDS
            while self._has_open_books() and LoopTime().now() < end:  # noqa: ASYNC110  (in no time)
                await asyncio.sleep(1)
            return True
        done.cancel()
        return False

    async def _facts(self, before: Money, *, buyer: Buyer, provider: Provider, over: bool) -> Facts:
        after = await self._money()
        self.network.check()
        books = await self.host.ask(lambda rooms: audit(rooms.database))
        jobs = self.store.rows(
            "SELECT job.status, escrow.state, escrow.unknown_since FROM job JOIN escrow ON escrow.id = job.id "
            "ORDER BY job.id"
        )
        withdrawals = self.store.rows("SELECT * FROM withdrawal")
        secrets = [
            row["preimage"]
            for row in self.store.rows("SELECT preimage FROM escrow WHERE preimage IS NOT NULL")
        ]
        return Facts(
            moved=after - before,
            waiting=len(self.network.waiting()),
            over=over,
            jobs=jobs,
            withdrawals=withdrawals,
            books=books,
            owed_msat=-books.balances.get(balance_account(PROVIDER), 0),
            secrets=tuple(secrets),
            called=provider.called_operator,
        )

    async def _money(self) -> Money:
        names = ("buyer", "provider", "broker")
        return Money(*[int(await self.network.node(name).local_balance_msat()) for name in names])


def _network() -> SimulatedNetwork:
    """Return buyer - broker - road - provider in a row, where the road takes no fee."""
    made = SimulatedNetwork(seed=b"kill matrix", clock=LoopTime())
    free, half = Policy(fee_base_msat=Msat(0), fee_ppm=0), Msat(CAPACITY // 2)
    for name in ("broker", "buyer", "provider", "road"):
        made.add_node(name)
    for one, other in (("buyer", "broker"), ("broker", "road"), ("road", "provider")):
        made.open_channel(one, other, capacity_msat=CAPACITY, push_msat=half, policy=free, peer_policy=free)
    return made


def make_template(folder: Path) -> Path:
    """Return a migrated database, to be copied for each run."""
    path = folder / "template.sqlite"
    migrate(str(path))
    return path
