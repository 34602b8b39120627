"""One broker on each stage for the tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import e2e_shop
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_lnd_nodes import LndNodes
from e2e_pair import Pair
from e2e_provider import HandBuyer, HandProvider
from e2e_simulated_nodes import SimulatedNodes
from e2e_stage import Stage
from e2e_world import World
from fast_folder import fast_folder
from postgres_server import PostgresServer

from lightwork import Market
from lightwork_contracts.modes import PaymentMode


@pytest_asyncio.fixture(
    scope="session",
    loop_scope="session",
    params=[
        pytest.param("lnd", marks=pytest.mark.regtest),
        "simulated",
        "simulated-credit",
        "simulated-postgres",
    ],
)
async def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Stage]:
    """The nodes and the mode of payment. A module that is not about all of them names its own, and says why."""
    kind, _, choice = str(request.param).partition("-")
    chosen = PaymentMode.CREDIT if choice == "credit" else PaymentMode.ESCROW
    if kind == "lnd":
        yield Stage(LndNodes(request.getfixturevalue("network")), chosen)
        return
    server = request.getfixturevalue("postgres") if choice == "postgres" else None
    nodes = SimulatedNodes(tmp_path_factory.mktemp("network"), databases=server)
    try:
        await nodes.start()
        yield Stage(nodes, chosen)
    finally:
        await nodes.stop()


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """A PostgreSQL server on which each broker of a test has a database of its own."""
    with fast_folder() as folder:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    """The shared broker, with nobody selling anything yet."""
    broker = BrokerProcess(stage.nodes, folder=tmp_path_factory.mktemp("broker"))
    await broker.start()
    made = World(stage, broker)
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


@pytest_asyncio.fixture(loop_scope="session")
async def pair(world: World) -> AsyncGenerator[Pair]:
    """A buyer and a provider between whom no money may move."""
    made = Pair(world, HandBuyer(world), HandProvider(world))
    await made.provider.offer()
    async with world.money.moves():
        yield made


@pytest.fixture(autouse=True)
def gates() -> Generator[None]:
    """Close the gates that an earlier test, perhaps the same one on another stage, has opened."""
    e2e_shop.close_gates()
    return
