"""What only a PostgreSQL server does for brokers that share it: one of them writes at a time, and each sees it all."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from databases import Look, PostgresTemplate
from e2e_waiting import until
from fast_folder import fast_folder
from postgres_server import PostgresServer

from lightwork_broker.db.engine import DatabaseUnavailable, NotStorable, Transaction
from lightwork_broker.db.postgres import HANGS_SECONDS, PostgresDatabase
from lightwork_broker.db.postgres_relay import PostgresRelay
from lightwork_broker.identity import store
from lightwork_contracts.ids import Pubkey

SLOW_COMMITS = (
    "CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON broker_key DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION be_slow()",
)
COMMITTING = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND query = 'COMMIT' AND state = 'active'"
)
PUT = sa.text("UPDATE broker_key SET pubkey = :pubkey WHERE id = 1")


@pytest.fixture(scope="module")
def server() -> Generator[tuple[PostgresServer, PostgresTemplate]]:
    with fast_folder() as folder:
        made = PostgresServer(folder)
        made.start()
        try:
            yield made, PostgresTemplate(made)
        finally:
            made.stop()


@pytest.fixture
def url(server: tuple[PostgresServer, PostgresTemplate], tmp_path: Path) -> str:
    return server[1].copy(tmp_path)


@pytest.fixture
async def pair(url: str) -> AsyncGenerator[tuple[PostgresDatabase, PostgresDatabase]]:
    """Two brokers' doors to one database."""
    one, other = PostgresDatabase(url), PostgresDatabase(url)
    yield one, other
    await one.close()
    await other.close()


Pair = tuple[PostgresDatabase, PostgresDatabase]


async def test_what_is_read_and_then_written_is_one_step_among_brokers(pair: Pair) -> None:
    async with pair[0].write() as tx:
        await _set(tx, "0")

    async def add_one(database: PostgresDatabase) -> None:
        async with database.write() as tx:
            seen = int(await store.key(tx) or 0)
            await tx.run(sa.text("SELECT pg_sleep(0.005)"))
            await tx.run(PUT, pubkey=str(seen + 1))

    await asyncio.gather(*(add_one(pair[number % 2]) for number in range(30)))
    async with pair[1].read() as tx:
        assert await store.key(tx) == "30"


async def test_a_reader_sees_one_moment_and_changes_nothing(pair: Pair) -> None:
    async with pair[0].write() as tx:
        await _set(tx, "before")
    async with pair[1].read() as reader:
        assert await store.key(reader) == "before"
        async with pair[0].write() as tx:
            await tx.run(PUT, pubkey="after")
        assert await store.key(reader) == "before"
    with pytest.raises(sa.exc.DBAPIError, match="read-only"):
        async with pair[1].read() as reader:
            await reader.run(PUT, pubkey="by a reader")
    async with pair[1].read() as reader:
        assert await store.key(reader) == "after"


async def test_what_follows_a_commit_finds_it_done(pair: Pair, url: str) -> None:
    look, found = Look(url), list[int]()
    async with pair[0].write() as tx:
        await _set(tx, "told")
        tx.after_commit(lambda: found.append(len(look.rows("SELECT * FROM broker_key"))))
    await until(_that(lambda: found != []), what="it is called")
    look.close()
    assert found == [1]


async def test_a_servers_own_configuration_weakens_nothing(
    server: tuple[PostgresServer, PostgresTemplate], url: str
) -> None:
    with psycopg.connect(url, autocommit=True) as operator:
        for setting in ("synchronous_commit = off", "idle_in_transaction_session_timeout = 0"):
            operator.execute(f"ALTER DATABASE copy_of_a_test SET {setting}".encode())
        operator.execute(b"ALTER DATABASE copy_of_a_test SET lock_timeout = 0")
        operator.execute(b"ALTER DATABASE copy_of_a_test SET statement_timeout = 0")
    database = PostgresDatabase(url)
    try:
        async with database.write() as tx:
            told = {
                name: await tx.value(sa.text(f"SHOW {name}"))
                for name in (
                    "synchronous_commit",
                    "lock_timeout",
                    "statement_timeout",
                    "idle_in_transaction_session_timeout",
                )
            }
    finally:
        await database.close()
    assert told == {
        "synchronous_commit": "on",
        "lock_timeout": "10s",
        "statement_timeout": f"{HANGS_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{HANGS_SECONDS}s",
    }


async def test_whoever_is_cancelled_at_the_database_leaves_it_usable(pair: Pair) -> None:
    async def write_and_read(number: int) -> None:
        async with pair[0].write() as tx:
            await _set(tx, str(number))
        async with pair[0].read() as tx:
            await store.key(tx)

    with warnings.catch_warnings(record=True) as forgotten:
        warnings.simplefilter("always")
        for number in range(60):
            task = asyncio.create_task(write_and_read(number))
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        del task
        gc.collect()
    assert [str(one.message) for one in forgotten] == []
    async with asyncio.timeout(5):
        async with pair[1].write() as tx:
            await tx.run(PUT, pubkey="at last")
        await asyncio.gather(*(_read(pair[0]) for _ in range(40)))


async def test_a_cancelled_commit_is_over_before_its_writer_goes_on(pair: Pair, url: str) -> None:
    async with pair[0].write() as tx:
        await _set(tx, "first")
    with closing(Look(url)) as look:
        for sql in SLOW_COMMITS:
            look.change(sql)
    committing = asyncio.Event()

    async def write() -> None:
        async with pair[0].write() as tx:
            await tx.run(PUT, pubkey="second")
            committing.set()

    task = asyncio.create_task(write())
    await committing.wait()
    with closing(Look(url)) as look:
        await until(_that(lambda: look.rows(COMMITTING) != []), what="the server commits")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _read(pair[1]) == "second"


async def test_a_database_that_is_cut_off_is_unavailable_and_then_there_again(pair: Pair, url: str) -> None:
    look = Look(url)

    async def write() -> None:
        async with pair[0].write() as tx:
            await _set(tx, "lost")
            _cut(look)
            await store.key(tx)

    with pytest.raises(DatabaseUnavailable):
        await write()
    async with pair[0].write() as tx:
        assert await store.key(tx) is None
    look.close()


async def test_a_lock_that_is_not_to_be_had_is_no_answer_and_stores_nothing(pair: Pair, url: str) -> None:
    async def write() -> None:
        async with pair[0].write() as tx:
            await _set(tx, "in vain")
            await tx.run(sa.text("SET LOCAL lock_timeout = '50ms'"))
            await tx.run(sa.text("SELECT pg_advisory_xact_lock(7)"))

    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(7)")
        with pytest.raises(DatabaseUnavailable):
            await write()
    assert await _read(pair[1]) is None


async def test_connections_that_were_cut_while_idle_cost_nobody_an_answer(pair: Pair, url: str) -> None:
    async with pair[0].write() as tx:
        await _set(tx, "kept")
    assert await _read(pair[0]) == "kept"
    look = Look(url)
    _cut(look)
    look.close()
    async with pair[0].write() as tx:
        assert await store.key(tx) == "kept"
    assert await _read(pair[0]) == "kept"


async def test_what_cannot_be_stored_is_said_without_being_repeated(pair: Pair) -> None:
    with pytest.raises(NotStorable, match="zero byte") as refused:
        async with pair[0].write() as tx:
            await _set(tx, "secret\0")
    assert "secret" not in str(refused.value)


async def test_a_broker_hears_the_others_and_not_itself_also_after_its_connection_was_cut(url: str) -> None:
    relays = [PostgresRelay(url, arguments={}) for _ in range(2)]
    heard: list[list[str]] = [[], []]
    stirred = [0, 0]

    def stir(which: int) -> None:
        stirred[which] += 1

    running = [
        asyncio.create_task(relay.run(hear=heard[which].append, stir=lambda which=which: stir(which)))
        for which, relay in enumerate(relays)
    ]
    try:
        await until(_that(lambda: min(stirred) == 1), what="both listen")
        relays[0].tell("job:1")
        await until(_that(lambda: heard[1] == ["job:1"]), what="the other one hears it")
        look = Look(url)
        _cut(look)
        look.close()
        await until(_that(lambda: min(stirred) == 2), what="both listen again, and look for what they missed")
        relays[1].tell("job:2")
        await until(_that(lambda: heard[0] == ["job:2"]), what="it is heard again")
        assert heard[1] == ["job:1"]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _set(tx: Transaction, text: str) -> None:
    await store.set_key(tx, Pubkey(text))


async def _read(database: PostgresDatabase) -> str | None:
    async with database.read() as tx:
        return await store.key(tx)


def _cut(look: Look) -> None:
    """End every connection to the database but one's own."""
    look.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid != pg_backend_pid()"
    )


def _that(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds
