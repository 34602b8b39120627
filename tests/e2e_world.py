"""One broker, the nodes around it, and the agents and buyers of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import e2e_shop
from e2e_broker import BrokerProcess
from e2e_client import SignedClient, new_key
from e2e_lnd_nodes import LndNodes
from e2e_money import Money
from e2e_stage import Stage
from e2e_waiting import SECONDS, until

from lightwork import Agent, Market, Profile, Runner
from lightwork.broker import Broker
from lightwork.connection import Backoff, BrokerConnection
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_regtest import Network


class World:
    """What a test needs of one broker: markets, runners, raw clients and the money."""

    def __init__(self, stage: Stage | Network, broker: BrokerProcess) -> None:
        self.stage = Stage(LndNodes(stage)) if isinstance(stage, Network) else stage
        self.nodes, self.mode = self.stage.nodes, self.stage.mode
        self.broker = broker
        self.wallets = {name: self.nodes.wallet(name) for name in ("buyer", "provider")}
        self.clients: list[SignedClient] = []
        self.sellers: dict[str, SignedClient] = {}
        self.money = Money(self.nodes, broker, sellers=self.sellers.values())

    @property
    def network(self) -> Network:
        """The LND nodes' network; a test that asks for it is about LND."""
        assert isinstance(self.nodes, LndNodes), "there is no LND on this stage"
        return self.nodes.network

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
        for wallet in self.wallets.values():
            await wallet.close()

    def client(self, *, key: SecretKey | None = None) -> SignedClient:
        """Return a raw client with a key of its own, closed with the world."""
        client = SignedClient(self.broker.url, key=key)
        self.clients.append(client)
        return client

    @property
    def routing_paid(self) -> int | None:
        """What a settled job says of its routing: the channel is direct, and in credit mode nothing is routed."""
        return None if self.mode is PaymentMode.CREDIT else 0

    def seller(self, key: SecretKey) -> SignedClient:
        """Return a raw client of a provider; in credit mode, what it is owed is counted from now on."""
        client = self.client(key=key)
        if self.mode is PaymentMode.CREDIT:
            self.sellers.setdefault(key.public, client)
        return client

    def operator(self) -> SignedClient:
        """Return a client that signs with the broker's own key."""
        return self.client(key=SecretKey.read(self.broker.data_dir / "broker.key"))

    @asynccontextmanager
    async def market(self, *, key: SecretKey | None = None) -> AsyncGenerator[Market]:
        """A buyer with a new key and the buyer node's wallet."""
        profile = Profile(name="test", broker=self.broker.url, key_file=Path("unused"))
        async with Market(
            key=key or new_key(),
            wallet=self.wallets["buyer"],
            profile=profile,
            allow_credit=self.mode is PaymentMode.CREDIT,
        ) as market:
            yield market

    @asynccontextmanager
    async def runner(
        self, agents: Sequence[Agent], *, key: SecretKey | None = None, concurrency: int = 16
    ) -> AsyncGenerator[Runner]:
        """A runner in this process, listed and asking for work, stopped at the end."""
        own = key or new_key()
        self.seller(own)
        # A runner waits up to half a minute between its tries by default: too long for a test.
        broker = Broker(BrokerConnection(self.broker.url, key=own, backoff=Backoff(most=0.5)))
        runner = Runner(
            agents,
            broker=broker,
            key=own,
            wallet=None if self.mode is PaymentMode.CREDIT else self.wallets["provider"],
            concurrency=concurrency,
            finish_seconds=1,
        )
        running = asyncio.create_task(runner.run())
        ready = asyncio.create_task(runner.ready.wait())
        try:
            await asyncio.wait({running, ready}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            assert runner.ready.is_set(), "the runner could not list its tasks"
            yield runner
        finally:
            ready.cancel()
            runner.stop()
            await asyncio.wait({running}, timeout=SECONDS)
            running.cancel()
            await broker.close()


async def until_status(market: Market, job_id: str, *wanted: JobStatus) -> JobForBuyer:
    """Wait until a job is in one of these statuses, and return it."""

    async def reached() -> JobForBuyer | None:
        view = await market.job(job_id)
        return view if view.status in wanted else None

    return await until(reached, what=f"{job_id} is {' or '.join(wanted)}")


async def until_at_work(text: str) -> None:
    """Wait until a provider in this process works on the `gated` job with this text.

    A job that the broker calls working may be one of which its provider has not heard yet.
    """
    async with asyncio.timeout(SECONDS):
        await e2e_shop.gate(text).reached.wait()
