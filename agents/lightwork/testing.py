"""Testing an agent: a broker, a simulated Lightning network, wallets and the agent, in this process.

    async with local_market(agent) as market:
        job = await market.hire("shout", text="hi")
        assert job.result == "HI"

Everything is real but the money: signatures, invoices, hashes, leases, refunds. Without asyncio, use
`local_market_sync`, or pytest's fixture `lightwork_market`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, cast

import httpx2
from pydantic import JsonValue

from lightwork.agent import Agent
from lightwork.broker import Broker
from lightwork.connection import Backoff, BrokerConnection
from lightwork.errors import LightworkError
from lightwork.market import Market
from lightwork.market_sync import LoopThread
from lightwork.profile import Profile
from lightwork.reports import Report
from lightwork.runner import Runner
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import CAPABILITIES, JobStatus
from lightwork_contracts.wire.jobs import JobEvent, JobForBuyer

BROKERS_GROUP = "lightwork.brokers"
MOST = sats(1_000_000)
READY_SECONDS = 30.0
LOOK_SECONDS = 0.02


class BrokerMissing(LightworkError):
    """The package that holds the broker is not installed."""

    code = "broker_missing"
    default_hint = "pip install 'lightwork[broker]'"


class LocalBroker(Protocol):
    """What a broker in this process offers: the factory under the entry point `lightwork.brokers` opens one."""

    url: str
    transport: httpx2.AsyncBaseTransport

    @property
    def faults(self) -> tuple[str, ...]: ...

    def now(self) -> float: ...

    def advance(self, seconds: float) -> None: ...

    def mine(self, blocks: int) -> int: ...

    def fault(self, name: str, *, call: str, seconds: float) -> None: ...

    def revive(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Balances:
    """What each party has gained (or, negative, spent) since the market was opened. Msat."""

    buyer: int
    provider: int


@dataclass(frozen=True, slots=True)
class Hired:
    """One job that was paid for: its result, and everything that the broker says of it."""

    id: JobId
    result: JsonValue
    status: JobStatus
    paid_msat: Msat
    view: JobForBuyer


class LocalMarket:
    """A buyer, an agent that sells, and the broker between them. Opened by `local_market`."""

    def __init__(
        self, market: Market, broker: LocalBroker, *, buyer: SimulatedWallet, provider: SimulatedWallet
    ) -> None:
        self.market = market
        """The buyer's side, for what `hire` does not do: quotes, review, cancelling."""
        self._broker = broker
        self._buyer = buyer
        self._provider = provider
        self._first = (0, 0)

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the faults that can be asked for."""
        return self._broker.faults

    async def hire(self, task: str, /, *, max_price: Msat = MOST, **inputs: JsonValue) -> Hired:
        """Hire, pay and wait. A result under review is accepted.

        Raises:
            JobFailed: the task failed, refused or timed out, and the buyer has the money back.
            What `Market.hire` raises.
        """
        job = await self.market.start(task, max_price=max_price, **inputs)
        try:
            if job.view.quote.review_seconds:
                await job.result()
                await job.accept()
            result = await job.wait()
            view = await self._closed(job.id)
        finally:
            await job.close()
        return Hired(job.id, result, view.status, view.quote.total_msat, view)

    async def _closed(self, job_id: JobId) -> JobForBuyer:
        """The buyer's wallet knows of the settlement a moment before the broker's books do."""
        view = await self.market.job(job_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                while not CAPABILITIES[view.status].terminal:
                    view = await self.market.broker.my_job(
                        job_id, wait_seconds=READY_SECONDS, after_event=view.last_event
                    )
        return view

    async def history(self, job_id: str) -> tuple[JobEvent, ...]:
        """Return every event of a job that is over."""
        return tuple([event async for event in self.market.broker.events(JobId(job_id), after=0)])

    async def balances(self) -> Balances:
        """Return what buyer and provider have gained since the start, in msat."""
        buyer, provider = await self._read()
        return Balances(buyer - self._first[0], provider - self._first[1])

    def fault(self, name: str, *, call: str = "pay", seconds: float = 1.0) -> None:
        """Let the next such call of the broker to its node fail: `lost_after`, `unknown_outcome`, `node_down`...

        Args:
            name: one of `faults`.
            call: the call that it strikes: add_hold, lookup, watch, pay, track, settle, cancel...
            seconds: how late, for the late ones.

        Raises:
            ValueError: there is no such fault.
        """
        self._broker.fault(name, call=call, seconds=seconds)

    def revive(self) -> None:
        """Start the broker's node again after `node_down` or `wallet_locked`."""
        self._broker.revive()

    def mine(self, blocks: int = 1) -> int:
        """Add blocks to the chain and return its height."""
        return self._broker.mine(blocks)

    async def advance(self, seconds: float) -> None:
        """Let time pass at once, so that a time-out needs no waiting; the agent is online again afterwards."""
        self._broker.advance(seconds)
        async with asyncio.timeout(READY_SECONDS):
            while not all(listing.online for listing in await self.market.search(limit=100)):
                await self.market.broker.connection.sleep(LOOK_SECONDS)

    async def begin(self) -> None:
        """Take the balances of now as the first ones."""
        self._first = await self._read()

    async def _read(self) -> tuple[int, int]:
        return await self._buyer.balance_msat(), await self._provider.balance_msat()


@asynccontextmanager
async def local_market(*agents: Agent) -> AsyncGenerator[LocalMarket]:
    """Open a market in which these agents sell, and close it with nothing left behind.

    Raises:
        BrokerMissing: the extra `broker` is not installed.
        AgentInvalid: an agent cannot be listed.
    """
    async with _factory()() as broker:
        buyer = SimulatedWallet(broker.url, "buyer", transport=broker.transport)
        provider = SimulatedWallet(broker.url, "provider", transport=broker.transport)
        profile = Profile(name="testing", broker=broker.url, key_file=Path("unused"))
        market = Market(
            key=_new_key(), wallet=buyer, profile=profile, transport=broker.transport, clock=broker.now
        )
        opened = LocalMarket(market, broker, buyer=buyer, provider=provider)
        try:
            async with _selling(agents, broker=broker, wallet=provider):
                await opened.begin()
                yield opened
                await market.close()
        finally:
            await market.close()
            await buyer.close()
            await provider.close()


@asynccontextmanager
async def _selling(
    agents: tuple[Agent, ...], *, broker: LocalBroker, wallet: SimulatedWallet
) -> AsyncGenerator[None]:
    if not agents:
        yield
        return
    key = _new_key()
    connection = BrokerConnection(
        broker.url, key=key, transport=broker.transport, clock=broker.now, backoff=Backoff(most=0.2)
    )
    api = Broker(connection)
    runner = Runner(agents, broker=api, key=key, wallet=wallet, finish_seconds=1, tell=_say_nothing)
    running = asyncio.create_task(runner.run())
    ready = asyncio.create_task(runner.ready.wait())
    try:
        await asyncio.wait({running, ready}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield
    finally:
        ready.cancel()
        runner.stop()
        runner.stop()
        await asyncio.wait({running, ready})
        await api.close()


class SyncLocalMarket:
    """The same for tests without asyncio. See `LocalMarket` for what each method does."""

    def __init__(self, market: LocalMarket, thread: LoopThread) -> None:
        self._market = market
        self._thread = thread

    @property
    def faults(self) -> tuple[str, ...]:
        return self._market.faults

    def hire(self, task: str, /, *, max_price: Msat = MOST, **inputs: JsonValue) -> Hired:
        return self._thread.run(self._market.hire(task, max_price=max_price, **inputs))

    def history(self, job_id: str) -> tuple[JobEvent, ...]:
        return self._thread.run(self._market.history(job_id))

    def balances(self) -> Balances:
        return self._thread.run(self._market.balances())

    def fault(self, name: str, *, call: str = "pay", seconds: float = 1.0) -> None:
        self._thread.run(_soon(lambda: self._market.fault(name, call=call, seconds=seconds)))

    def revive(self) -> None:
        self._thread.run(_soon(self._market.revive))

    def mine(self, blocks: int = 1) -> None:
        self._thread.run(_soon(lambda: self._market.mine(blocks)))

    def advance(self, seconds: float) -> None:
        self._thread.run(self._market.advance(seconds))


@contextmanager
def local_market_sync(*agents: Agent) -> Generator[SyncLocalMarket]:
    """Open a market as `local_market` does, for code without asyncio."""
    thread = LoopThread()
    context = local_market(*agents)
    try:
        market = thread.run(_enter(context))
        try:
            yield SyncLocalMarket(market, thread)
        finally:
            thread.run(_leave(context))
    finally:
        thread.close()


async def _enter(context: AbstractAsyncContextManager[LocalMarket]) -> LocalMarket:
    return await context.__aenter__()


async def _leave(context: AbstractAsyncContextManager[LocalMarket]) -> None:
    await context.__aexit__(None, None, None)


async def _soon(action: Callable[[], object]) -> None:
    """Do it on the market's own loop."""
    action()


def _factory() -> Callable[[], AbstractAsyncContextManager[LocalBroker]]:
    for point in entry_points(group=BROKERS_GROUP):
        try:
            return cast("Callable[[], AbstractAsyncContextManager[LocalBroker]]", point.load())
        except ModuleNotFoundError as error:
            raise BrokerMissing(f"a test market needs {error.name}, which is not installed") from None
    raise BrokerMissing("no installed package brings a broker")


def _new_key() -> SecretKey:
    return SecretKey.generate(secrets.token_bytes(32))


def _say_nothing(report: Report) -> None:
    del report
