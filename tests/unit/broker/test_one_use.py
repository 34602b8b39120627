"""What a running broker promises of each call: a signature is good once, and a poll ends when it asked to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from databases import Template
from e2e_client import SignedClient, accepted, new_key, refused
from e2e_waiting import until
from pydantic import SecretStr

from lightwork_broker.app import create_app
from lightwork_broker.db.place import is_server
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.signals import Signals
from lightwork_contracts.wire.problems import ProblemCode

ORIGIN = "http://127.0.0.1:8402"
NOW = 1_800_000_000
HOUR = 3_600.0
WAIT = 20


@dataclass
class SetClock:
    """A clock that stands still until it is set."""

    time: float = NOW + 0.25

    def now(self) -> float:
        return self.time


@dataclass
class Brokers:
    """One broker after the other, on one database."""

    settings: BrokerSettings
    clock: SetClock
    steady: SetClock
    client: SignedClient

    @asynccontextmanager
    async def life(self) -> AsyncGenerator[Signals]:
        node = SimulatedNetwork.market(seed=b"once").node("broker")
        app = create_app(self.settings, node, clock=self.clock, steady=self.steady.now)
        async with app.router.lifespan_context(app):
            self.client.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app))
            yield app.state.signals
            await self.client.close()


@pytest.fixture
def brokers(template: Template, tmp_path: Path) -> Brokers:
    place = template.copy(tmp_path)
    settings = BrokerSettings(data_dir=tmp_path, database=SecretStr(place if is_server(place) else ""))
    return Brokers(settings, SetClock(), SetClock(), SignedClient(ORIGIN, key=new_key()))


@pytest.mark.parametrize(
    "ahead", [0, 1, 30], ids=["of the same second", "a second ahead", "half a minute ahead"]
)
async def test_a_signed_request_is_good_once_although_the_broker_starts_again_at_once(
    brokers: Brokers, ahead: int
) -> None:
    header = {"Authorization": brokers.client.sign("GET", "/v1/jobs", created_at=NOW + ahead)}
    async with brokers.life():
        accepted(await brokers.client.raw("GET", "/v1/jobs", headers=header))
    brokers.clock.time += 0.5
    for _ in range(2):
        async with brokers.life():
            answer = await brokers.client.raw("GET", "/v1/jobs", headers=header)
            refused(answer, ProblemCode.AUTH_REPLAYED, status=401)


async def test_a_poll_ends_by_a_clock_that_nobody_can_set(brokers: Brokers) -> None:
    body = json.dumps({"wait_seconds": WAIT}).encode()
    header = {"Authorization": brokers.client.sign("POST", "/v1/work/poll", body, created_at=NOW)}
    async with brokers.life() as signals:
        polling = asyncio.create_task(brokers.client.raw("POST", "/v1/work/poll", body, headers=header))
        await until(_that(lambda: bool(signals._listeners)), what="the provider waits")
        async with asyncio.timeout(5):
            brokers.clock.time -= HOUR
            brokers.steady.time += WAIT
            signals.stir()
            assert accepted(await polling) == {"work": []}


def _that(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return condition()

    return holds
