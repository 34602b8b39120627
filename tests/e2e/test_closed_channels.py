"""Channels are closed by force while a payment is in them: the books are compared with what the chain made of it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import httpx2
import pytest
import pytest_asyncio
from contract.lightning.closing_worlds import ClosingWorld, LndClosing, RemoteClosing, mined_until
from databases import Look
from e2e_broker import BrokerProcess
from e2e_lnd_nodes import LndNodes
from e2e_provider import HandBuyer
from e2e_simulated_nodes import SimulatedNodes
from e2e_stage import Stage
from e2e_waiting import until
from e2e_world import World
from pydantic import JsonValue
from regtest_network import fresh_network

from lightwork import Agent, sats
from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.ports import PayoutStatus
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_regtest import Network
from lightwork_regtest.processes import start_detached

pytestmark = pytest.mark.timeout(600)
"""Real nodes take their time over each block, and there are many."""

REAL = pytest.mark.regtest
NO_HOLE_MSAT = 100_000_000
"""What fees on the chain may make of a channel's 8,000,000 sat."""

agent = Agent("dear", description="Sells what is worth an output on the chain.")
opened = asyncio.Event()


@agent.task(price=sats(20_000))
async def dear(text: str) -> str:
    """Return the text when the test lets it."""
    await opened.wait()
    return text


@dataclass(frozen=True, slots=True)
class Scene:
    """A broker, and nodes that come and go."""

    world: World
    nodes: ClosingWorld

    async def audit(self, *options: str) -> tuple[int, dict[str, JsonValue]]:
        """Return the exit code of `lightwork broker audit --node`, and what it says."""
        done = await self.world.broker.command("audit", "--node", "--json", *options)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode, json.loads(done.stdout)

    async def settled_while_the_buyer_is_away(self) -> tuple[JobForBuyer, int]:
        """Let a job be hired, paid, and settled when the buyer's node is gone; return when its HTLC expires."""
        opened.clear()
        buyer = HandBuyer(self.world)
        job = await buyer.hire_task("dear", "worth it", key="dear and only")
        paying = buyer.pay(job)
        await buyer.until(job.id, JobStatus.WORKING)
        expiry = (await self.world.money.escrow(job.id)).min_expiry_height
        assert expiry is not None
        await self.nodes.kill("buyer")
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        opened.set()
        await buyer.until(job.id, JobStatus.SETTLED)
        return job, expiry

    def forget_what_was_heard(self) -> None:
        """Let the broker's database know nothing any more of how HTLCs ended."""
        look = Look(self.world.broker.database)
        guards = look.guards("htlc_check")
        look.unguard("htlc_check")
        look.change("DELETE FROM htlc_check")
        look.guard("htlc_check", guards)
        look.close()

    async def over(self) -> bool:
        found = await self.nodes.broker.closures()
        return bool(found) and all(one.is_over for one in found)


async def play(world: World, nodes: ClosingWorld) -> AsyncGenerator[Scene]:
    await world.broker.start()
    try:
        async with world.runner([agent]):
            yield Scene(world, nodes)
    finally:
        await world.close()
        await world.broker.stop()
        await nodes.close()


@pytest_asyncio.fixture(loop_scope="session", params=[pytest.param("lnd", marks=REAL), "simulated"])
async def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Scene]:
    folder = tmp_path_factory.mktemp("closing")
    settings = {"watchdog_seconds": 0.5}
    if request.param == "lnd":
        with fresh_network(folder / "nodes") as network:
            real = LndNodes(network)
            broker = BrokerProcess(real, folder=folder, settings=settings)
            async for made in play(World(Stage(real), broker), LndClosing(network)):
                yield made
        return
    simulated = SimulatedNodes(folder / "nodes")
    await simulated.start()
    broker = BrokerProcess(simulated, folder=folder, settings=settings)
    async for made in play(World(Stage(simulated), broker), RemoteClosing(simulated.process)):
        yield made
    await simulated.stop()


def start_without_record(network: Network) -> None:
    """Start the broker's LND as most are: it forgets what became of each HTLC."""
    node = network.node("broker")
    file = node.description.folder / "lnd.conf"
    file.write_text(file.read_text().replace("store-final-htlc-resolutions=true\n", ""))
    program = network.description.programs["lnd"].path
    start_detached(
        [str(program), f"--lnddir={node.description.folder}"],
        pid_file=node.description.pid_file,
        log=node.description.log,
        env=dict(os.environ),
    )
    node.close()
    node.wait_answering()


async def test_a_payment_that_is_claimed_on_the_chain_is_no_breach_and_what_is_on_its_way_is_shown(
    scene: Scene,
) -> None:
    job, expiry = await scene.settled_while_the_buyer_is_away()
    code, report = await scene.audit()
    assert (code, report["breaches"]) == (0, [])
    await scene.nodes.mine(expiry - await scene.world.nodes.height() - 16)
    if isinstance(scene.nodes, LndClosing):

        async def on_its_way() -> bool:
            return any(one.limbo_msat for one in await scene.nodes.broker.closures())

        await mined_until(scene.nodes, on_its_way)
        code, report = await scene.audit()
        money = report["node"]
        assert isinstance(money, dict)
        assert (code, report["breaches"], money["closing"]) == (0, [], 1)
        assert isinstance(money["limbo_msat"], int)
        assert isinstance(money["outside_msat"], int)
        assert money["limbo_msat"] > 7_000_000_000
        assert abs(money["outside_msat"]) < NO_HOLE_MSAT
        told = await scene.world.broker.command("audit", "--node")
        assert "on its way on the chain, out of 1 channels" in told.stdout
    await mined_until(scene.nodes, scene.over)
    htlcs = await scene.nodes.broker.incoming_htlcs(PaymentHash(job.quote.payment_hash))
    assert {htlc.end for htlc in htlcs} == {HtlcEnd.TAKEN}
    code, report = await scene.audit()
    assert (code, report["breaches"], report["doubts"]) == (0, [], [])
    assert "payouts.stopped" not in scene.world.broker.log_text()


async def test_what_a_payer_took_back_on_the_chain_of_a_settled_job_is_named_and_stops_payouts_until_it_is_booked(
    scene: Scene,
) -> None:
    job, expiry = await scene.settled_while_the_buyer_is_away()
    lost, payment_hash = job.quote.total_msat, PaymentHash(job.quote.payment_hash)
    height = await scene.world.nodes.height()
    await scene.nodes.kill("broker")
    await scene.nodes.start("buyer")
    await scene.nodes.mine(expiry - height + 1)

    async def taken_back() -> bool:
        return (await scene.nodes.buyer.track(payment_hash)).status is PayoutStatus.FAILED

    await mined_until(scene.nodes, taken_back)
    await scene.nodes.start("broker")
    said = f"{job.id} is settled, but {lost} msat of it went back to the payer"

    async def stopped() -> bool:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{scene.world.broker.url}/v1/health")
        return answer.status_code == 503 and said in answer.text

    await mined_until(scene.nodes, stopped)
    assert await scene.audit() == (1, {**(await scene.audit())[1], "breaches": [said]})
    await mined_until(scene.nodes, scene.over)
    assert not (await scene.nodes.broker.allowance()).forgets_htlcs
    if isinstance(scene.nodes, LndClosing):
        await scene.nodes.kill("broker")
        await asyncio.to_thread(start_without_record, scene.nodes.network)
        assert (await scene.nodes.broker.allowance()).forgets_htlcs

        # What the broker has heard once it does not forget.
        assert (await scene.audit())[1]["breaches"] == [said]
        scene.forget_what_was_heard()

        async def counted() -> bool:
            _, report = await scene.audit()
            sat = lost // 1_000 * 1_000
            return report["breaches"] == [
                f"{sat} msat of settled jobs went back to a payer on the chain, which is {job.id}"
            ]

        await until(counted, what="the loss is found by counting")
        await scene.nodes.kill("broker")
        await scene.nodes.start("broker")
    code, _ = await scene.audit("--acknowledge")
    assert code == 1
    code, report = await scene.audit()
    assert (code, report["breaches"]) == (0, [])
    assert isinstance(report["balances"], dict)
    assert report["balances"]["expenses:losses"] == lost
    await scene.world.broker.wait_well()
    assert "payouts.resumed" in scene.world.broker.log_text()
