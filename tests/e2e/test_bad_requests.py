"""Requests that are not signed as they should be, or that do not fit the API: refused at the door."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import httpx2
import pytest
import pytest_asyncio
from e2e_client import SignedClient, new_key, refused
from e2e_provider import HandBuyer, HandProvider, advert
from e2e_stage import ANY_NODE
from e2e_world import World
from pydantic import JsonValue

from lightwork_contracts.wire.problems import ProblemCode

P = ProblemCode
HIRE = "/v1/jobs"
pytestmark = ANY_NODE
BODY = json.dumps({"request": {"task": "by-hand", "input": {"text": "hello"}}}).encode()


@pytest_asyncio.fixture(loop_scope="session")
async def client(world: World) -> AsyncGenerator[SignedClient]:
    """A stranger with a key; whatever it does, no money moves."""
    async with world.money.moves():
        yield world.client()


async def test_an_unsigned_request_is_refused(client: SignedClient) -> None:
    refused(await client.raw("POST", HIRE, BODY), P.AUTH_MISSING, status=401)


async def test_a_bearer_token_is_no_signature(client: SignedClient) -> None:
    answer = await client.raw("POST", HIRE, BODY, headers={"Authorization": "Bearer let-me-in"})
    refused(answer, P.AUTH_MISSING, status=401)


async def test_a_signature_that_cannot_be_read_is_refused(client: SignedClient) -> None:
    answer = await client.raw("POST", HIRE, BODY, headers={"Authorization": "Nostr bm90IGFuIGV2ZW50"})
    refused(answer, P.AUTH_MALFORMED, status=401)


async def test_a_signature_is_good_for_one_use(client: SignedClient) -> None:
    header = {"Authorization": client.sign("GET", HIRE)}
    assert (await client.raw("GET", HIRE, headers=header)).status_code == 200
    refused(await client.raw("GET", HIRE, headers=header), P.AUTH_REPLAYED, status=401)


@pytest.mark.parametrize("away", [-90, 90], ids=["too-old", "from-the-future"])
async def test_a_signature_holds_for_a_minute(client: SignedClient, away: int) -> None:
    header = {"Authorization": client.sign("GET", HIRE, created_at=int(time.time()) + away)}
    refused(await client.raw("GET", HIRE, headers=header), P.AUTH_STALE, status=401)


async def test_a_changed_signature_is_refused(client: SignedClient) -> None:
    header = SignedClient(client.url, key=new_key()).sign("GET", HIRE)
    mine = client.sign("GET", HIRE)
    forged = _with_signature_of(mine, header)
    answer = await client.raw("GET", HIRE, headers={"Authorization": forged})
    refused(answer, P.AUTH_SIGNATURE, status=401)


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        pytest.param("POST", "/v1/quotes", BODY, P.AUTH_URL_MISMATCH, id="another-path"),
        pytest.param("POST", HIRE + "?limit=1", BODY, P.AUTH_URL_MISMATCH, id="another-query"),
        pytest.param("GET", HIRE, BODY, P.AUTH_METHOD_MISMATCH, id="another-method"),
        pytest.param("POST", HIRE, BODY + b" ", P.AUTH_PAYLOAD_MISMATCH, id="another-body"),
        pytest.param("POST", HIRE, b"", P.AUTH_PAYLOAD_MISMATCH, id="no-body"),
    ],
)
async def test_a_signature_for_something_else_is_refused(
    client: SignedClient, method: str, path: str, body: bytes, code: ProblemCode
) -> None:
    header = {"Authorization": client.sign(method, path, body)}
    refused(await client.raw("POST", HIRE, BODY, headers=header), code, status=401)


async def test_a_signature_for_another_broker_is_refused_whatever_the_host_header_says(
    client: SignedClient,
) -> None:
    elsewhere = SignedClient("http://127.0.0.1:1", key=client.key)
    header = {"Authorization": elsewhere.sign("POST", HIRE, BODY), "Host": "127.0.0.1:1"}
    refused(await client.raw("POST", HIRE, BODY, headers=header), P.AUTH_URL_MISMATCH, status=401)
    await elsewhere.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize("path", [HIRE, "/v1/listings"])
async def test_an_oversize_body_is_refused(client: SignedClient, path: str, chunked: bool) -> None:
    body = b'{"padding": "' + b"x" * 300_000 + b'"}'
    method = "PUT" if path == "/v1/listings" else "POST"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    answer = await client.http.request(
        method,
        client.url + path,
        content=pieces() if chunked else body,
        headers={"Authorization": client.sign(method, path, body), "Content-Type": "application/json"},
    )
    refused(answer, P.BODY_TOO_LARGE, status=413)


REQUEST: dict[str, JsonValue] = {"task": "by-hand", "input": {"text": "hello"}}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"request": {**REQUEST, "max_price_msat": 20_000.0}}, id="money-as-a-float"),
        pytest.param({"request": {**REQUEST, "max_price_msat": "20000"}}, id="money-as-text"),
        pytest.param({"request": {**REQUEST, "max_price_msat": -1}}, id="negative-money"),
        pytest.param({"request": {**REQUEST, "max_price_msat": True}}, id="money-as-a-truth"),
        pytest.param({"request": {**REQUEST, "max_price_msat": 10**30}}, id="more-money-than-there-is"),
        pytest.param({"request": {**REQUEST, "tip_msat": 1}}, id="an-unknown-field"),
        pytest.param({"request": {**REQUEST, "input": "hello"}}, id="an-input-that-is-no-object"),
        pytest.param({"request": {"input": {}}}, id="neither-task-nor-listing"),
        pytest.param({"request": {**REQUEST, "listing_id": "lst_x"}}, id="both-task-and-listing"),
        pytest.param({}, id="neither-quote-nor-request"),
        pytest.param({"quote_id": "qte_x", "request": {**REQUEST}}, id="both-quote-and-request"),
    ],
)
async def test_a_request_that_does_not_fit_the_api_is_refused(
    client: SignedClient, body: Mapping[str, JsonValue]
) -> None:
    refused(await client.call("POST", HIRE, body), P.REQUEST_INVALID, status=422)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"request": ', id="cut-off"),
        pytest.param(b"\xff\xfe\x00", id="not-utf-8"),
        pytest.param(b'{"request": {"task": "by-hand", "input": {"n": NaN}}}', id="not-a-number"),
        pytest.param(b"[" * 20_000 + b"]" * 20_000, id="nested-without-end"),
        pytest.param(
            b'{"request": {"task": "by-hand", "input": {"n": ' + b"9" * 5_000 + b"}}}", id="huge-number"
        ),
    ],
)
async def test_malformed_json_is_refused(client: SignedClient, content: bytes) -> None:
    answer = await client.raw(
        "POST", HIRE, content, headers={"Authorization": client.sign("POST", HIRE, content)}
    )
    refused(answer, P.REQUEST_INVALID, status=422)


@pytest.mark.parametrize("characters", [8 * 1024 + 1, 40_000, 1_000_000, 20_000_000])
async def test_a_huge_header_is_refused_and_the_broker_lives_on(
    client: SignedClient, characters: int
) -> None:
    header = {"Authorization": "Nostr " + "A" * characters}
    try:
        answer = await client.raw("GET", HIRE, headers=header)
    except httpx2.TransportError:
        assert characters > 40_000  # the connection is closed before all of it is read
    else:
        assert answer.status_code in (400, 401, 431)
        if characters < 40_000:
            refused(answer, P.AUTH_MALFORMED, status=401)
    assert (await client.raw("GET", "/v1/info")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/quotes", HIRE, "/v1/webhooks", "/v1/withdrawals", "/v1/work/poll"])
async def test_json_nested_without_end_is_refused_on_every_way_in(client: SignedClient, path: str) -> None:
    for body in (b"[" * 100_000, b'{"request":' * 10_000, b"[" * 100_000 + b"]" * 100_000):
        header = {"Authorization": client.sign("POST", path, body)}
        refused(await client.raw("POST", path, body, headers=header), P.REQUEST_INVALID, status=422)


async def test_a_signature_whose_event_is_nested_without_end_is_refused(client: SignedClient) -> None:
    for event in (b"[" * 5_000, b'{"tags":' + b"[" * 5_000 + b"]" * 500):
        header = {"Authorization": "Nostr " + base64.b64encode(event).decode()}
        refused(await client.raw("GET", HIRE, headers=header), P.AUTH_MALFORMED, status=401)


async def test_what_is_not_there_is_not_found(client: SignedClient) -> None:
    for path in (
        "/v1/jobs/job_01k00000000000000000000000",
        "/v1/jobs/job_01k00000000000000000000000/events",
        "/v1/quotes/qte_01k00000000000000000000000",
        "/v1/listings/lst_01k00000000000000000000000",
        "/v1/nothing",
    ):
        refused(await client.call("GET", path), P.NOT_FOUND, status=404)
    refused(await client.call("DELETE", "/v1/jobs"), P.METHOD_NOT_ALLOWED, status=405)


async def test_the_jobs_and_quotes_of_others_do_not_exist_for_a_stranger(
    client: SignedClient, world: World
) -> None:
    provider, buyer = HandProvider(world), HandBuyer(world)
    await provider.offer(advert())
    job = await buyer.hire(provider)
    stranger = client
    refused(await stranger.call("GET", f"/v1/quotes/{job.quote.id}"), P.NOT_FOUND, status=404)
    refused(await provider.client.call("GET", f"/v1/quotes/{job.quote.id}"), P.NOT_FOUND, status=404)
    refused(await stranger.call("POST", HIRE, {"quote_id": job.quote.id}), P.NOT_FOUND, status=404)
    calls: list[tuple[str, str, dict[str, JsonValue] | None]] = [
        ("GET", "", None),
        ("GET", "/events", None),
        ("POST", "/cancel", None),
        ("POST", "/accept", None),
        ("POST", "/reject", {"reason": "mine now"}),
    ]
    for method, path, body in calls:
        answer = await stranger.call(method, f"/v1/jobs/{job.id}{path}", body)
        refused(answer, P.NOT_FOUND, status=404)
    work: list[tuple[str, dict[str, JsonValue]]] = [
        ("heartbeat", {"epoch": 1}),
        ("deliver", {"epoch": 1, "result": "mine"}),
        ("fail", {"epoch": 1, "message": "mine"}),
    ]
    for action, body in work:
        for other in (stranger, buyer.client):
            answer = await other.call("POST", f"/v1/work/jobs/{job.id}/{action}", body)
            refused(answer, P.NOT_FOUND, status=404)
    listing = f"/v1/listings/{provider.listing.id}"
    refused(await stranger.call("DELETE", listing), P.FORBIDDEN, status=403)
    await buyer.client.post(f"/v1/jobs/{job.id}/cancel")


def _with_signature_of(header: str, other: str) -> str:
    """Return the first header's event with the second one's signature."""

    def read(text: str) -> dict[str, JsonValue]:
        return json.loads(base64.b64decode(text.split(" ")[1]))

    mixed = {**read(header), "sig": read(other)["sig"]}
    return "Nostr " + base64.b64encode(json.dumps(mixed).encode()).decode()
