"""Every route of the broker, asked by nobody, by a stranger, and by the other party of a job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from e2e_client import SignedClient, accepted, refused
from fastapi import FastAPI
from integration.test_limits import limited
from pydantic import JsonValue

from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork_contracts.money import sats
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.jobs import Hire
from lightwork_contracts.wire.market import RequestQuote
from lightwork_contracts.wire.problems import ProblemCode

P = ProblemCode
ORIGIN = "http://127.0.0.1:8402"

OPEN_TO_ALL = frozenset(
    {
        ("GET", "/v1/info"),
        ("GET", "/v1/health"),
        ("GET", "/v1/listings"),
        ("GET", "/v1/listings/{listing_id}"),
        ("GET", "/v1/listings/{listing_id}/versions/{version}"),
    }
)
OWN = frozenset(
    {
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("POST", "/v1/quotes"),
        ("PUT", "/v1/listings"),
        ("POST", "/v1/work/poll"),
        ("GET", "/v1/balance"),
        ("GET", "/v1/balance/entries"),
        ("GET", "/v1/withdrawals"),
        ("POST", "/v1/withdrawals"),
        ("GET", "/v1/webhooks"),
        ("POST", "/v1/webhooks"),
    }
)
"""Routes that name nothing of anybody's: each caller meets only what is its own."""

BUYERS = frozenset({"/cancel", "/accept", "/reject"})
BODIES: dict[str, dict[str, JsonValue]] = {
    "/reject": {"reason": "mine now"},
    "/ruling": {"release": True, "reason": "mine now"},
    "/heartbeat": {"epoch": 1},
    "/deliver": {"epoch": 1, "result": "mine"},
    "/fail": {"epoch": 1, "message": "mine"},
    "/answer": {},
    "/refuse": {"reason": "mine now"},
}


@dataclass(frozen=True, slots=True)
class Place:
    """A broker with an unpaid job, and the clients of everybody around it."""

    app: FastAPI
    buyer: SignedClient
    provider: SignedClient
    stranger: SignedClient
    ids: dict[str, str]

    def routes(self) -> list[tuple[str, str]]:
        """Return method and path of every route of the broker itself."""
        return [
            (method.upper(), path)
            for path, methods in self.app.openapi()["paths"].items()
            if path.startswith("/v1/") and "simulated" not in path
            for method in methods
        ]

    async def ask(self, client: SignedClient, method: str, path: str) -> httpx2.Response:
        """Call a route about what belongs to the buyer and the provider."""
        ending = "/" + path.rpartition("/")[2]
        return await client.call(method, path.format(**self.ids), BODIES.get(ending))


def _client(transport: httpx2.ASGITransport, key: SecretKey) -> SignedClient:
    client = SignedClient(ORIGIN, key=key)
    client.http = httpx2.AsyncClient(transport=transport)
    return client


@asynccontextmanager
async def _place(folder: Path) -> AsyncGenerator[Place]:
    async with limited(folder) as world:
        key = SecretKey.generate(bytes([1]) * 32)
        buyer = Broker(BrokerConnection(ORIGIN, key=key, transport=world.transport))
        request = RequestQuote(task="echo", input={"text": "hi"}, max_price_msat=sats(20))
        job = await buyer.hire(Hire(request=request), idempotency_key="the key of this hire")
        await buyer.close()
        application = world.transport.app
        assert isinstance(application, FastAPI)
        place = Place(
            app=application,
            buyer=_client(world.transport, key),
            provider=_client(world.transport, world.provider),
            stranger=_client(world.transport, SecretKey.generate(bytes([2]) * 32)),
            ids={
                "job_id": job.id,
                "quote_id": job.quote.id,
                "listing_id": job.quote.listing_id,
                "version": "1",
                "withdrawal_id": "wdr_none",
                "webhook_id": "whk_none",
            },
        )
        try:
            yield place
        finally:
            for client in (place.buyer, place.provider, place.stranger):
                await client.close()


async def test_no_route_answers_an_unsigned_request_but_those_that_are_open_to_all(tmp_path: Path) -> None:
    async with _place(tmp_path) as place:
        routes = set(place.routes())
        assert routes >= OPEN_TO_ALL | OWN, "a route that is named here is gone"
        for method, path in routes - OPEN_TO_ALL:
            answer = await place.stranger.raw(method, path.format(**place.ids))
            refused(answer, P.AUTH_MISSING, status=401)
        for method, path in OPEN_TO_ALL:
            assert (await place.stranger.raw(method, path.format(**place.ids))).status_code == 200


async def test_no_route_tells_or_does_anything_for_a_stranger(tmp_path: Path) -> None:
    async with _place(tmp_path) as place:
        before = await place.buyer.get(f"/v1/jobs/{place.ids['job_id']}")
        about_others = [route for route in place.routes() if route not in OPEN_TO_ALL | OWN]
        assert len(about_others) >= 15
        for method, path in about_others:
            answer = await place.ask(place.stranger, method, path)
            assert answer.status_code in (403, 404, 422), (
                f"{method} {path}: {answer.status_code} {answer.text}"
            )
            # Only what asks for a body of another form may be refused for its form.
            assert answer.status_code != 422 or path.endswith("/answer"), f"{method} {path}: {answer.text}"
        for path in (
            "/v1/jobs",
            "/v1/jobs?role=provider",
            "/v1/withdrawals",
            "/v1/webhooks",
            "/v1/balance/entries",
        ):
            assert place.ids["job_id"] not in (await place.stranger.call("GET", path)).text
        assert await place.buyer.get(f"/v1/jobs/{place.ids['job_id']}") == before
        listing = await place.stranger.raw("GET", f"/v1/listings/{place.ids['listing_id']}")
        assert listing.json()["retired"] is False


async def test_each_party_is_refused_what_is_the_others(tmp_path: Path) -> None:
    async with _place(tmp_path) as place:
        before = await place.buyer.get(f"/v1/jobs/{place.ids['job_id']}")
        for ending in BUYERS:
            answer = await place.ask(place.provider, "POST", "/v1/jobs/{job_id}" + ending)
            refused(answer, P.FORBIDDEN, status=403)
        for action in ("heartbeat", "deliver", "fail"):
            answer = await place.ask(place.buyer, "POST", "/v1/work/jobs/{job_id}/" + action)
            refused(answer, P.NOT_FOUND, status=404)
        refused(await place.ask(place.provider, "GET", "/v1/quotes/{quote_id}"), P.NOT_FOUND, status=404)
        for party in (place.buyer, place.provider):
            answer = await place.ask(party, "POST", "/v1/jobs/{job_id}/ruling")
            refused(answer, P.FORBIDDEN, status=403)
        assert await place.buyer.get(f"/v1/jobs/{place.ids['job_id']}") == before


async def test_a_signed_request_is_good_once(tmp_path: Path) -> None:
    async with _place(tmp_path) as place:
        for method, path in (("GET", "/v1/jobs"), ("POST", f"/v1/jobs/{place.ids['job_id']}/cancel")):
            header = {"Authorization": place.buyer.sign(method, path)}
            accepted(await place.buyer.raw(method, path, headers=header))
            refused(await place.buyer.raw(method, path, headers=header), P.AUTH_REPLAYED, status=401)


@pytest.mark.parametrize("says_so", [True, False], ids=["declared", "chunked"])
async def test_a_body_above_the_limit_is_refused_whether_it_says_so_or_not(
    tmp_path: Path, *, says_so: bool
) -> None:
    body = b'{"padding": "' + b"x" * 300_000 + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    async with _place(tmp_path) as place:
        answer = await place.buyer.http.request(
            "POST",
            f"{ORIGIN}/v1/jobs",
            content=body if says_so else pieces(),
            headers={
                "Authorization": place.buyer.sign("POST", "/v1/jobs", body),
                "Content-Type": "application/json",
            },
        )
        refused(answer, P.BODY_TOO_LARGE, status=413)
