"""Whatever ends unforeseen in the background is in the log, and is taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import structlog.testing
from databases import Template, WrappedDatabase
from e2e_waiting import until
from escrow_story import BUYER, PROVIDER, Op, Story
from escrow_world import LIMITS, PREIMAGES, PROVIDER_NODE_KEY, CountedIds, ManualClock, open_world
from fast_folder import fast_folder
from faulty_node import OWN_NODE, FaultyNode
from faulty_port import Port

from lightwork_broker.accounts.service import AccountLimits, Accounts
from lightwork_broker.app import create_app
from lightwork_broker.clock import SystemClock
from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database
from lightwork_broker.escrow import store
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE, Entry, Posting, balance_account
from lightwork_broker.lightning.ports import HoldInvoice, Payout
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.signals import Signals
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import JobId, PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.accounts import WithdrawalStatus
from lightwork_contracts.wire.jobs import PollWork
from lightwork_contracts.wire.market import RequestQuote

OWED = Msat(50_000)


class Unforeseen(Exception):
    """What no line of the broker's code expects."""


class Tripping(Port):
    """A connection that trips once over each of these calls."""

    def __init__(self, node: FaultyNode, *calls: str) -> None:
        super().__init__(node)
        self._calls = set(calls)
        self.follows_blocks = 0

    def _trip(self, call: str) -> None:
        if call in self._calls:
            self._calls.remove(call)
            raise Unforeseen

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        self._trip("lookup")
        return await super().lookup(payment_hash)

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        self._trip("pay")
        return await super().pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )

    async def blocks(self) -> AsyncGenerator[int, None]:
        self._trip("blocks")
        self.follows_blocks += 1
        yield 1_000
        await asyncio.Event().wait()


async def _rest(name: str) -> None:
    """Wait for the tasks of this name to end."""
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == name]
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


async def test_an_escrow_whose_task_ends_unforeseen_is_in_the_log_and_is_driven_again(story: Story) -> None:
    for op in (Op("hire"), Op("pay"), Op("lease"), Op("node_down"), Op("deliver"), Op("kill"), Op("node_up")):
        assert await story.play(op) == []
    (escrow,) = story.books.rows("SELECT id, state FROM escrow")
    assert escrow["state"] == "releasing"
    database = open_database(story.world.place)
    escrows = EscrowService(
        database=database,
        node=Tripping(story.world.node, "lookup"),
        clock=story.world.clock,
        limits=LIMITS,
        preimages=PREIMAGES,
    )
    try:
        with structlog.testing.capture_logs() as logs:
            escrows.schedule(JobId(escrow["id"]))
            await _rest(f"escrow {escrow['id']}")
        assert "escrow.task_failed" in [line["event"] for line in logs if line["log_level"] == "error"]
        assert story.books.rows("SELECT state FROM escrow") == [{"state": "releasing"}]
        escrows.schedule(JobId(escrow["id"]))
        await _rest(f"escrow {escrow['id']}")
    finally:
        await escrows.close()
        await database.close()
    assert story.books.rows("SELECT state FROM escrow") == [{"state": "settled"}]


async def test_a_withdrawal_whose_task_ends_unforeseen_is_in_the_log_and_owed_again(
    template: Template, tmp_path: Path
) -> None:
    clock = ManualClock()
    node = FaultyNode(clock)
    place = template.copy(tmp_path)
    database = open_database(place)
    owed = Posting(
        key="settle:job", cause="work", entries=(Entry(NODE, OWED), Entry(balance_account(PROVIDER), -OWED))
    )
    async with database.write() as tx:
        await ledger.post(tx, owed, now=int(clock.now()))
    accounts = Accounts(
        database=database,
        node=Tripping(node, "pay"),
        clock=clock,
        ids=CountedIds(clock),
        signals=Signals(),
        limits=AccountLimits(
            network="regtest",
            own_node=OWN_NODE,
            ceiling_msat=OWED,
            day_msat=Msat(0),
            day_msat_of_all=Msat(0),
            open_at_once=5,
        ),
        pending=store.credit_under_way,
        gate=PayoutGate(),
    )
    invoice = write_invoice(
        network=Network.REGTEST,
        amount_msat=Msat(1_000),
        timestamp=int(clock.now()),
        payment_hash=node.provider_hash("withdrawal"),
        payment_secret="ab" * 32,
        private_key=PROVIDER_NODE_KEY,
        description="take",
        expiry_seconds=3_600,
        min_final_cltv=24,
    )
    try:
        with structlog.testing.capture_logs() as logs:
            made = await accounts.withdraw(PROVIDER, invoice=invoice, max_fee_msat=Msat(500), key=None)
            await _rest(f"withdrawal {made.id}")
        failed = [line for line in logs if line["event"] == "withdrawal.task_failed"]
        assert [isinstance(line["exc_info"], Unforeseen) for line in failed] == [True]
        # Nobody knows whether the call was heard, so the money stays reserved until the node denies it twice.
        assert (await accounts.get(PROVIDER, made.id)).status is WithdrawalStatus.PAYING
        for seconds in (31, 11):
            clock.time += seconds
            await accounts.sweep()
            await _rest(f"withdrawal {made.id}")
        assert (await accounts.get(PROVIDER, made.id)).status is WithdrawalStatus.FAILED
        assert (await accounts.balance(PROVIDER)).balance_msat == OWED
    finally:
        await accounts.close()
        await database.close()


async def test_a_background_loop_that_ends_unforeseen_is_in_the_log_and_begins_again(tmp_path: Path) -> None:
    node = Tripping(FaultyNode(SystemClock()), "blocks")
    app = create_app(BrokerSettings(data_dir=tmp_path), node)
    with structlog.testing.capture_logs() as logs:
        async with app.router.lifespan_context(app):
            await until(lambda: _follows(node), what="the blocks are followed again")
    failed = [line for line in logs if line["event"] == "broker.background_failed"]
    assert [(line["log_level"], type(line["exc_info"])) for line in failed] == [("critical", Unforeseen)]


class Refusing(WrappedDatabase):
    """A database that can be read and not written."""

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        raise Unforeseen


async def test_a_mark_on_a_quote_that_cannot_be_written_is_in_the_log_and_the_quote_is_handed_over(
    template: Template,
) -> None:
    with fast_folder() as folder:
        async with open_world(template, folder, brokers=1) as world:
            broker = world.working(0)
            assert broker is not None
            await broker.queue.poll(PROVIDER, PollWork(wait_seconds=0, max_quotes=1), gone=_still_there)
            wanted = RequestQuote(listing_id=world.listings[Acceptance.AUTO], input={"text": "hello"})
            asking = asyncio.create_task(broker.quotes.request(BUYER, wanted, key=None))
            await world.activity.calm()
            database = Refusing(open_database(world.place))
            queue = WorkQueue(
                database=database,
                clock=world.clock,
                signals=Signals(),
                market=broker.market,
                quotes=broker.quotes,
                jobs=broker.jobs,
                lease_seconds=15,
            )
            with structlog.testing.capture_logs() as logs:
                for _ in range(2):
                    found = await queue.poll(
                        PROVIDER, PollWork(wait_seconds=0, max_quotes=1), gone=_still_there
                    )
                    assert [work.kind for work in found.work] == ["quote"]
                    await _rest("mark quotes as handed")
            assert [line["event"] for line in logs] == ["work.mark_failed"] * 2
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await database.close()


async def _still_there() -> bool:
    return False


async def _follows(node: Tripping) -> bool:
    return node.follows_blocks > 0
