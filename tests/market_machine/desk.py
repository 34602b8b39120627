"""Signed requests to the broker's HTTP API, in this process. Each answer is a result or a problem of ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from kill_matrix.process import Gone
from market_machine.clocks import WallClock
from market_machine.house import House

from lightwork_broker.problems import HTTP
from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.problems import ProblemCode

ORIGIN = "http://127.0.0.1:8402"
UNSIGNED = "/v1/listings"
CODES = {code.value: status for code, (status, _) in HTTP.items()}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` 0: the broker died, or was not there. `code` is that of a refusal."""

    status: int
    body: Any = None
    code: str | None = None

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


GONE = Reply(0)


@dataclass
class Desk:
    """Where everybody's requests pass. `told` is all that was answered since it was last read."""

    house: House
    clock: WallClock
    breaches: list[str] = field(default_factory=list[str])
    told: list[str] = field(default_factory=list[str])
    codes: set[str] = field(default_factory=set[str])
    _nonce: int = 0
    _last: tuple[str, str, dict[str, str], bytes] | None = None
    """The newest signed request that was answered well: method, path, headers and body."""
    _memory: tuple[int, int] = (0, 0)

    async def ask(
        self, key: SecretKey, method: str, path: str, body: object = None, *, repeat_key: str | None = None
    ) -> Reply:
        """Send one signed request to whichever broker runs."""
        self._nonce += 1
        content = b"" if body is None else json.dumps(body).encode()
        headers = {
            "host": ORIGIN.split("//")[1],
            "content-type": "application/json",
            "content-length": str(len(content)),
            "authorization": sign_request(
                key=key,
                url=ORIGIN + path,
                method=method,
                body=content,
                created_at=int(self.clock.now()),
                nonce=hashlib.sha256(str(self._nonce).encode()).hexdigest()[:32],
            ),
        }
        if repeat_key is not None:
            headers["idempotency-key"] = repeat_key
        reply = await self._send(method, path, headers, content)
        if reply.is_good and not (method == "GET" and path.startswith(UNSIGNED)):
            self._last = method, path, headers, content
            self._memory = self._memory_now()
        return reply

    async def again(self) -> None:
        """Send a request that was taken once more, as one who has overheard it: no broker takes it."""
        if self._last is not None and self._memory == self._memory_now():
            self._nonce += 1
            if (await self._send(*self._last)).is_good:
                self.breaches.append("I24 a signed request was good for two")

    def _memory_now(self) -> tuple[int, int]:
        """Return what changes when a signed request may be forgotten: by an older database, or, where brokers do not
        write it down, by a start within the second in which it was signed.
        """
        return self.house.restored, self.house.starts if self.house.books.brokers == 1 else 0

    async def _send(self, method: str, path: str, headers: dict[str, str], content: bytes) -> Reply:
        process = self.house.serving(self._nonce)
        if process is None:
            return GONE
        try:
            status, text = await process.ask(
                lambda _: _exchange(process.app, method=method, path=path, headers=headers, content=content)
            )
        except Gone:
            return GONE
        return self._read(status, text, what=f"{method} {path.split('?')[0]}")

    def _read(self, status: int, text: str, *, what: str) -> Reply:
        self.told.append(text)
        try:
            body = json.loads(text) if text else None
        except ValueError:
            self.breaches.append(f"{what} was answered with {status} and no JSON: {text[:200]}")
            return Reply(status)
        if 200 <= status < 300:
            return Reply(status, body)
        code = body.get("code") if isinstance(body, dict) else None
        if code == ProblemCode.INTERNAL or CODES.get(str(code)) != status:
            self.breaches.append(f"{what} was answered with {status}: {text[:400]}")
        self.codes.add(str(code))
        return Reply(status, body, code)


async def _exchange(
    app: FastAPI, *, method: str, path: str, headers: Mapping[str, str], content: bytes
) -> tuple[int, str]:
    """Let the application serve one request; return status and body."""
    target, _, query = path.partition("?")
    parts: list[bytes] = []
    status = 0
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays until it has its answer
        asked = True
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8402),
    }
    try:
        await app(scope, receive, send)
    except Exception:
        if status != 500:  # what the application did not foresee is answered first, and then raised
            raise
    return status, b"".join(parts).decode()
