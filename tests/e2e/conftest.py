"""One broker on the real network for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import e2e_shop
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_world import World

from lightwork import Market
from lightwork_regtest import Network


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(network: Network, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    """The shared broker, with nobody selling anything yet."""
    broker = BrokerProcess(network, folder=tmp_path_factory.mktemp("broker"))
    await broker.start()
    made = World(network, broker)
    try:
        yield made
    finally:
        await made.close()
        await broker.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(world: World) -> AsyncGenerator[World]:
    """The shared broker with the shop's tasks listed and a runner asking for work."""
    async with world.runner([e2e_shop.agent]):
        yield world


@pytest_asyncio.fixture(loop_scope="session")
async def market(shop: World) -> AsyncGenerator[Market]:
    """A new buyer at the shared broker."""
    async with shop.market() as opened:
        yield opened
