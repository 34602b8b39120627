"""Two brokers on one PostgreSQL database and one node: whoever does what at which of them, it happens once."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import e2e_crashing_broker
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess, free_port
from e2e_client import SignedClient, accepted, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_simulated_nodes import SimulatedNodes
from e2e_stage import Stage
from e2e_waiting import until
from e2e_world import World
from postgres_server import PostgresServer

from lightwork import PaymentOutcome
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer, JobWork
from lightwork_contracts.wire.market import QuoteWork
from lightwork_contracts.wire.problems import ProblemCode

SHARED = "http://market.test"
STAGE = pytest.mark.parametrize("stage", ["simulated-postgres"], indirect=True, scope="session")
pytestmark = STAGE


@dataclass(frozen=True, slots=True)
class Pair:
    """Two worlds with the same nodes and the same database; the first broker can be told to die."""

    one: World
    other: World
    plan: Path

    def arm(self, call: str, moment: str) -> None:
        """Let the first broker end without a word at that moment."""
        self.plan.write_text(f"{call}:{moment}")


def _broker(stage: Stage, folder: Path, *, beside: BrokerProcess | None = None) -> BrokerProcess:
    """Return a broker that is not started; `beside` another one it shares database and key."""
    made = BrokerProcess(
        stage.nodes, folder=folder, command=(sys.executable, e2e_crashing_broker.__file__), settings={}
    )
    made.env[e2e_crashing_broker.PLAN] = str(folder / "plan")
    made.env["LIGHTWORK_BROKER_ORIGINS"] = json.dumps([made.url, SHARED])
    if beside is not None:
        made.database = made.env["LIGHTWORK_BROKER_DATABASE"] = beside.database
        made.data_dir.mkdir(parents=True)
        shutil.copyfile(beside.data_dir / "broker.key", made.data_dir / "broker.key")
        (made.data_dir / "broker.key").chmod(0o600)
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pair(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    first = _broker(stage, folder / "one")
    await first.start()
    second = _broker(stage, folder / "other", beside=first)
    await second.start()
    one, other = World(stage, first), World(stage, second)
    try:
        yield Pair(one, other, folder / "one" / "plan")
    finally:
        for world in (one, other):
            await world.close()
            await world.broker.stop()


async def _working(
    pair: Pair, *, review_seconds: int = 0
) -> tuple[HandBuyer, HandProvider, JobForBuyer, JobWork]:
    """Bring a job to work: its buyer at one broker, its provider at the other."""
    buyer, provider = HandBuyer(pair.one), HandProvider(pair.other)
    await provider.offer(advert(review_seconds=review_seconds))
    job, _ = await buyer.fund(provider)
    return buyer, provider, job, await provider.next_job()


async def test_a_buyer_at_one_broker_hires_a_provider_at_the_other(pair: Pair) -> None:
    async with pair.one.money.moves() as moved:
        buyer, provider, job, work = await _working(pair)
        accepted(await provider.deliver(work, "done"))
        assert (await buyer.until(job.id, JobStatus.SETTLED)).result == "done"
        moved.sold(job.quote)


async def test_whoever_waits_at_one_broker_is_woken_by_what_happens_at_the_other(pair: Pair) -> None:
    provider, buyer = HandProvider(pair.other), HandBuyer(pair.one)
    await provider.offer()
    loop = asyncio.get_running_loop()
    waited: list[float] = []
    async with pair.one.money.moves():
        for _ in range(5):
            asking = asyncio.create_task(provider.ask(max_jobs=0, wait_seconds=20))
            # It waits at the other broker from here on; nothing is asked for yet.
            await until(lambda: _is_waiting(pair.other, provider), what="the provider waits")
            begun = loop.time()
            hiring = asyncio.create_task(buyer.ask(provider.listing))
            (work,) = await asking
            assert isinstance(work, QuoteWork)
            waited.append(loop.time() - begun)
            accepted(await provider.send(work, provider.commit(work, await provider.invoice(work))))
            accepted(await hiring)
    # By itself a broker looks every two seconds. Once could be chance; five times is the relay.
    assert sorted(waited)[2] < 1, waited


async def _is_waiting(world: World, provider: HandProvider) -> bool:
    answer = await provider.client.call("GET", f"/v1/listings/{provider.listing.id}")
    return bool(accepted(answer)["online"])


async def test_a_signed_request_is_good_for_one_of_the_brokers_once(pair: Pair) -> None:
    signer = SignedClient(SHARED, key=pair.one.client().key)
    header = signer.sign("GET", "/v1/jobs?role=buyer")
    headers = {"Authorization": header, "Host": "market.test"}
    accepted(await pair.one.client().raw("GET", "/v1/jobs?role=buyer", headers=headers))
    for world in (pair.other, pair.one):
        again = await world.client().raw("GET", "/v1/jobs?role=buyer", headers=headers)
        refused(again, ProblemCode.AUTH_REPLAYED, status=401)
    await signer.close()


async def test_accepting_at_one_broker_and_rejecting_at_the_other_does_one_of_the_two(pair: Pair) -> None:
    for _ in range(4):
        async with pair.one.money.moves() as moved:
            buyer, provider, job, work = await _working(pair, review_seconds=60)
            accepted(await provider.deliver(work, "done"))
            there = pair.other.client(key=buyer.client.key)
            answers = await asyncio.gather(
                buyer.client.call("POST", f"/v1/jobs/{job.id}/accept"),
                there.call("POST", f"/v1/jobs/{job.id}/reject", {"reason": "no"}),
            )
            assert sorted(answer.status_code for answer in answers) == [200, 409]
            if answers[0].status_code == 409:
                assert (await buyer.read(job.id)).status is JobStatus.DISPUTED
                ruling = {"release": True, "reason": "it is fine"}
                accepted(await pair.one.operator().call("POST", f"/v1/jobs/{job.id}/ruling", ruling))
            await buyer.until(job.id, JobStatus.SETTLED)
            moved.sold(job.quote)


async def test_a_result_that_is_delivered_at_both_brokers_at_once_is_paid_once(pair: Pair) -> None:
    async with pair.one.money.moves() as moved:
        buyer, provider, job, work = await _working(pair)
        here = HandProvider(pair.one, key=provider.client.key)
        answers = await asyncio.gather(*[one.deliver(work, "done") for one in (provider, here) * 4])
        assert {answer.status_code for answer in answers} <= {204, 409}
        await buyer.until(job.id, JobStatus.SETTLED)
        moved.sold(job.quote)


@pytest.mark.parametrize(("call", "moment"), [("pay", "before"), ("pay", "after"), ("settle", "before")])
async def test_what_a_killed_broker_has_begun_the_other_one_ends(pair: Pair, call: str, moment: str) -> None:
    async with pair.other.money.moves() as moved:
        provider, buyer = HandProvider(pair.one), HandBuyer(pair.other)
        await provider.offer()
        job, paying = await buyer.fund(provider)
        work = await provider.next_job()
        pair.arm(call, moment)
        delivering = asyncio.create_task(provider.deliver(work, "done"))
        assert await pair.one.broker.wait_gone() == -9
        assert (await buyer.until(job.id, JobStatus.SETTLED)).result == "done"
        assert (await paying).outcome is PaymentOutcome.SUCCEEDED
        await asyncio.gather(delivering, return_exceptions=True)
        moved.sold(job.quote)
    await pair.one.broker.restart()


async def test_a_killed_database_costs_an_answer_and_no_money(pair: Pair, postgres: PostgresServer) -> None:
    async with pair.one.money.moves() as moved:
        buyer, provider, job, work = await _working(pair)
        postgres.kill()
        try:
            for client in (buyer.client, provider.client):
                answer = await client.call("GET", f"/v1/jobs/{job.id}")
                refused(answer, ProblemCode.DATABASE_UNAVAILABLE, status=503)
            health = (await buyer.client.raw("GET", "/v1/health")).json()
            assert (health["ok"], health["database"]) == (False, False)
            refused(await provider.deliver(work, "done"), ProblemCode.DATABASE_UNAVAILABLE, status=503)
        finally:
            postgres.start()
        for world in (pair.one, pair.other):
            await world.broker.wait_well()
        accepted(await provider.deliver(work, "done"))
        await buyer.until(job.id, JobStatus.SETTLED)
        moved.sold(job.quote)
    assert "postgresql://" not in pair.one.broker.log_text() + pair.other.broker.log_text()


async def test_a_broker_with_another_key_does_not_start_on_this_database(
    stage: Stage, pair: Pair, tmp_path: Path
) -> None:
    stranger = _broker(stage, tmp_path / "stranger", beside=pair.one.broker)
    (stranger.data_dir / "broker.key").unlink()
    with pytest.raises(AssertionError, match=r"share `broker\.key`"):
        await stranger.start()


async def test_a_broker_whose_database_is_away_says_so_and_ends(stage: Stage, tmp_path: Path) -> None:
    assert isinstance(stage.nodes, SimulatedNodes)
    broker = _broker(stage, tmp_path / "alone")
    secret = "not-for-the-log"
    broker.env["LIGHTWORK_BROKER_DATABASE"] = f"postgresql://me:{secret}@127.0.0.1:{free_port()}/none"
    with pytest.raises(AssertionError, match="PostgreSQL gives no answer"):
        await broker.start()
    assert secret not in broker.log_text()
    done = await broker.command("audit")
    assert done.returncode == 5
    assert "the database gives no answer" in done.stderr
    assert secret not in done.stderr + done.stdout
