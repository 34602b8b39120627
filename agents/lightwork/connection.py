"""One signed, kept-alive HTTP connection to a broker: problems become errors, safe calls are tried again."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from lightwork.errors import (
    AuthRefused,
    BrokerAnswerInvalid,
    BrokerProblem,
    BrokerUnreachable,
    LeaseLost,
    NotFound,
    PriceAboveMax,
    ProfileInvalid,
    ProviderUnavailable,
    RequestRefused,
    WrongStatus,
)
from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.problems import Problem, ProblemCode

T = TypeVar("T")

CALL_SECONDS = 20.0
CONNECT_SECONDS = 5.0

ERROR_OF: Mapping[str, type[BrokerProblem]] = {
    ProblemCode.NOT_FOUND: NotFound,
    ProblemCode.PRICE_ABOVE_MAX: PriceAboveMax,
    ProblemCode.PROVIDER_OFFLINE: ProviderUnavailable,
    ProblemCode.PROVIDER_UNRESPONSIVE: ProviderUnavailable,
    ProblemCode.PROVIDER_REFUSED: ProviderUnavailable,
    ProblemCode.INPUT_INVALID: RequestRefused,
    ProblemCode.OUTPUT_INVALID: RequestRefused,
    ProblemCode.REQUEST_INVALID: RequestRefused,
    ProblemCode.BODY_TOO_LARGE: RequestRefused,
    ProblemCode.LISTING_STALE: RequestRefused,
    ProblemCode.LISTING_LIMIT: RequestRefused,
    ProblemCode.LISTING_RETIRED: RequestRefused,
    ProblemCode.QUOTE_EXPIRED: RequestRefused,
    ProblemCode.LEASE_LOST: LeaseLost,
    ProblemCode.WRONG_STATUS: WrongStatus,
    ProblemCode.FORBIDDEN: AuthRefused,
    ProblemCode.AUTH_MISSING: AuthRefused,
    ProblemCode.AUTH_MALFORMED: AuthRefused,
    ProblemCode.AUTH_KIND: AuthRefused,
    ProblemCode.AUTH_URL_MISMATCH: AuthRefused,
    ProblemCode.AUTH_METHOD_MISMATCH: AuthRefused,
    ProblemCode.AUTH_PAYLOAD_MISMATCH: AuthRefused,
    ProblemCode.AUTH_STALE: AuthRefused,
    ProblemCode.AUTH_SIGNATURE: AuthRefused,
    ProblemCode.AUTH_REPLAYED: AuthRefused,
}

# Answers that say "not now" before anything was done; a safe call may be made again.
BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next try: doubling from `first` to `most` seconds, halved at random."""

    first: float = 0.2
    most: float = 30.0

    def delay(self, attempt: int, *, chance: float) -> float:
        """Return seconds before try number `attempt` (from 1); `chance` is a random number from 0 to 1."""
        return min(self.most, self.first * 2 ** min(attempt - 1, 20)) * (0.5 + chance / 2)


class BrokerConnection:
    """Requests to one broker, signed with one key. Clock, entropy and sleep are given, for tests."""

    def __init__(
        self,
        url: str,
        *,
        key: SecretKey | None,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff | None = None,
        attempts: int = 4,
    ) -> None:
        parsed = httpx2.URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ProfileInvalid(
                f"'{url}' is no broker URL", hint="write it with its scheme, as in http://127.0.0.1:8402"
            )
        self.url = str(parsed).rstrip("/")
        self.key = key
        self.clock = clock
        self.entropy = entropy
        self.sleep = sleep
        self.backoff = backoff or Backoff()
        self._attempts = attempts
        self._client = httpx2.AsyncClient(
            transport=transport,
            timeout=httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
            headers={"Accept": "application/json, application/problem+json"},
            trust_env=False,
        )

    async def close(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        answer: TypeAdapter[T],
        body: BaseModel | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
        safe: bool,
        seconds: float = CALL_SECONDS,
    ) -> T:
        """Make one call and read its answer; a `safe` one is made again when the connection is lost.

        One whose signature came too late, as while the broker starts, is signed anew and made again.

        Raises:
            BrokerUnreachable: no answer after the last try.
            BrokerProblem: the broker refused.
            BrokerAnswerInvalid: the answer is not of this protocol.
        """
        content = body.model_dump_json().encode() if body is not None else b""
        response = await self._send(
            method,
            path,
            content=content,
            params=params,
            headers=headers,
            signed=signed,
            safe=safe,
            seconds=seconds,
        )
        try:
            return answer.validate_json(response.content or b"null")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = "/".join(str(part) for part in first["loc"])
            raise BrokerAnswerInvalid(f"{method} {path}: {place}: {first['msg']}") from None

    async def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx2.ServerSentEvent]:
        """Yield server-sent events until the broker ends the stream.

        Raises:
            BrokerUnreachable: the connection was lost; resume with `Last-Event-ID`.
            BrokerProblem: the broker refused.
        """
        response = await self._open_stream(path, headers=headers or {})
        try:
            async for event in httpx2.EventSource(response):
                yield event
        except httpx2.TransportError as error:
            raise self._unreachable(error) from None
        finally:
            await response.aclose()

    async def _open_stream(self, path: str, *, headers: Mapping[str, str]) -> httpx2.Response:
        """Return the open answer of a stream. What was signed before the broker's start is signed anew."""
        attempt = 0
        while True:
            attempt += 1
            # Keep-alive comments come every few seconds, so a minute of silence is a dead connection.
            request = self._request(
                "GET",
                path,
                content=b"",
                params=None,
                headers={"Accept": "text/event-stream", **headers},
                signed=True,
                seconds=60,
            )
            try:
                response = await self._client.send(request, stream=True)
                if response.status_code == 200:
                    return response
                await response.aread()
                await response.aclose()
            except httpx2.TransportError as error:
                raise self._unreachable(error) from None
            problem = problem_of(response)
            if problem.code != ProblemCode.AUTH_STALE or attempt >= self._attempts:
                raise problem
            await self.sleep(self.backoff.delay(attempt, chance=self.chance()))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        signed: bool,
        safe: bool,
        seconds: float,
    ) -> httpx2.Response:
        attempt, signed_too_early = 1, 0
        while True:
            last = attempt >= self._attempts
            # Signed anew each time: the broker refuses an event that it has seen.
            request = self._request(
                method, path, content=content, params=params, headers=headers, signed=signed, seconds=seconds
            )
            try:
                response = await self._client.send(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                # Nothing was sent, so any call may be made again.
                if last:
                    raise self._unreachable(error) from None
            except httpx2.TransportError as error:
                if last or not safe:
                    raise self._unreachable(error) from None
            else:
                if response.status_code < 300:
                    return response
                problem = problem_of(response)
                stale = isinstance(problem, AuthRefused) and problem.code == ProblemCode.AUTH_STALE
                if stale and signed_too_early < self._attempts - 1:
                    # Signed before the broker's start and refused unread: any call may be made again, even if the
                    # tries were used up while the broker was away.
                    signed_too_early += 1
                    await self.sleep(self.backoff.delay(signed_too_early, chance=self.chance()))
                    continue
                if last or not safe or response.status_code not in BUSY:
                    raise problem
            await self.sleep(self.backoff.delay(attempt, chance=self.chance()))
            attempt += 1

    def chance(self) -> float:
        """A random number from 0 to 1, from this connection's entropy."""
        return random.Random(self.entropy(8)).random()  # noqa: S311 - jitter, not a secret

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        signed: bool,
        seconds: float,
    ) -> httpx2.Request:
        query = f"?{urlencode(params)}" if params else ""
        url = httpx2.URL(f"{self.url}{path}{query}")
        extra = dict(headers or {})
        if content:
            extra["Content-Type"] = "application/json"
        if signed:
            if self.key is None:
                raise ProfileInvalid(
                    "this call must be signed, and there is no key", hint="set LIGHTWORK_KEY_FILE"
                )
            extra["Authorization"] = sign_request(
                key=self.key,
                url=str(url),
                method=method,
                body=content,
                created_at=int(self.clock()),
                nonce=self.entropy(16).hex(),
            )
        timeout = httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS, read=seconds)
        return self._client.build_request(
            method, url, content=content or None, headers=extra, timeout=timeout
        )

    def _unreachable(self, error: httpx2.TransportError) -> BrokerUnreachable:
        return BrokerUnreachable(f"no answer from the broker at {self.url} ({type(error).__name__})")


def problem_of(response: httpx2.Response) -> BrokerProblem | BrokerAnswerInvalid | BrokerUnreachable:
    """Read an error answer: a problem document by its code, anything else by its status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        if response.status_code in BUSY:
            return BrokerUnreachable(f"the way to the broker answered with HTTP {response.status_code}")
        return BrokerAnswerInvalid(
            f"{response.request.method} {response.request.url.path}: HTTP {response.status_code}, no problem"
        )
    return ERROR_OF.get(problem.code, BrokerProblem)(problem)
