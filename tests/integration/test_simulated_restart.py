"""A broker that is stopped and started again on a simulated network that lives on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from e2e_waiting import until

from lightwork import Agent, Market, sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.profile import Profile
from lightwork.reports import Report
from lightwork.runner import Runner
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.app import create_app
from lightwork_broker.lightning.simulated import Fault, PlannedFaults, SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.signed.keys import SecretKey

ORIGIN = "http://127.0.0.1:8402"
TOTAL, PRICE = 12_100, 10_000


class Brokers(httpx2.AsyncBaseTransport):
    """One broker after another on the same data and the same node; none answers in between."""

    def __init__(self, folder: Path, wallets: SimulatedWallets) -> None:
        self._folder = folder
        self._wallets = wallets
        self._running = AsyncExitStack()
        self._transport: httpx2.ASGITransport | None = None

    async def start(self) -> None:
        node = self._wallets.network.node("broker")
        application = create_app(BrokerSettings(data_dir=self._folder, sweep_seconds=0.2), node)
        application.include_router(simulated_router(self._wallets))
        await self._running.enter_async_context(application.router.lifespan_context(application))
        self._transport = httpx2.ASGITransport(app=application)

    async def stop(self) -> None:
        self._transport = None
        await self._running.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._transport is None:
            raise httpx2.ConnectError("no broker is running", request=request)
        try:
            return await self._transport.handle_async_request(request)
        except Exception as error:
            if self._transport is None:
                # The broker under the call has gone, as a process would have.
                raise httpx2.ReadError("the broker went away", request=request) from error
            raise


class Gate:
    """A task that begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.agent = Agent("slow")

        @self.agent.task(price=sats(10))
        async def wait(text: str) -> str:
            """Return the text in the end."""
            self.begun.set()
            await self.may_end.wait()
            return text


def _say_nothing(report: Report) -> None:
    del report


@asynccontextmanager
async def selling(gate: Gate, brokers: Brokers) -> AsyncGenerator[None]:
    key = SecretKey.generate(secrets.token_bytes(32))
    wallet = SimulatedWallet(ORIGIN, "provider", transport=brokers)
    broker = Broker(BrokerConnection(ORIGIN, key=key, transport=brokers))
    runner = Runner([gate.agent], broker=broker, key=key, wallet=wallet, tell=_say_nothing)
    running = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(runner.ready.wait(), 30)
        yield
    finally:
        runner.stop()
        runner.stop()
        await running
        await broker.close()
        await wallet.close()


@pytest.mark.parametrize(
    ("when", "fault"),
    [("working", None), ("paying", Fault.UNKNOWN_OUTCOME), ("settling", Fault.NODE_DOWN)],
    ids=["while the provider works", "when the payout is unknown", "when its node is down at the settling"],
)
async def test_a_job_ends_well_under_the_broker_that_comes_after(
    tmp_path: Path, when: str, fault: Fault | None
) -> None:
    faults = PlannedFaults()
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"restart", faults=faults))
    brokers, gate = Brokers(tmp_path, wallets), Gate()
    await brokers.start()
    buyer = SimulatedWallet(ORIGIN, "buyer", transport=brokers)
    seller = SimulatedWallet(ORIGIN, "provider", transport=brokers)
    before = [await buyer.balance_msat(), await seller.balance_msat()]
    profile = Profile(name="buyer", broker=ORIGIN, key_file=tmp_path / "buyer.key")
    async with (
        selling(gate, brokers),
        Market(ORIGIN, wallet=buyer, profile=profile, transport=brokers) as market,
    ):
        hiring = asyncio.create_task(market.hire("wait", text="hi", max_price=sats(20)))
        await asyncio.wait_for(gate.begun.wait(), 30)
        if fault is not None:
            faults.plan(fault, method="pay" if when == "paying" else "settle", node="broker")
            gate.may_end.set()
            await until(lambda: _is_used_up(faults), what="the fault has struck")
        await brokers.stop()
        wallets.network.start("broker")
        gate.may_end.set()
        await brokers.start()
        assert await asyncio.wait_for(hiring, 60) == "hi"
    await until(lambda: _rests(wallets.network), what="nothing waits in any channel")
    after = [await buyer.balance_msat(), await seller.balance_msat()]
    assert [now - then for now, then in zip(after, before, strict=True)] == [-TOTAL, PRICE]
    await buyer.close()
    await seller.close()
    await brokers.stop()


async def _is_used_up(faults: PlannedFaults) -> bool:
    return faults.is_used_up


async def _rests(network: SimulatedNetwork) -> bool:
    return network.waiting() == ()
