"""Raw signed HTTP, for what the SDK would never send. Every answer is kept, to be searched for secrets."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping

import httpx2
from pydantic import JsonValue
from secret_search.search import SEARCH, Kind

from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.problems import Problem, ProblemCode


def new_key() -> SecretKey:
    """Return a fresh key, which the search at the end of the run looks for."""
    entropy = secrets.token_bytes(32)
    SEARCH.add(Kind.KEY, entropy)
    return SecretKey.generate(entropy)


class SignedClient:
    """One key at one broker. Paths are given with their query, as they are signed."""

    def __init__(self, url: str, *, key: SecretKey | None = None) -> None:
        self.url = url
        self.key = key or new_key()
        self.http = httpx2.AsyncClient(trust_env=False, timeout=httpx2.Timeout(70))
        self.heard: list[str] = []

    async def close(self) -> None:
        await self.http.aclose()

    def sign(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        created_at: int | None = None,
        nonce: str | None = None,
    ) -> str:
        """Return the Authorization header for one request."""
        return sign_request(
            key=self.key,
            url=self.url + path,
            method=method,
            body=body,
            created_at=int(time.time()) if created_at is None else created_at,
            nonce=nonce or secrets.token_hex(8),
        )

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, JsonValue] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        content = b"" if body is None else json.dumps(body).encode()
        return await self.raw(
            method,
            path,
            content,
            headers={"Authorization": self.sign(method, path, content), **(headers or {})},
        )

    async def raw(
        self, method: str, path: str, content: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send exactly this; nothing is signed here."""
        response = await self.http.request(
            method,
            self.url + path,
            content=content or None,
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        self.heard.append(response.text)
        return response

    async def get(self, path: str) -> dict[str, JsonValue]:
        return accepted(await self.call("GET", path))

    async def post(
        self,
        path: str,
        body: Mapping[str, JsonValue] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, JsonValue]:
        return accepted(await self.call("POST", path, body, headers=headers))


def accepted(response: httpx2.Response) -> dict[str, JsonValue]:
    """Return the answer of a call that must succeed."""
    assert response.status_code < 300, f"{response.request.url}: {response.status_code} {response.text}"
    return response.json() if response.content else {}


def refused(response: httpx2.Response, code: ProblemCode, *, status: int) -> Problem:
    """Return the problem of a call that must be refused, in the form that RFC 9457 asks for."""
    assert response.status_code >= 400, f"{response.request.url} was accepted: {response.text}"
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = Problem.model_validate_json(response.content)
    assert (problem.code, response.status_code) == (code.value, status), response.text
    assert problem.status == status
    assert problem.type == f"urn:lightwork:problem:{code}"
    assert problem.detail
    return problem
