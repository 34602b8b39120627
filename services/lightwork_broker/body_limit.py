"""Bodies that are too large: refused as everything else is, by what they declare or as soon as they are."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightwork_broker.problems import problem
from lightwork_contracts.wire.problems import ProblemCode


class BodyLimit:
    """Never reads more than `max_bytes` of a request. FastAPI's own limit answers in plain text."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"a request has at most {self._max_bytes} bytes"
        if _declared(scope) > self._max_bytes:
            answer = problem(ProblemCode.BODY_TOO_LARGE, detail, instance=scope["path"])
            await answer(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, counted, send)


def _declared(scope: Scope) -> int:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    stated = next((value for name, value in headers if name == b"content-length"), b"0")
    return int(stated) if stated.isdigit() else 0
