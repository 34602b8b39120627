"""Listings, inputs and commitments that a broker must not build a job on."""

from __future__ import annotations

import asyncio
import time

import httpx2
import pytest
from e2e_client import SignedClient, accepted, new_key, refused
from e2e_pair import Pair
from e2e_provider import PRICE, HandProvider, advert
from e2e_stage import ANY_NODE
from pydantic import JsonValue

from lightwork_contracts.money import Msat
from lightwork_contracts.signed.listing import FixedPrice, QuotedPrice, sign_listing
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.market import QuoteWork
from lightwork_contracts.wire.problems import Problem, ProblemCode

P = ProblemCode
pytestmark = ANY_NODE


# --- the provider's commitment --------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"quote_id": "qte_" + "0" * 26}, id="another-quote"),
        pytest.param({"listing_id": "lst_" + "0" * 26}, id="another-listing"),
        pytest.param({"listing_version": 2}, id="another-version"),
        pytest.param({"input_hash": "0" * 64}, id="another-input"),
        pytest.param({"price_msat": PRICE + 1}, id="another-price-than-listed"),
    ],
)
async def test_a_commitment_to_something_else_is_refused(pair: Pair, changes: dict[str, str | int]) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(work, await pair.provider.invoice(work), changes=changes)
    refused(await pair.provider.send(work, event), P.COMMITMENT_INVALID, status=422)
    assert await asking == P.COMMITMENT_INVALID


async def test_a_commitment_of_another_key_is_refused(pair: Pair) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(work, await pair.provider.invoice(work), key=new_key())
    refused(await pair.provider.send(work, event), P.COMMITMENT_INVALID, status=422)
    await asking


async def test_a_commitment_altered_after_signing_is_refused(pair: Pair) -> None:
    asking, work = await pair.asked()
    event = pair.provider.commit(work, await pair.provider.invoice(work))
    cheaper = event.content.replace(f'"price_msat":{PRICE}', f'"price_msat":{PRICE - 1}')
    assert cheaper != event.content
    forged = event.model_copy(update={"content": cheaper})
    refused(await pair.provider.send(work, forged), P.COMMITMENT_INVALID, status=422)
    await asking


async def test_a_strangers_answer_to_a_quote_is_not_found_and_the_real_one_still_counts(pair: Pair) -> None:
    stranger = HandProvider(pair.world)
    asking = asyncio.create_task(pair.buyer.ask(pair.provider.listing))
    work = await pair.provider.next_quote()
    invoice = await pair.provider.invoice(work)
    answer = await stranger.send(work, stranger.commit(work, invoice))
    refused(answer, P.NOT_FOUND, status=404)
    accepted(await pair.provider.send(work, pair.provider.commit(work, invoice)))
    assert accepted(await asking)["price_msat"] == PRICE
    late = await pair.provider.send(work, pair.provider.commit(work, invoice))
    refused(late, P.WRONG_STATUS, status=409)


# --- the buyer's wishes ---------------------------------------------------------------------------


async def test_an_input_that_does_not_fit_is_refused_before_the_provider_is_asked(pair: Pair) -> None:
    for value in ({"text": 1}, {}, {"text": "x", "more": True}):
        body: dict[str, JsonValue] = {"listing_id": pair.provider.listing.id, "input": {**value}}
        problem = refused(
            await pair.buyer.client.call("POST", "/v1/quotes", body), P.INPUT_INVALID, status=422
        )
        assert problem.errors
    assert await pair.provider.ask(wait_seconds=0) == ()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("\\ud800", id="half-a-surrogate"),
        pytest.param("[" * 70 + "]" * 70, id="too-deep"),
        pytest.param("9" * 2_000, id="a-huge-number"),
    ],
)
async def test_a_value_without_a_canonical_form_is_neither_input_nor_result(pair: Pair, value: str) -> None:
    text = f'"{value}"' if value.startswith("\\") else value
    anything: dict[str, JsonValue] = {"type": "object"}
    await pair.provider.offer(advert("anything", input_schema=anything, output_schema={}))
    listing = pair.provider.listing.id
    answer = await _post(
        pair.buyer.client, "/v1/quotes", f'{{"listing_id": "{listing}", "input": {{"a": {text}}}}}'
    )
    assert answer.status_code == 422, answer.text
    assert Problem.model_validate_json(answer.content).code in (P.INPUT_INVALID, P.REQUEST_INVALID)
    job, paying = await pair.buyer.fund(pair.provider)
    work = await pair.provider.next_job()
    answer = await _post(
        pair.provider.client, f"/v1/work/jobs/{job.id}/deliver", f'{{"epoch": 1, "result": {text}}}'
    )
    assert answer.status_code == 422, answer.text
    assert Problem.model_validate_json(answer.content).code in (P.OUTPUT_INVALID, P.REQUEST_INVALID)
    answer = await _post(
        pair.provider.client, f"/v1/work/jobs/{job.id}/fail", '{"epoch": 1, "message": "\\ud800"}'
    )
    refused(answer, P.REQUEST_INVALID, status=422)
    accepted(await pair.provider.fail(work))
    await paying


async def _post(client: SignedClient, path: str, text: str) -> httpx2.Response:
    content = text.encode()
    return await client.raw(
        "POST", path, content, headers={"Authorization": client.sign("POST", path, content)}
    )


async def test_a_price_above_the_maximum_is_refused_before_the_provider_is_asked(pair: Pair) -> None:
    body = {**pair.buyer.request(pair.provider.listing), "max_price_msat": int(PRICE)}
    answer = await pair.buyer.client.call("POST", "/v1/jobs", {"request": body})
    problem = refused(answer, P.PRICE_ABOVE_MAX, status=409)
    assert problem.context["max_price_msat"] == PRICE
    assert await pair.provider.ask(wait_seconds=0) == ()


async def test_a_quoted_price_above_the_maximum_is_refused(pair: Pair) -> None:
    await pair.provider.offer(advert("quoted", price=QuotedPrice()))
    body = {**pair.buyer.request(pair.provider.listing), "max_price_msat": int(PRICE)}
    asking = asyncio.create_task(pair.buyer.client.call("POST", "/v1/jobs", {"request": body}))
    await pair.provider.answer_next()
    refused(await asking, P.PRICE_ABOVE_MAX, status=409)


async def test_an_unknown_task_is_not_found(pair: Pair) -> None:
    body: dict[str, JsonValue] = {"task": "no-such-task", "input": {}}
    refused(await pair.buyer.client.call("POST", "/v1/quotes", body), P.NOT_FOUND, status=404)


async def test_a_retired_listing_cannot_be_hired(pair: Pair) -> None:
    listing = pair.provider.listing
    assert (await pair.provider.client.call("DELETE", f"/v1/listings/{listing.id}")).status_code == 204
    refused(await pair.buyer.ask(listing), P.LISTING_RETIRED, status=410)
    found = (await pair.buyer.client.raw("GET", f"/v1/listings?agent={listing.agent}")).json()
    assert found["listings"] == []


async def test_a_provider_that_never_asked_for_work_is_offline(pair: Pair) -> None:
    absent = HandProvider(pair.world)
    listing = accepted(await absent.publish(advert("absent")))
    body: dict[str, JsonValue] = {"listing_id": listing["id"], "input": {"text": "hello"}}
    refused(await pair.buyer.client.call("POST", "/v1/quotes", body), P.PROVIDER_OFFLINE, status=503)
    body = {"task": "absent", "input": {"text": "hello"}}
    refused(await pair.buyer.client.call("POST", "/v1/quotes", body), P.PROVIDER_OFFLINE, status=503)


async def test_another_version_than_the_buyer_read_is_not_sold_to_him(pair: Pair) -> None:
    body = {**pair.buyer.request(pair.provider.listing), "version": 7}
    refused(await pair.buyer.client.call("POST", "/v1/quotes", body), P.LISTING_STALE, status=409)


# --- the order of things --------------------------------------------------------------------------


async def test_nothing_happens_out_of_order(pair: Pair) -> None:
    job = await pair.buyer.hire(pair.provider)
    path = f"/v1/jobs/{job.id}"
    early: list[tuple[str, dict[str, JsonValue] | None]] = [("accept", None), ("reject", {"reason": "no"})]
    for action, body in early:
        refused(await pair.buyer.client.call("POST", f"{path}/{action}", body), P.WRONG_STATUS, status=409)
    work: list[tuple[str, dict[str, JsonValue]]] = [
        ("deliver", {"epoch": 1, "result": "unasked"}),
        ("fail", {"epoch": 1, "message": "unasked"}),
    ]
    for action, given in work:
        answer = await pair.provider.client.call("POST", f"/v1/work/jobs/{job.id}/{action}", given)
        refused(answer, P.LEASE_LOST, status=409)
    assert await pair.provider.ask(max_quotes=0, wait_seconds=0) == ()
    await pair.buyer.client.post(f"{path}/cancel")
    refused(await pair.buyer.client.call("POST", f"{path}/cancel"), P.WRONG_STATUS, status=409)
    assert (await pair.buyer.read(job.id)).status is JobStatus.EXPIRED


# --- hostile listings -----------------------------------------------------------------------------


def _doubling_references(levels: int) -> dict[str, JsonValue]:
    """A schema of a few hundred bytes whose checking doubles with each level."""
    definitions: dict[str, JsonValue] = {"d0": {"type": "string"}}
    for level in range(1, levels + 1):
        below: dict[str, JsonValue] = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"allOf": [below, dict(below)]}
    return {
        "type": "object",
        "properties": {"text": {"$ref": f"#/$defs/d{levels}"}},
        "$defs": definitions,
    }


async def test_a_listing_that_refers_to_another_place_is_refused(pair: Pair) -> None:
    good = advert("remote")
    for key in ("$ref", "$dynamicRef"):
        schema: dict[str, JsonValue] = {"type": "object", key: "http://127.0.0.1:1/schema.json"}
        hostile = good.model_copy(update={"input_schema": schema})
        refused(await pair.provider.publish(hostile), P.LISTING_INVALID, status=422)
    named: dict[str, JsonValue] = {"type": "object", "$id": "http://127.0.0.1:1/", "properties": {}}
    hostile = good.model_copy(update={"output_schema": named})
    refused(await pair.provider.publish(hostile), P.LISTING_INVALID, status=422)


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "object", "properties": 5}, id="not-a-schema"),
        pytest.param({"type": "object", "additionalProperties": {"type": "tuple"}}, id="not-a-type"),
    ],
)
async def test_a_listing_whose_schema_is_none_is_refused(pair: Pair, schema: dict[str, JsonValue]) -> None:
    hostile = advert("none").model_copy(update={"input_schema": schema})
    refused(await pair.provider.publish(hostile), P.LISTING_INVALID, status=422)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        pytest.param(_doubling_references(40), "x", id="references-that-double"),
        pytest.param(
            {"type": "object", "properties": {"text": {"$ref": "#/properties/text"}}}, "x", id="a-circle"
        ),
        pytest.param(
            {"type": "object", "properties": {"text": {"pattern": "^(a+)+$"}}},
            "a" * 60 + "!",
            id="a-pattern-that-takes-for-ever",
        ),
    ],
)
async def test_a_hostile_schema_keeps_nobody_waiting(
    pair: Pair, schema: dict[str, JsonValue], text: str
) -> None:
    content = advert("hostile", input_schema={**schema})
    answer = await pair.provider.publish(content)
    if answer.status_code >= 400:
        refused(answer, P.LISTING_INVALID, status=422)
        return
    await pair.provider.offer(content)
    before = time.monotonic()
    asking = asyncio.create_task(pair.buyer.ask(pair.provider.listing, text))
    health = await pair.world.client().raw("GET", "/v1/health")
    assert health.status_code == 200
    assert time.monotonic() - before < 5, "the broker stood still"
    work = [
        item for item in await pair.provider.ask(max_jobs=0, wait_seconds=2) if isinstance(item, QuoteWork)
    ]
    if work:
        # Patterns are the provider's to check: the broker hands the input on.
        refuse = f"/v1/work/quotes/{work[0].quote_id}/refuse"
        await pair.provider.client.post(refuse, {"reason": "not such a text"})
        refused(await asking, P.PROVIDER_REFUSED, status=409)
    else:
        refused(await asking, P.INPUT_INVALID, status=422)
    assert time.monotonic() - before < 8


async def test_a_listing_of_another_key_cannot_be_published(pair: Pair) -> None:
    event = sign_listing(advert("not-mine"), key=new_key(), created_at=int(time.time()))
    body: dict[str, JsonValue] = {"event": event.model_dump(mode="json")}
    refused(await pair.provider.client.call("PUT", "/v1/listings", body), P.FORBIDDEN, status=403)


async def test_a_listing_altered_after_signing_is_refused(pair: Pair) -> None:
    event = sign_listing(advert("cheap"), key=pair.provider.client.key, created_at=int(time.time()))
    forged = event.model_copy(update={"content": event.content.replace("10000", "10001")})
    assert forged.content != event.content
    body: dict[str, JsonValue] = {"event": forged.model_dump(mode="json")}
    refused(await pair.provider.client.call("PUT", "/v1/listings", body), P.LISTING_INVALID, status=422)


async def test_a_listing_from_the_future_or_beyond_the_price_limit_is_refused(pair: Pair) -> None:
    future = await pair.provider.publish(advert("future"), created_at=int(time.time()) + 3_600)
    refused(future, P.LISTING_INVALID, status=422)
    dear = await pair.provider.publish(advert("dear", price=FixedPrice(msat=Msat(10**12))))
    refused(dear, P.LISTING_INVALID, status=422)
