"""The whole market on the simulated network: in one process, and with every party in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from e2e_broker import free_port
from e2e_waiting import until

from lightwork import Agent, JobFailed, Market, TaskFailed, sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.profile import Profile
from lightwork.reports import Report
from lightwork.runner import Runner
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.app import create_app
from lightwork_broker.lightning.simulated import Fault, Faults, PlannedFaults, SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.signed.keys import SecretKey

COMMAND = str(Path(sys.executable).with_name("lightwork"))
ORIGIN = "http://127.0.0.1:8402"
PRICE = sats(10)
TOTAL = 10_000 + 1_000 + 100 + 1_000
"""Price, base fee, 1 % fee, and the routing budget, which a direct channel does not use."""


def seller() -> Agent:
    agent = Agent("tester")

    @agent.task(price=PRICE)
    async def echo(text: str) -> str:
        """Return the text unchanged."""
        return text

    @agent.task(price=PRICE)
    async def refuse(text: str) -> str:
        """Never do it."""
        raise TaskFailed("no")

    return agent


@dataclass
class World:
    network: SimulatedNetwork
    market: Market
    buyer: SimulatedWallet
    provider: SimulatedWallet


@asynccontextmanager
async def market(folder: Path, *, faults: Faults | None = None) -> AsyncGenerator[World]:
    """A broker, an agent that sells, and a buyer, all in this process and without a socket."""
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"market", faults=faults))
    application = create_app(BrokerSettings(data_dir=folder, sweep_seconds=0.2), wallets.hub)
    application.include_router(simulated_router(wallets))
    transport = httpx2.ASGITransport(app=application)
    key = SecretKey.generate(secrets.token_bytes(32))
    profile = Profile(name="buyer", broker=ORIGIN, key_file=folder / "buyer.key")
    async with application.router.lifespan_context(application):
        buyer = SimulatedWallet(ORIGIN, "buyer", transport=transport)
        provider = SimulatedWallet(ORIGIN, "provider", transport=transport)
        broker = Broker(BrokerConnection(ORIGIN, key=key, transport=transport))
        runner = Runner([seller()], broker=broker, key=key, wallet=provider, tell=_say_nothing)
        selling = asyncio.create_task(runner.run())
        opened = Market(ORIGIN, wallet=buyer, profile=profile, transport=transport)
        try:
            await asyncio.wait_for(runner.ready.wait(), 30)
            yield World(network=wallets.network, market=opened, buyer=buyer, provider=provider)
        finally:
            await opened.close()
            runner.stop()
            runner.stop()
            await selling
            for connection in (broker, buyer, provider):
                await connection.close()
    wallets.network.check()


def _say_nothing(report: Report) -> None:
    del report


async def test_a_hire_moves_price_and_fee_and_nothing_else(tmp_path: Path) -> None:
    async with market(tmp_path) as world:
        before = [await wallet.balance_msat() for wallet in (world.buyer, world.provider)]
        assert await world.market.hire("echo", text="hi", max_price=sats(20)) == "hi"
        after = [await wallet.balance_msat() for wallet in (world.buyer, world.provider)]
        assert [now - then for now, then in zip(after, before, strict=True)] == [-TOTAL, PRICE]
        assert world.network.waiting() == ()


async def test_a_failing_task_gives_all_the_money_back(tmp_path: Path) -> None:
    async with market(tmp_path) as world:
        before = await world.buyer.balance_msat()
        with pytest.raises(JobFailed):
            await world.market.hire("refuse", text="hi", max_price=sats(20))
        assert await world.buyer.balance_msat() == before
        assert world.network.waiting() == ()


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("add_hold", Fault.DUPLICATE),
        ("lookup", Fault.LOST_BEFORE),
        ("watch", Fault.RESTART),
        ("pay", Fault.LOST_AFTER),
        ("pay", Fault.UNKNOWN_OUTCOME),
        ("pay", Fault.DUPLICATE),
        ("pay", Fault.RESTART),
        ("settle", Fault.LOST_BEFORE),
        ("settle", Fault.LOST_AFTER),
        ("settle", Fault.DUPLICATE),
        ("settle", Fault.RESTART),
    ],
    ids=lambda part: part if type(part) is str else part.name.lower(),
)
async def test_a_hire_survives_a_fault_of_the_brokers_node(tmp_path: Path, method: str, fault: Fault) -> None:
    faults = PlannedFaults()
    async with market(tmp_path, faults=faults) as world:
        before = [await wallet.balance_msat() for wallet in (world.buyer, world.provider)]
        faults.plan(fault, method=method, node="broker")
        assert await world.market.hire("echo", text="hi", max_price=sats(20)) == "hi"
        assert faults.is_used_up
        await until(lambda: _rests(world.network), what="nothing waits in any channel")
        after = [await wallet.balance_msat() for wallet in (world.buyer, world.provider)]
        assert [now - then for now, then in zip(after, before, strict=True)] == [-TOTAL, PRICE]


async def _rests(network: SimulatedNetwork) -> bool:
    return network.waiting() == ()


async def test_from_nothing_to_the_first_hire_takes_less_than_a_second(tmp_path: Path) -> None:
    # By the wall, and a machine may be busy with other things at any moment: one good run in ten proves it.
    times: list[float] = []
    while len(times) < 10 and min(times, default=1) >= 1:
        begun = time.perf_counter()
        async with market(tmp_path / str(len(times))) as world:
            await world.market.hire("echo", text="hi", max_price=sats(20))
            times.append(time.perf_counter() - begun)
    assert min(times) < 1


AGENT = """
from lightwork import Agent, sats

agent = Agent("shouter")


@agent.task(price=sats(10))
async def shout(text: str) -> str:
    \"\"\"Return the text in capitals.\"\"\"
    return text.upper()
"""


@contextmanager
def child(arguments: list[str], env: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run `lightwork ...` for the time of the block; it must end by itself when it is told to."""
    with log.open("ab") as out:
        process = subprocess.Popen([COMMAND, *arguments], env=env, stdout=out, stderr=out)
    try:
        yield process
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def party(folder: Path, wallet: str, *, broker: str) -> dict[str, str]:
    """The surroundings of one party: a key and a wallet of its own, and nothing of this machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
    return kept | {
        "XDG_CONFIG_HOME": str(folder / wallet),
        "LIGHTWORK_BROKER": broker,
        "LIGHTWORK_SIMULATED_WALLET": wallet,
    }


async def test_three_processes_meet_on_the_brokers_simulated_network(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    agent = tmp_path / "shouter.py"
    agent.write_text(AGENT)
    operator = party(tmp_path, "nobody", broker=url) | {"TMPDIR": str(tmp_path)}
    serving = child(
        ["broker", "run", "--network", "simulated", "--port", str(port)], operator, tmp_path / "broker.log"
    )
    seller = SimulatedWallet(url, "seller")
    buyer = SimulatedWallet(url, "buyer")
    with serving as broker:
        await until(lambda: _answers(url, broker), what="the broker answers")
        before = [await buyer.balance_msat(), await seller.balance_msat()]
        with child(["run", str(agent)], party(tmp_path, "seller", broker=url), tmp_path / "agent.log"):
            await until(lambda: _is_listed(url), what="the task is listed")
            hired = await asyncio.to_thread(
                subprocess.run,
                [COMMAND, "hire", "shout", "--text", "hi", "--max", "20", "--json"],
                env=party(tmp_path, "buyer", broker=url),
                capture_output=True,
                text=True,
                timeout=60,
            )
        assert hired.returncode == 0, hired.stdout + hired.stderr
        assert json.loads(hired.stdout)["result"] == "HI"
        after = [await buyer.balance_msat(), await seller.balance_msat()]
        await buyer.close()
        await seller.close()
    assert [now - then for now, then in zip(after, before, strict=True)] == [-TOTAL, PRICE]
    assert _left_behind(tmp_path) == []


def _left_behind(folder: Path) -> list[Path]:
    return list(folder.glob("lightwork-simulated-*"))


async def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the broker ended by itself"
    try:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.get(f"{url}/v1/health")).status_code == 200
    except httpx2.TransportError:
        return False


async def _is_listed(url: str) -> bool:
    async with httpx2.AsyncClient(trust_env=False) as client:
        found = (await client.get(f"{url}/v1/listings", params={"online": "true"})).json()
    return any(listing["online"] for listing in found["listings"])


def test_a_simulated_broker_takes_no_data_directory_that_holds_jobs_already(tmp_path: Path) -> None:
    (tmp_path / "broker.sqlite").touch()
    refused = subprocess.run(
        [COMMAND, "broker", "run", "--network", "simulated", "--port", "0", "--data-dir", str(tmp_path)],
        env=party(tmp_path, "nobody", broker=ORIGIN),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert "in use" in refused.stderr
