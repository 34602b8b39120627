"""HTTP to an ASGI application in this process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx2

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""As the ASGI specification has it."""


class _Body(httpx2.AsyncByteStream):
    """The parts of an answer as the application sends them; closing it tells the application that nobody listens."""

    def __init__(
        self, parts: asyncio.Queue[bytes | None], gone: asyncio.Event, serving: asyncio.Task[None]
    ) -> None:
        self._parts = parts
        self._gone = gone
        self._serving = serving

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            yield part

    async def aclose(self) -> None:
        self._gone.set()
        await asyncio.wait({self._serving})


class StreamingTransport(httpx2.AsyncBaseTransport):
    """Requests to an ASGI application in this loop, whose answers arrive part by part, as streams of events must."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        begun: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        gone = asyncio.Event()
        asked = iter(({"type": "http.request", "body": body, "more_body": False},))

        async def receive() -> Message:
            if (message := next(asked, None)) is not None:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.set_result(message)
            elif message["type"] == "http.response.body":
                if part := message.get("body", b""):
                    parts.put_nowait(part)
                if not message.get("more_body", False):
                    parts.put_nowait(None)

        async def serve() -> None:
            try:
                await self._application(_scope(request), receive, send)
            except Exception as error:
                if begun.done():
                    raise
                begun.set_exception(error)
            finally:
                parts.put_nowait(None)

        serving = asyncio.create_task(serve(), name=f"{request.method} {request.url.path}")
        try:
            start = await begun
        except asyncio.CancelledError:
            gone.set()
            serving.cancel()
            raise
        return httpx2.Response(
            start["status"], headers=start["headers"], stream=_Body(parts, gone, serving), request=request
        )


def _scope(request: httpx2.Request) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
