"""One broker, the nodes around it, and the agents and buyers of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from e2e_broker import BrokerProcess
from e2e_client import SignedClient, new_key
from e2e_money import Money
from e2e_waiting import until

from lightwork import Agent, LndWallet, Market, Profile, Runner
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_regtest import Network


class World:
    """What a test needs of one broker: markets, runners, raw clients and the money."""

    def __init__(self, network: Network, broker: BrokerProcess) -> None:
        self.network = network
        self.broker = broker
        self.money = Money(network, broker)
        self.wallets = {name: wallet_of(network, name) for name in ("buyer", "provider")}
        self.clients: list[SignedClient] = []

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

    @asynccontextmanager
    async def market(self, *, key: SecretKey | None = None) -> AsyncGenerator[Market]:
        """A buyer with a new key and the buyer node's wallet."""
        profile = Profile(name="test", broker=self.broker.url, key_file=Path("unused"))
        async with Market(key=key or new_key(), wallet=self.wallets["buyer"], profile=profile) as market:
            yield market

    @asynccontextmanager
    async def runner(
        self, agents: Sequence[Agent], *, key: SecretKey | None = None, concurrency: int = 16
    ) -> AsyncGenerator[Runner]:
        """A runner in this process, listed and asking for work, stopped at the end."""
        own = key or new_key()
        broker = Broker(BrokerConnection(self.broker.url, key=own))
        runner = Runner(
            agents,
            broker=broker,
            key=own,
            wallet=self.wallets["provider"],
            concurrency=concurrency,
            finish_seconds=1,
        )
        running = asyncio.create_task(runner.run())
        ready = asyncio.create_task(runner.ready.wait())
        try:
            await asyncio.wait({running, ready}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            assert runner.ready.is_set(), "the runner could not list its tasks"
            yield runner
        finally:
            ready.cancel()
            runner.stop()
            await asyncio.wait({running}, timeout=20)
            running.cancel()
            await broker.close()

    async def mine(self, blocks: int) -> int:
        """Mine; refused when that would let LND itself act on a held HTLC."""
        return await asyncio.to_thread(self.network.mine, blocks)


def wallet_of(network: Network, name: str) -> LndWallet:
    node = network.node(name)
    return LndWallet.from_files(url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.role_macaroon)


async def until_status(market: Market, job_id: str, *wanted: JobStatus, seconds: float = 20) -> JobForBuyer:
    """Wait until a job is in one of these statuses, and return it."""

    async def reached() -> JobForBuyer | None:
        view = await market.job(job_id)
        return view if view.status in wanted else None

    return await until(reached, what=f"{job_id} is {' or '.join(wanted)}", seconds=seconds)
