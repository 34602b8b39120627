"""Every route of the broker times every role: who is let in, who is refused, and that no refusal left a trace.

A new route without a row in the table fails the first test.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from e2e_client import SignedClient, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_stage import ANY_NODE
from e2e_world import World
from fastapi import APIRouter, FastAPI
from faulty_node import FaultyNode
from faulty_port import Port
from pydantic import JsonValue

from lightwork_broker.app import create_app
from lightwork_broker.clock import SystemClock
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.listing import sign_listing
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.market import QuoteWork
from lightwork_contracts.wire.problems import ProblemCode as P

OPEN = "open to all, signed or not"
OWN = "answered, with nothing in it that is another's"
OK = "answered"
FORBIDDEN = P.FORBIDDEN
NOT_FOUND = P.NOT_FOUND
STATUS = {P.FORBIDDEN: 403, P.NOT_FOUND: 404}


@dataclass(frozen=True, slots=True)
class Row:
    """What each role meets. Whoever has not signed meets 401, but where it is open."""

    stranger: str
    buyer: str
    provider: str
    operator: str


ALL = Row(OPEN, OPEN, OPEN, OPEN)
EACH_ITS_OWN = Row(OWN, OWN, OWN, OWN)
ROLES = tuple(field.name for field in fields(Row))

TABLE: dict[str, Row] = {
    "GET /openapi.json": ALL,
    "GET /docs": ALL,
    "GET /docs/oauth2-redirect": ALL,
    "GET /redoc": ALL,
    "GET /v1/info": ALL,
    "GET /v1/health": ALL,
    "GET /v1/listings": ALL,
    "GET /v1/listings/{listing_id}": ALL,
    "GET /v1/listings/{listing_id}/versions/{version}": ALL,
    "PUT /v1/listings": Row(FORBIDDEN, FORBIDDEN, OK, FORBIDDEN),
    "DELETE /v1/listings/{listing_id}": Row(FORBIDDEN, FORBIDDEN, OK, FORBIDDEN),
    "POST /v1/quotes": EACH_ITS_OWN,
    "GET /v1/quotes/{quote_id}": Row(NOT_FOUND, OK, NOT_FOUND, NOT_FOUND),
    "POST /v1/work/quotes/{quote_id}/answer": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "POST /v1/work/quotes/{quote_id}/refuse": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "POST /v1/jobs": Row(NOT_FOUND, OK, NOT_FOUND, NOT_FOUND),
    "GET /v1/jobs": Row(OWN, OK, OWN, OWN),
    "GET /v1/jobs/{job_id}": Row(NOT_FOUND, OK, OK, NOT_FOUND),
    "GET /v1/jobs/{job_id}/events": Row(NOT_FOUND, OK, OK, NOT_FOUND),
    "POST /v1/jobs/{job_id}/cancel": Row(NOT_FOUND, OK, FORBIDDEN, NOT_FOUND),
    "POST /v1/jobs/{job_id}/accept": Row(NOT_FOUND, OK, FORBIDDEN, NOT_FOUND),
    "POST /v1/jobs/{job_id}/reject": Row(NOT_FOUND, OK, FORBIDDEN, NOT_FOUND),
    "POST /v1/jobs/{job_id}/ruling": Row(FORBIDDEN, FORBIDDEN, FORBIDDEN, OK),
    "POST /v1/work/poll": Row(OWN, OWN, OK, OWN),
    "POST /v1/work/jobs/{job_id}/heartbeat": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "POST /v1/work/jobs/{job_id}/deliver": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "POST /v1/work/jobs/{job_id}/fail": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "GET /v1/balance": EACH_ITS_OWN,
    "GET /v1/balance/entries": EACH_ITS_OWN,
    "POST /v1/withdrawals": EACH_ITS_OWN,
    "GET /v1/withdrawals": Row(OWN, OWN, OK, OWN),
    "GET /v1/withdrawals/{withdrawal_id}": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
    "POST /v1/webhooks": EACH_ITS_OWN,
    "GET /v1/webhooks": Row(OWN, OWN, OK, OWN),
    "DELETE /v1/webhooks/{webhook_id}": Row(NOT_FOUND, NOT_FOUND, OK, NOT_FOUND),
}

LAST = (
    "POST /v1/work/jobs/{job_id}/deliver",
    "POST /v1/work/jobs/{job_id}/fail",
    "POST /v1/jobs/{job_id}/cancel",
    "GET /v1/jobs/{job_id}/events",
    "DELETE /v1/listings/{listing_id}",
)
"""What changes most, in an order in which each is still answered."""


def _routes(router: FastAPI | APIRouter) -> set[str]:
    found: set[str] = set()
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            found |= _routes(inner)
        else:
            methods: set[str] = getattr(route, "methods", None) or {"ANY"}
            found |= {f"{method} {getattr(route, 'path', route)}" for method in methods - {"HEAD"}}
    return found


def test_every_route_of_the_broker_has_a_row() -> None:
    app = create_app(BrokerSettings(), Port(FaultyNode(SystemClock())))
    assert _routes(app) == set(TABLE)
    described = {
        f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
    }
    assert described <= set(TABLE)
    assert len(described) > 25


@dataclass(frozen=True, slots=True)
class Scene:
    """One funded job, a quote that waits for its provider, a withdrawal and a webhook; and who asks about them."""

    broker: Path
    clients: dict[str, SignedClient]
    ids: dict[str, str]
    bodies: dict[str, dict[str, JsonValue]]

    async def ask(self, route: str, role: str | None) -> Any:
        method, path = self._call(route)
        body = self.bodies.get(route)
        if role is None:
            content = b"" if body is None else json.dumps(body).encode()
            return await self.clients["stranger"].raw(method, path, content)
        return await self.clients[role].call(method, path, body)

    def _call(self, route: str) -> tuple[str, str]:
        method, path = route.split(" ")
        waiting = path.startswith("/v1/work/quotes")
        return method, path.format(
            **self.ids, quote_id=self.ids["asked_id" if waiting else "answered_id"], version=1
        )

    def rows(self) -> list[tuple[Any, ...]]:
        """Return every row about these things, as they are committed now."""
        ids = self.ids
        questions = (
            ("SELECT * FROM listing WHERE id = ?", ids["listing_id"]),
            ("SELECT * FROM listing_version WHERE listing_id = ?", ids["listing_id"]),
            ("SELECT * FROM quote WHERE id = ?", ids["answered_id"]),
            ("SELECT * FROM quote WHERE id = ?", ids["asked_id"]),
            ("SELECT * FROM job WHERE id = ?", ids["job_id"]),
            ("SELECT * FROM job_event WHERE job_id = ?", ids["job_id"]),
            ("SELECT * FROM escrow WHERE id = ?", ids["job_id"]),
            ("SELECT * FROM escrow_event WHERE escrow_id = ?", ids["job_id"]),
            ("SELECT * FROM withdrawal WHERE id = ?", ids["withdrawal_id"]),
            ("SELECT * FROM webhook WHERE id = ?", ids["webhook_id"]),
        )
        with closing(sqlite3.connect(self.broker)) as connection:
            return [row for sql, value in questions for row in connection.execute(sql, (value,))]


async def _scene(world: World) -> tuple[Scene, HandBuyer, asyncio.Task[Any], asyncio.Task[Any]]:
    provider, buyer = HandProvider(world), HandBuyer(world)
    listing = await provider.offer(advert("guarded"))
    job, paying = await buyer.fund(provider)
    asking = asyncio.create_task(buyer.ask(listing, "one more"))
    work = await provider.next_quote()
    database = world.broker.data_dir / "broker.sqlite"
    name = job.id.removeprefix("job_")
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        now = time.time()
        connection.execute(
            "INSERT INTO withdrawal (id, agent, status, payment_hash, invoice, amount_msat, max_fee_msat, "
            "created_at, updated_at) VALUES (?, ?, 'paying', ?, 'x', 5, 0, ?, ?)",
            (f"wdr_{name}", provider.client.key.public, job.id.encode().hex().ljust(64, "0")[:64], now, now),
        )
        # In one transaction: the broker must not begin to pay it.
        connection.execute("UPDATE withdrawal SET status = 'failed' WHERE id = ?", (f"wdr_{name}",))
        connection.execute(
            "INSERT INTO webhook (id, owner, url, secret, cursor, tries, retry_at, lease_until, disabled, "
            "created_at) VALUES (?, ?, 'https://example.com/', 'x', 0, 0, 0, 0, 1, ?)",
            (f"whk_{name}", provider.client.key.public, now),
        )
        connection.commit()
    scene = Scene(
        broker=database,
        clients={
            "stranger": world.client(),
            "buyer": buyer.client,
            "provider": provider.client,
            "operator": world.operator(),
        },
        ids={
            "listing_id": listing.id,
            "answered_id": job.quote.id,
            "asked_id": work.quote_id,
            "job_id": job.id,
            "withdrawal_id": f"wdr_{name}",
            "webhook_id": f"whk_{name}",
        },
        bodies=_bodies(provider, await _commitment(provider, work), quote_id=job.quote.id),
    )
    return scene, buyer, paying, asking


async def _commitment(provider: HandProvider, work: QuoteWork) -> SignedEvent:
    return provider.commit(work, await provider.invoice(work))


def _bodies(
    provider: HandProvider, commitment: SignedEvent, *, quote_id: str
) -> dict[str, dict[str, JsonValue]]:
    """Return bodies that the API takes, so that nothing but who asks can be the reason for a refusal."""
    listing = sign_listing(advert("guarded"), key=provider.client.key, created_at=int(time.time()))
    return {
        "PUT /v1/listings": {"event": listing.model_dump(mode="json")},
        "POST /v1/quotes": {"listing_id": provider.listing.id, "input": {"no": "text"}},
        "POST /v1/work/quotes/{quote_id}/answer": {"commitment": commitment.model_dump(mode="json")},
        "POST /v1/work/quotes/{quote_id}/refuse": {"reason": "no"},
        "POST /v1/jobs": {"quote_id": quote_id},
        "POST /v1/jobs/{job_id}/reject": {"reason": "no"},
        "POST /v1/jobs/{job_id}/ruling": {"release": False, "reason": "no"},
        "POST /v1/work/poll": {"wait_seconds": 0, "max_quotes": 8, "max_jobs": 8},
        "POST /v1/work/jobs/{job_id}/heartbeat": {"epoch": 1},
        "POST /v1/work/jobs/{job_id}/deliver": {"epoch": 1, "result": "done"},
        "POST /v1/work/jobs/{job_id}/fail": {"epoch": 1, "message": "no"},
        "POST /v1/withdrawals": {"invoice": "lnbcrt1junk", "max_fee_msat": 0},
        "POST /v1/webhooks": {"url": "http://127.0.0.1/"},
    }


@ANY_NODE
async def test_each_role_reaches_what_the_table_says_and_what_is_refused_leaves_no_trace(
    world: World,
) -> None:
    scene, buyer, paying, asking = await _scene(world)
    before = scene.rows()
    assert len(before) > 8
    for route, row in TABLE.items():
        unsigned = await scene.ask(route, None)
        if row is ALL:
            assert unsigned.status_code == 200, route
        else:
            refused(unsigned, P.AUTH_MISSING, status=401)
        for role in ROLES:
            expected = getattr(row, role)
            if expected in (OK, OPEN):
                continue
            answer = await scene.ask(route, role)
            if expected == OWN:
                assert answer.status_code not in (401, 403, 404, 500), (route, role, answer.text)
                assert not _foreign(scene, role, answer.text), (route, role)
            else:
                refused(answer, P(expected), status=STATUS[P(expected)])
    assert scene.rows() == before
    allowed = [route for route in TABLE if route not in LAST]
    for route in (*allowed, *LAST):
        for role in ROLES:
            if getattr(TABLE[route], role) in (OK, OPEN):
                answer = await scene.ask(route, role)
                assert answer.status_code not in (401, 403, 404, 500), (route, role, answer.text)
        if route == LAST[1]:
            await buyer.until(scene.ids["job_id"], JobStatus.SETTLED)
    await asyncio.gather(paying, asking)
    assert scene.rows() != before


def _foreign(scene: Scene, role: str, text: str) -> set[str]:
    """Return the ids in an answer that are not for this role to see. Listings are for everybody."""
    hidden = set(scene.ids) - {"listing_id"}
    return {name for name in hidden if re.search(re.escape(scene.ids[name]), text)}
