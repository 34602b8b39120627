"""The broker, with a note of each call that it makes to LND: the file CALLS gets a line for each. Run as a program."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
from e2e_crashing_broker import serve

CALLS = "RECORDED_CALLS"
PLAN = "CRASH_PLAN"


class _Notes:
    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, method: str | bytes) -> None:
        with self._file.open("a") as file:
            file.write(f"{method.decode() if isinstance(method, bytes) else method}\n")


class OneAnswer(_Notes, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        self.note(client_call_details.method)
        return await continuation(client_call_details, request)


class ManyAnswers(_Notes, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        self.note(client_call_details.method)
        return await continuation(client_call_details, request)


def main() -> None:
    file = Path(os.environ[CALLS])
    interceptors = [OneAnswer(file), ManyAnswers(file)]
    grpc.aio.secure_channel = partial(grpc.aio.secure_channel, interceptors=interceptors)
    asyncio.run(serve())


if __name__ == "__main__":
    sys.exit(main())
