"""Ledger rows are added once and never changed, and the database itself sees to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from databases import Look, SqliteTemplate, Template
from escrow_story import Op, open_story

from lightwork_broker import schema
from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.audit import audit
from lightwork_broker.db.engine import Database
from lightwork_broker.db.place import is_server, migrate, open_database
from lightwork_broker.db.postgres import url_of
from lightwork_broker.htlc_audit import check_htlcs
from lightwork_broker.identity.store import forget_requests, take_request
from lightwork_broker.ledger import store
from lightwork_broker.ledger.rules import FEES, NODE, Entry, Posting, payout_posting
from lightwork_broker.ledger.store import LedgerConflict
from lightwork_contracts.ids import JobId, PaymentHash, Pubkey, WithdrawalId
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.accounts import WithdrawalStatus

APPEND_ONLY = (
    "ledger_transaction",
    "ledger_entry",
    "escrow_event",
    "job_event",
    "listing_version",
    "withdrawal_event",
    "payment_claim",
    "htlc_check",
)

HAS_STATES = ("escrow", "job", "withdrawal", "quote")


@pytest.fixture
async def database(template: Template, tmp_path: Path) -> AsyncGenerator[Database]:
    opened = open_database(template.copy(tmp_path))
    yield opened
    await opened.close()


def _withdrawal() -> withdrawals.Withdrawal:
    return withdrawals.Withdrawal(
        id=WithdrawalId("wdr_1"),
        agent=Pubkey("ab" * 32),
        status=WithdrawalStatus.PAYING,
        payment_hash=PaymentHash("cd" * 32),
        invoice="lnbcrt1",
        amount_msat=Msat(1),
        max_fee_msat=Msat(0),
        created_at=1,
        updated_at=1,
    )


def _posting(key: str = "k", *, amount: int = 5) -> Posting:
    return Posting(key=key, cause="a test", entries=(Entry(NODE, amount), Entry(FEES, -amount)))


async def _balances(database: Database) -> dict[str, int]:
    async with database.read() as tx:
        return await store.balances(tx)


async def test_what_is_added_once_is_added_once_however_many_ask(database: Database) -> None:
    asked = [take_request(database, "ab" * 32, created_at=1) for _ in range(20)]
    assert sorted(await asyncio.gather(*asked)) == [False] * 19 + [True]
    async with database.write() as tx:
        await forget_requests(tx, before=2)
    assert await take_request(database, "ab" * 32, created_at=2)


async def test_the_same_posting_again_adds_nothing(database: Database) -> None:
    async with database.write() as tx:
        assert await store.post(tx, _posting(), now=1)
        assert not await store.post(tx, _posting(), now=2)
    async with database.write() as tx:
        assert not await store.post(tx, _posting(), now=3)
    assert await _balances(database) == {NODE: 5, FEES: -5}


async def test_other_entries_under_a_used_key_are_refused_and_add_nothing(database: Database) -> None:
    async with database.write() as tx:
        await store.post(tx, _posting(), now=1)
    for other in (_posting(amount=6), payout_posting(JobId("k"), price_msat=5, routing_msat=0)):
        changed = Posting(key="k", cause=other.cause, entries=other.entries)
        with pytest.raises(LedgerConflict):
            async with database.write() as tx:
                await store.post(tx, changed, now=2)
    assert await _balances(database) == {NODE: 5, FEES: -5}


async def test_a_posting_in_a_transaction_that_fails_leaves_no_trace(database: Database) -> None:
    async def post_and_fail() -> None:
        async with database.write() as tx:
            await store.post(tx, _posting(), now=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await post_and_fail()
    assert await _balances(database) == {}
    async with database.write() as tx:
        assert await store.post(tx, _posting(), now=2)


async def test_the_database_refuses_to_change_what_was_recorded(template: Template) -> None:
    async with open_story(template, brokers=1) as story:
        for op in (Op("hire"), Op("pay"), Op("lease"), Op("deliver")):
            assert await story.play(op) == []
        broker = story.world.working(0)
        assert broker is not None
        async with broker.database.write() as tx:
            await withdrawals.insert(tx, _withdrawal())
        await check_htlcs(broker.database, broker.port, now=1)
        books = story.books
        for table in APPEND_ONLY:
            before = books.rows(f"SELECT * FROM {table}")
            assert before, f"{table} has no row to try this on"
            column = next(iter(before[0]))
            for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
                with pytest.raises(sa.exc.IntegrityError, match="append-only"):
                    books.change(statement)
            assert books.rows(f"SELECT * FROM {table}") == before


@pytest.mark.parametrize("template", ["postgres"], indirect=True)
async def test_a_log_cannot_be_emptied_at_one_stroke_either(template: Template, tmp_path: Path) -> None:
    with closing(Look(template.copy(tmp_path))) as look:
        for table in APPEND_ONLY:
            with pytest.raises(sa.exc.IntegrityError, match="append-only"):
                look.change(f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize("template", ["postgres"], indirect=True)
async def test_jobs_escrows_and_withdrawals_cannot_be_removed_at_one_stroke(
    template: Template, tmp_path: Path
) -> None:
    tables = ("escrow", "job", "withdrawal")
    with closing(Look(template.copy(tmp_path))) as look:
        for table in tables:
            for other in (*APPEND_ONLY, *tables):  # which may refuse it as well: they speak of each other
                look.unguard(other)
            look.guard(table, look.guards(table))
            with pytest.raises(sa.exc.IntegrityError, match="append-only"):
                look.change(f"TRUNCATE {table} CASCADE")


async def test_every_table_that_is_a_log_is_append_only(template: Template, tmp_path: Path) -> None:
    look = Look(template.copy(tmp_path))
    sqlite = isinstance(template, SqliteTemplate)
    sql = (
        "SELECT tbl_name AS tab, name FROM sqlite_master WHERE type = 'trigger'"
        if sqlite
        else "SELECT tgrelid::regclass::text AS tab, tgname AS name FROM pg_trigger WHERE NOT tgisinternal"
    )
    found = {(row["tab"], row["name"].removeprefix(f"{row['tab']}_")) for row in look.rows(sql)}
    names = ("no_update", "no_delete", "added_once") if sqlite else ("append_only", "no_truncate")
    assert {(table, name) for table in APPEND_ONLY for name in names} == {
        (table, name) for table, name in found if table not in HAS_STATES
    }
    look.close()


@pytest.mark.parametrize("template", ["sqlite"], indirect=True)
async def test_nothing_that_was_recorded_is_replaced_either(template: Template) -> None:
    async with open_story(template, brokers=1) as story:
        for op in (Op("hire"), Op("pay"), Op("lease"), Op("deliver")):
            assert await story.play(op) == []
        broker = story.world.working(0)
        assert broker is not None
        async with broker.database.write() as tx:
            await withdrawals.insert(tx, _withdrawal())
        await check_htlcs(broker.database, broker.port, now=1)
        for table in (*APPEND_ONLY, "escrow", "job", "withdrawal"):
            before = story.books.rows(f"SELECT * FROM {table}")
            with pytest.raises(sa.exc.IntegrityError):
                story.books.change(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
            assert story.books.rows(f"SELECT * FROM {table}") == before


async def test_the_audit_finds_an_escrow_account_that_was_not_closed(database: Database) -> None:
    async with database.write() as tx:
        await store.post(tx, payout_posting(JobId("job_x"), price_msat=10, routing_msat=1), now=1)
    found = await audit(database)
    assert found.balances == {NODE: -11, "escrow:job_x": 11}
    assert any("escrow:job_x holds 11 msat" in breach for breach in found.breaches)


def test_migrating_gives_the_models_exactly_and_again_changes_nothing(
    template: Template, tmp_path: Path
) -> None:
    place = template.copy(tmp_path)
    for _ in range(2):
        migrate(place)
        engine = _engine(place)
        try:
            with engine.connect() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, schema.metadata()) == []
                tables = set(sa.inspect(connection).get_table_names())
        finally:
            engine.dispose()
        assert tables == set(schema.metadata().tables) | {"alembic_version"}


def test_the_checks_of_the_models_are_in_the_database(template: Template, tmp_path: Path) -> None:
    engine = _engine(template.copy(tmp_path))
    try:
        for name, table in schema.metadata().tables.items():
            wanted = {check.name for check in table.constraints if isinstance(check, sa.CheckConstraint)}
            found = {check["name"] for check in sa.inspect(engine).get_check_constraints(name)}
            assert found == wanted, name
    finally:
        engine.dispose()


def _engine(place: str) -> sa.Engine:
    return sa.create_engine(
        url_of(place) if is_server(place) else f"sqlite:///{place}", poolclass=sa.NullPool
    )
