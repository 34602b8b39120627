"""One cell on real nodes: bitcoind, LND and the broker as processes, killed with SIGKILL."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from e2e_broker import BrokerProcess
from e2e_money import NODES
from e2e_waiting import until
from e2e_world import World
from kill_matrix import child
from kill_matrix.cells import Aftermath, Cell, Victim
from kill_matrix.flows import Flow
from kill_matrix.matrix import Result
from kill_matrix.parties import OVER
from kill_matrix.real_market import PersistentBuyer, PersistentCreditor
from kill_matrix.real_sellers import CREDIT_KEY, selling
from kill_matrix.run_cell import SPARE_BLOCKS
from kill_matrix.steps import Kind, Moment, Step
from kill_matrix.verdict import Facts, Money, judge

from lightwork_broker.audit import Audit
from lightwork_broker.ledger.rules import balance_account
from lightwork_broker.lightning.ports import DEFAULT_HOLD_EXPIRY_DELTA
from lightwork_regtest import Network
from lightwork_regtest.nodes.lnd_answers import Empty

PAY_SETTING = "LIGHTWORK_BROKER_PAY_SECONDS"
PAY_SECONDS = 60
UNPAID_SECONDS = 6
FLOW_SECONDS = 180.0
"""In an older copy a provider that has delivered is at work again: what the node has settled is booked when the time
for work, a minute, is over."""
STRIKE_SECONDS = 30.0
GONE_SECONDS = 60.0
"""Nodes that were killed find each other again by and by."""
BLOCKS_WITHOUT_HTLC = 6
MOST_BLOCKS_OF_A_PAYOUT = 50
"""A payout may be so long on its way: 80 blocks from its start it expires, and the channel goes on chain."""


FORWARDING = "escrow forwarding"


class ChannelGone(Exception):
    """A node has closed a channel. What it was worth is on the chain, and no cell can be played here any more."""


class NeverCame(AssertionError):
    """The run went by without the planned step: real nodes do not take the same steps each time."""


@dataclass
class RealMarket:
    """A broker on real nodes that can be killed at a step, with agents that sell. Made by `open_market`."""

    world: World
    folder: Path
    channels: frozenset[str]
    """What is open, and must stay so."""

    @property
    def broker(self) -> BrokerProcess:
        return self.world.broker

    async def trace(self, flow: Flow) -> tuple[tuple[Step, ...], float]:
        """Run a flow that nobody disturbs; return its steps and how long it took."""
        (self.folder / "trace").unlink(missing_ok=True)
        begun = time.monotonic()
        facts = await self._played(flow, child.Plan(id=secrets.token_hex(4)), None)
        took = time.monotonic() - begun
        finding = judge(facts, flow=flow, cell=None, logs=())
        if not finding.is_good:
            raise AssertionError(f"{flow.name}, with nobody killed: {finding}")
        lines = (self.folder / "trace").read_text().splitlines()
        return tuple(_step(json.loads(line)) for line in lines), took

    async def run(self, cell: Cell, *, undisturbed: float) -> Result:
        """Run a cell.

        Raises:
            NeverCame: the run did not come to the cell's step.
            ChannelGone: the outcome says nothing of the broker.
        """
        begun = time.monotonic()
        step = cell.step
        plan = child.Plan(
            id=secrets.token_hex(4),
            name=step.name,
            moment=step.moment.value,
            state=step.state,
            kills_lnd=cell.takes_down_lnd and not cell.takes_down_broker,
            keeps=cell.backup is not None,
        )
        outage: list[float] = []
        facts = await self._played(
            cell.flow, plan, lambda after_job: self._kill(cell, outage, after_job=after_job)
        )
        took = time.monotonic() - begun
        finding = judge(facts, flow=cell.flow, cell=cell, logs=())
        if (
            not finding.is_good
            and await asyncio.to_thread(open_channels, self.world.network) != self.channels
        ):
            raise ChannelGone(str(cell))
        delay = max(took - sum(outage) - undisturbed, 0.0)
        return Result(cell, finding, delay_seconds=delay, boot_seconds=sum(outage), took_seconds=took)

    async def _played(
        self,
        flow: Flow,
        plan: child.Plan,
        kill: Callable[[str], Coroutine[Any, Any, None]] | None,
    ) -> Facts:
        """Play a flow under a plan, and return what it has changed."""
        await self._give_time_to_pay(flow)
        if flow.withdraws:
            # What others have paid on this node shortly before looks like withdrawals that the books forgot.
            await self.broker.command("audit", "--acknowledge")
        await self.world.money.until_gone(seconds=GONE_SECONDS)
        before, books_before = await self._measure(), await self.world.money.books()
        file = self.folder / "plan"
        after_job, after_withdrawal = self._last("job"), self._last("withdrawal")
        replace(plan, after_job=after_job).write(file)
        buyer, creditor = PersistentBuyer(self.world, flow), PersistentCreditor(self.world)

        async def parties() -> None:
            await buyer.run()
            if flow.withdraws and buyer.is_settled:
                await creditor.withdraw()

        buying = asyncio.create_task(parties())
        over = False
        try:
            if kill is not None:
                await self._until_struck(buying)
                await kill(after_job)
            with suppress(TimeoutError):
                async with asyncio.timeout(FLOW_SECONDS):
                    await asyncio.shield(buying)
                    await self.world.money.until_gone(seconds=GONE_SECONDS)
                    await self._over_again(buyer)
                    over = True
        finally:
            buying.cancel()
            await asyncio.gather(buying, return_exceptions=True)
            file.unlink(missing_ok=True)
        if not over:
            await asyncio.to_thread(self._give_back)

        async def facts_now() -> Facts:
            facts = await self._facts(before, books_before, buyer=buyer, over=over)
            withdrawals = self._rows("SELECT * FROM withdrawal WHERE id > ?", after_withdrawal)
            return replace(facts, withdrawals=withdrawals, called=creditor.called_operator)

        facts = await facts_now()
        # Books lag behind the wallets by one commit; what they say is asked for until it fits, within a bound.
        deadline = time.monotonic() + 10
        while judge(facts, flow=flow, cell=None, logs=()).breaches and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            facts = await facts_now()
        return facts

    async def _over_again(self, buyer: PersistentBuyer) -> None:
        """Wait for the end of a job that was over for its buyer, and is not in an older copy of the database."""
        while buyer.job is not None:
            rows = self._rows("SELECT status FROM job WHERE id = ?", buyer.job.id)
            if all(row["status"] in OVER for row in rows):
                return
            await asyncio.sleep(0.1)

    async def _give_time_to_pay(self, flow: Flow) -> None:
        """Let the buyer have little time where it does not pay, and enough for any outage where it does."""
        seconds = str(UNPAID_SECONDS if flow.cancel is None and not flow.pays else PAY_SECONDS)
        if self.broker.env[PAY_SETTING] != seconds:
            self.broker.env[PAY_SETTING] = seconds
            await self.broker.stop()
            await self.broker.start()

    async def _until_struck(self, buying: asyncio.Task[None]) -> None:
        struck = self.folder / child.STRUCK

        async def reached() -> bool:
            return struck.exists() or buying.done()

        await until(reached, what="the step is reached", seconds=STRIKE_SECONDS, every=0.02)
        if not struck.exists():
            raise NeverCame

    async def _kill(self, cell: Cell, outage: list[float], *, after_job: str) -> None:
        """Kill while the broker stands still at its step, let blocks pass, and bring everything back."""
        begun, network = time.monotonic(), self.world.network
        struck = self.folder / child.STRUCK
        commits = int(struck.read_text())
        expiry = await asyncio.to_thread(self._expiry)
        if cell.takes_down_lnd:
            await asyncio.to_thread(network.kill_node, "broker")
        if cell.takes_down_broker:
            await self.broker.kill()
        struck.unlink()
        if cell.aftermath is Aftermath.BLOCKS:
            stuck = cell.flow.stuck and FORWARDING in cell.step.state
            stuck = stuck or await asyncio.to_thread(self._payout_hangs)
            await self._mine(expiry, most=MOST_BLOCKS_OF_A_PAYOUT if stuck else None)
        if cell.backup is not None:
            self._restore(self._choose(cell, commits, after_job=after_job))
        if cell.takes_down_lnd:
            await asyncio.to_thread(network.start_node, "broker")
        if cell.takes_down_broker:
            await self.broker.restart()
        outage.append(time.monotonic() - begun)

    def _expiry(self) -> int | None:
        node = self.world.network.node("broker")
        found = [htlc.expiry_height for htlc in node.pending_htlcs() if htlc.incoming]
        return min(found, default=None)

    def _payout_hangs(self) -> bool:
        """Tell whether the provider's channel still has the HTLC of a payout, though it may be paid by now."""
        return any(htlc.incoming for htlc in self.world.network.node("provider").pending_htlcs())

    async def _mine(self, expiry: int | None, *, most: int | None) -> None:
        network = self.world.network
        blocks = BLOCKS_WITHOUT_HTLC
        if expiry is not None:
            height = (await asyncio.to_thread(network.node("buyer").info)).block_height
            blocks = expiry - DEFAULT_HOLD_EXPIRY_DELTA - SPARE_BLOCKS - height
        if most is not None:
            blocks = min(blocks, most)
        if blocks > 0:
            await asyncio.to_thread(lambda: network.mine(blocks, force=True))

    def _choose(self, cell: Cell, commits: int, *, after_job: str) -> int:
        """Return the commit to go back to: on real nodes, polls shift the numbers from run to run."""
        if cell.aftermath is not Aftermath.BACKUP:
            return max(commits - 1, 0)
        known = [commit for commit in range(commits) if self._last("job", self._copy(commit)) > after_job]
        if not known:
            return max(commits - 1, 0)
        return known[0 if cell.victim is Victim.DATABASE else 7 * cell.step.number % len(known)]

    def _copy(self, commit: int) -> Path:
        return self.folder / f"commit-{commit}.sqlite"

    def _restore(self, commit: int) -> None:
        path = self.broker.data_dir / "broker.sqlite"
        for ending in ("-wal", "-shm"):
            path.with_name(f"broker.sqlite{ending}").unlink(missing_ok=True)
        shutil.copyfile(self._copy(commit), path)

    # --- what it led to ---------------------------------------------------------------------------------

    async def _measure(self) -> Money:
        read = [asyncio.to_thread(self.world.network.node(name).wealth_msat) for name in NODES]
        wealth = dict(zip(NODES, await asyncio.gather(*read), strict=True))
        return Money(wealth["buyer"], wealth["provider"], wealth["broker"])

    async def _facts(self, before: Money, books: Audit, *, buyer: PersistentBuyer, over: bool) -> Facts:
        after, now = await self._measure(), await self.world.money.books()
        accounts = {*books.balances, *now.balances}
        gained = {
            account: now.balances.get(account, 0) - books.balances.get(account, 0) for account in accounts
        }
        jobs: list[dict[str, Any]] = []
        if buyer.job is not None:
            jobs = self._rows(
                "SELECT job.status, escrow.state, escrow.unknown_since FROM job JOIN escrow USING (id) "
                "WHERE id = ?",
                buyer.job.id,
            )
        return Facts(
            moved=after - before,
            waiting=0,
            over=over,
            jobs=jobs,
            withdrawals=(),
            books=replace(now, balances=gained),
            owed_msat=-gained.get(balance_account(CREDIT_KEY.public), 0),
            secrets=(),
        )

    def _rows(self, query: str, *values: str, path: Path | None = None) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(path or self.broker.data_dir / "broker.sqlite")) as look:
            look.row_factory = sqlite3.Row
            return [dict(row) for row in look.execute(query, values)]

    def _last(self, table: str, path: Path | None = None) -> str:
        return self._rows(f"SELECT max(id) AS id FROM {table}", path=path)[0]["id"] or ""

    def _give_back(self) -> None:
        """Let no later cell pay for this one."""
        node = self.world.network.node("broker")
        for htlc in node.pending_htlcs():
            if htlc.incoming:
                number = base64.b64encode(bytes.fromhex(htlc.payment_hash)).decode()
                node.rest.post("/v2/invoices/cancel", Empty, {"payment_hash": number})


def open_channels(network: Network) -> frozenset[str]:
    """Return the channels of the broker's node."""
    return frozenset(channel.channel_point for channel in network.node("broker").channels())


@asynccontextmanager
async def open_market(network: Network, folder: Path) -> AsyncGenerator[RealMarket]:
    """Start the broker that can be killed, with everything on sale."""
    settings = {"sweep_seconds": 3, "pay_seconds": PAY_SECONDS, "forward_seconds": 60}
    command = (sys.executable, child.__file__)
    broker = BrokerProcess(network, folder=folder, command=command, settings=settings)
    broker.env[child.PLAN] = str(folder / "plan")
    broker.env["PYTHONPATH"] = str(Path(child.__file__).parent.parent)
    await broker.start()
    world = World(network, broker)
    try:
        async with selling(world):
            yield RealMarket(world, folder, await asyncio.to_thread(open_channels, network))
    finally:
        await world.close()
        await broker.stop()


def _step(values: dict[str, Any]) -> Step:
    return Step(**{**values, "kind": Kind(values["kind"]), "moment": Moment(values["moment"])})
