"""The connection: signed anew for each try, tried again only where that is safe."""

from __future__ import annotations

import asyncio
import itertools

import httpx2
import pytest
from pydantic import TypeAdapter
from unit.sdk.signed_facts import BUYER, NOW
from unit.sdk.stand_ins import problem

from lightwork.connection import Backoff, BrokerConnection
from lightwork.errors import (
    AuthRefused,
    BrokerAnswerInvalid,
    BrokerProblem,
    BrokerUnreachable,
    LeaseLost,
    ProfileInvalid,
)
from lightwork_contracts.signed.http_auth import read_request_auth
from lightwork_contracts.wire.jobs import Reject
from lightwork_contracts.wire.problems import ProblemCode

ANYTHING: TypeAdapter[object] = TypeAdapter(object)


class Server:
    """Answers with what it is given, in turn; the last answer again and again."""

    def __init__(self, *answers: httpx2.Response | type[httpx2.TransportError]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.slept: list[float] = []

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, httpx2.Response):
            return said
        raise said("gone", request=request)

    def connection(self, url: str = "http://broker.test:81/api/") -> BrokerConnection:
        numbers = itertools.count()

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

        return BrokerConnection(
            url,
            key=BUYER,
            transport=httpx2.MockTransport(self.handle),
            clock=lambda: NOW + 0.9,
            entropy=lambda size: next(numbers).to_bytes(size, "big"),
            sleep=sleep,
        )


OK = httpx2.Response(200, json={"fine": True})


async def test_a_request_is_signed_for_its_exact_url_method_and_body() -> None:
    server = Server(OK)
    await server.connection().call(
        "POST", "/v1/x", answer=ANYTHING, body=Reject(reason="späť"), params={"q": "a b&c"}, safe=False
    )
    request = server.requests[0]
    assert str(request.url) == "http://broker.test:81/api/v1/x?q=a+b%26c"
    auth = read_request_auth(
        request.headers["authorization"], url=str(request.url), method="POST", body=request.content, now=NOW
    )
    assert auth.pubkey == BUYER.public


async def test_every_try_is_signed_anew_and_waits_longer() -> None:
    server = Server(httpx2.ReadError, httpx2.ReadTimeout, problem(ProblemCode.OVERLOADED, 503), OK)
    assert await server.connection().call("GET", "/v1/x", answer=ANYTHING, safe=True) == {"fine": True}
    assert len({request.headers["authorization"] for request in server.requests}) == 4
    assert len(server.slept) == 3
    assert server.slept[0] < server.slept[2]


async def test_what_is_not_safe_is_sent_once_if_it_may_have_arrived() -> None:
    server = Server(httpx2.ReadError, OK)
    with pytest.raises(BrokerUnreachable):
        await server.connection().call("POST", "/v1/x", answer=ANYTHING, safe=False)
    assert len(server.requests) == 1


async def test_what_is_not_safe_is_sent_again_if_nothing_was_sent() -> None:
    server = Server(httpx2.ConnectError, OK)
    assert await server.connection().call("POST", "/v1/x", answer=ANYTHING, safe=False) == {"fine": True}


async def test_a_broker_that_stays_away_is_unreachable_after_four_tries() -> None:
    server = Server(httpx2.ConnectError)
    with pytest.raises(BrokerUnreachable, match=r"broker\.test"):
        await server.connection().call("GET", "/v1/x", answer=ANYTHING, safe=True)
    assert len(server.requests) == 4


async def test_a_signature_from_before_the_brokers_start_is_made_anew_whatever_the_call() -> None:
    away = [httpx2.ConnectError] * 3
    server = Server(*away, problem(ProblemCode.AUTH_STALE, 401), OK)
    assert await server.connection().call("POST", "/v1/x", answer=ANYTHING, safe=False) == {"fine": True}
    assert len({request.headers["authorization"] for request in server.requests}) == 5


async def test_a_signature_that_stays_stale_is_refused_after_four_tries() -> None:
    server = Server(problem(ProblemCode.AUTH_STALE, 401))
    with pytest.raises(AuthRefused):
        await server.connection().call("GET", "/v1/x", answer=ANYTHING, safe=True)
    assert len(server.requests) == 4


async def test_a_refusal_is_not_asked_for_again() -> None:
    server = Server(problem(ProblemCode.LEASE_LOST, 409, "too late"))
    with pytest.raises(LeaseLost, match="too late"):
        await server.connection().call("GET", "/v1/x", answer=ANYTHING, safe=True)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (httpx2.Response(502, text="<html>"), BrokerUnreachable),
        (httpx2.Response(404, text="<html>"), BrokerAnswerInvalid),
        (httpx2.Response(302, headers={"location": "http://evil.test"}), BrokerAnswerInvalid),
        (httpx2.Response(200, text="not json"), BrokerAnswerInvalid),
        (problem(ProblemCode.INTERNAL, 500), BrokerProblem),
    ],
)
async def test_an_answer_of_another_kind_is_an_error_of_its_own(
    response: httpx2.Response, kind: type[Exception]
) -> None:
    server = Server(response)
    with pytest.raises(kind):
        await server.connection().call("GET", "/v1/x", answer=ANYTHING, safe=False)
    assert all(request.url.host == "broker.test" for request in server.requests)


def test_a_url_that_is_none_is_refused() -> None:
    for url in ("broker.test", "ftp://broker.test", "", "http://"):
        with pytest.raises(ProfileInvalid):
            BrokerConnection(url, key=None)


def test_waiting_doubles_up_to_its_most_and_never_all_at_once() -> None:
    backoff = Backoff(first=1, most=8)
    assert [backoff.delay(attempt, chance=1) for attempt in (1, 2, 3, 4, 5, 500)] == [1, 2, 4, 8, 8, 8]
    assert backoff.delay(3, chance=0) == 2


async def test_a_stream_that_was_signed_before_the_brokers_start_is_signed_anew() -> None:
    event = httpx2.Response(
        200, headers={"Content-Type": "text/event-stream"}, content=b"id: 7\nevent: job.funded\ndata: {}\n\n"
    )
    server = Server(problem(ProblemCode.AUTH_STALE, 401), event)
    heard = [one.id async for one in server.connection().stream("/v1/jobs/job_1/events")]
    assert heard == ["7"]
    first, second = (request.headers["Authorization"] for request in server.requests)
    assert first != second
    assert len(server.slept) == 1


async def test_a_stream_of_one_whose_clock_is_wrong_is_refused_in_the_end() -> None:
    server = Server(problem(ProblemCode.AUTH_STALE, 401))
    with pytest.raises(AuthRefused):
        _ = [one async for one in server.connection().stream("/v1/jobs/job_1/events")]
    assert len(server.requests) > 1
