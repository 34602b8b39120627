"""Every answer that the process's HTTP clients receive, handed to the search when its body has been read."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

import httpx2
from secret_search.search import SEARCH, Kind, SecretSearch

SIMULATED = "/simulated/"
_listening: list[bool] = []


class _Heard:
    """One answer, as far as it was read."""

    def __init__(self, response: httpx2.Response, search: SecretSearch) -> None:
        self._response = response
        self._search = search
        self._parts: list[bytes] = []

    def part(self, part: bytes) -> None:
        self._parts.append(part)

    def over(self) -> None:
        """Hand on what was read, once."""
        parts, self._parts = self._parts, []
        response = self._response
        request, headers = response.request, response.headers
        body = b"".join(parts).decode(errors="replace")
        authorization = request.headers.get("authorization", "")
        if authorization.startswith("Basic "):
            return  # bitcoind's
        macaroon = request.headers.get("grpc-metadata-macaroon")
        if macaroon is not None:
            self._search.add(Kind.MACAROON, bytes.fromhex(macaroon))
        if macaroon is not None or request.url.path.startswith(SIMULATED):
            self._search.from_a_node(body)
            return
        where = f"the answer {response.status_code} to {request.method} {request.url.path}"
        asker = asker_of(authorization)
        if headers:
            self._search.answer(f"the headers of {where}", "\n".join(f"{k}: {v}" for k, v in headers.items()))
        created = request.url.path if request.method == "POST" and response.is_success else None
        self._search.answer(where, body, asker=asker, created=created)


class _Listened(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, heard: _Heard) -> None:
        self._inner, self._heard = inner, heard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._heard.part(part)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._heard.over()


class _ListenedInTurn(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, heard: _Heard) -> None:
        self._inner, self._heard = inner, heard

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            self._heard.part(part)
            yield part

    def close(self) -> None:
        self._inner.close()
        self._heard.over()


def listen(search: SecretSearch = SEARCH) -> None:
    """From now on, let each HTTP client of this process report; what a stand-in answers is nobody's answer."""
    if _listening:
        return
    _listening.append(True)

    async def heard(response: httpx2.Response) -> None:
        response.stream = _Listened(response.stream, _Heard(response, search))  # type: ignore[arg-type]

    def heard_in_turn(response: httpx2.Response) -> None:
        response.stream = _ListenedInTurn(response.stream, _Heard(response, search))  # type: ignore[arg-type]

    httpx2.AsyncClient.__init__ = _with_hook(httpx2.AsyncClient.__init__, heard)
    httpx2.Client.__init__ = _with_hook(httpx2.Client.__init__, heard_in_turn)


def _with_hook(make: Callable[..., None], hook: Callable[..., Any]) -> Callable[..., None]:
    @wraps(make)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if not isinstance(kwargs.get("transport"), httpx2.MockTransport):
            hooks = self.event_hooks
            self.event_hooks = {**hooks, "response": [hook, *hooks.get("response", [])]}

    return made


def asker_of(authorization: str) -> str | None:
    """Return the key that signed a request, or None if none did."""
    kind, _, token = authorization.partition(" ")
    if kind != "Nostr":
        return None
    try:
        return str(json.loads(base64.b64decode(token + "=" * (-len(token) % 4)))["pubkey"])
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return None
