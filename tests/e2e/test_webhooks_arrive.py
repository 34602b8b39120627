"""Webhooks of a real broker process, across its death, by the command line and in the SDK's eyes."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_client import accepted, refused
from e2e_provider import HandBuyer, HandProvider
from e2e_stage import ANY_NODE, Stage
from e2e_waiting import until
from e2e_world import World
from webhook_receiver import Receiver

from lightwork.errors import WebhookInvalid
from lightwork.webhooks import read_webhook
from lightwork_broker.webhooks.service import LEASE_SECONDS
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.problems import ProblemCode

pytestmark = ANY_NODE


@pytest.fixture
def receiver() -> Generator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def told(stage: Stage, tmp_path: Path) -> AsyncGenerator[World]:
    """A broker whose webhooks may go to this machine."""
    broker = BrokerProcess(stage.nodes, folder=tmp_path, settings={"webhooks_private": "true"})
    await broker.start()
    world = World(stage, broker)
    try:
        yield world
    finally:
        await world.close()
        await broker.stop()


async def test_every_event_arrives_signed_although_the_broker_is_killed_meanwhile(
    told: World, receiver: Receiver
) -> None:
    buyer, provider = HandBuyer(told), HandProvider(told)
    added = await buyer.client.post("/v1/webhooks", {"url": receiver.url})
    await provider.offer()
    job, _ = await buyer.fund(provider)
    receiver.answers = (500, {}, b"")
    work = await provider.next_job()
    await told.broker.kill()
    await told.broker.restart()
    receiver.answers = (204, {}, b"")
    accepted(await provider.deliver(work, "done"))
    await buyer.until(job.id, JobStatus.SETTLED)

    async def settled() -> bool:
        return any(b'"job.settled"' in got.body for got in receiver.seen)

    # Who is killed in the middle of a call keeps its turn until the lease is over.
    await until(settled, what="the settlement is told", seconds=LEASE_SECONDS + 20)
    secret, messages = str(added["secret"]), dict[str, str]()
    for got in receiver.seen:
        message = read_webhook(dict(got.headers.items()), got.body, secret=secret, now=time.time())
        messages[got.headers["webhook-id"]] = message.type
        with pytest.raises(WebhookInvalid):
            read_webhook(dict(got.headers.items()), got.body, secret="whsec_AAAA", now=time.time())
    kinds = list(messages.values())
    assert (kinds[0], kinds[-1]) == ("job.quoted", "job.settled")
    assert "job.funded" in kinds
    assert secret not in told.broker.log_text()
    assert secret not in str(await buyer.client.get("/v1/webhooks"))


async def test_a_broker_sends_nothing_to_its_own_network_unless_it_is_told_to(world: World) -> None:
    client = world.client()
    for url in ("http://127.0.0.1/", "https://169.254.169.254/", "https://localhost/"):
        answer = await client.call("POST", "/v1/webhooks", {"url": url})
        refused(answer, ProblemCode.WEBHOOK_REFUSED, status=422)
    added = await client.post("/v1/webhooks", {"url": "https://hooks.example.com/lightwork"})
    other = world.client()
    refused(await other.call("DELETE", f"/v1/webhooks/{added['id']}"), ProblemCode.NOT_FOUND, status=404)
    assert (await client.call("DELETE", f"/v1/webhooks/{added['id']}")).status_code == 204
    assert await client.get("/v1/webhooks") == {"webhooks": []}
