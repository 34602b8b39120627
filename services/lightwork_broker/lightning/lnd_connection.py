"""One gRPC channel to one LND: TLS, macaroon, keepalive, deadlines; its files are read again on refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.lnd_errors import translate
from lightwork_broker.lightning.lnd_stubs import (
    LndStubs,
    Metadata,
    MethodSource,
    Stream,
    Streaming,
    Unary,
    bind,
)

Reply = TypeVar("Reply")

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
UNACKNOWLEDGED_MS: Final = 10_000
"""For how long what was sent may stay unacknowledged. gRPC makes it the socket's TCP_USER_TIMEOUT, too: the kernel then
ends a connection whose process is gone, so that a call of the dead does not arrive long after them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LndSettings:
    """Where a node is and what opens it. Times in seconds.

    `tls_name` is the name in the certificate where the address is another. `call_seconds` bounds each
    call with one answer. `pay_margin_seconds` is how long `pay` listens beyond LND's own time-out.
    `summary_seconds` is for how long what the node says of itself is used again: that is LND's dearest
    question, and a block comes every ten minutes.
    """

    address: str
    tls_cert: Path
    macaroon: Path
    tls_name: str | None = None
    call_seconds: float = 10.0
    pay_margin_seconds: float = 30.0
    block_poll_seconds: float = 1.0
    summary_seconds: float = 0.0
    max_parts: int = 16


class _Macaroon:
    """What opens the node, as the metadata of each call; it does not print itself.

    It is no call credential of the channel, for which gRPC would start a thread at every call. The channel
    speaks nothing but TLS with the node's own certificate.
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self.metadata: Metadata = (("macaroon", secret.hex()),)

    def __repr__(self) -> str:
        return "_Macaroon(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a macaroon is not copied or pickled")


class LndConnection:
    """The channel to one LND and every call on it. Make it inside the running event loop."""

    def __init__(self, settings: LndSettings) -> None:
        self.settings = settings
        self._cert = _read(settings.tls_cert)
        self._macaroon = _Macaroon(_read(settings.macaroon))
        self._channel = self._open()
        self._stubs = bind(cast(MethodSource, self._channel))

    def __repr__(self) -> str:
        return f"LndConnection({self.settings.address!r})"

    async def call(
        self, method: Callable[[LndStubs], Unary[Reply]], message: Message, *, seconds: float | None = None
    ) -> Reply:
        """Make a call with one answer; LND's errors come out in our words."""
        try:
            return await self.raw_call(method, message, seconds=seconds)
        except grpc.aio.AioRpcError as error:
            failure = translate(error)
        raise failure

    async def raw_call(
        self, method: Callable[[LndStubs], Unary[Reply]], message: Message, *, seconds: float | None = None
    ) -> Reply:
        """Make a call with one answer; LND's errors come out as gRPC's."""
        deadline = self.settings.call_seconds if seconds is None else seconds
        used = self._opened_with()
        try:
            with _closing_is_an_error():
                return await method(self._stubs)(message, timeout=deadline, metadata=self._macaroon.metadata)
        except grpc.aio.AioRpcError as error:
            if not await self._refresh(error, used):
                raise
        with _closing_is_an_error():
            return await method(self._stubs)(message, timeout=deadline, metadata=self._macaroon.metadata)

    async def stream(
        self,
        method: Callable[[LndStubs], Streaming[Reply]],
        message: Message,
        *,
        seconds: float | None = None,
    ) -> AsyncGenerator[Reply, None]:
        """Yield the answers of a streaming call; LND's errors come out as gRPC's. Leaving ends the call."""
        for attempt in range(2):
            used = self._opened_with()
            with _closing_is_an_error():
                answers: Stream[Reply] = method(self._stubs)(
                    message, timeout=seconds, metadata=self._macaroon.metadata
                )
            incoming = aiter(answers)
            heard = False
            try:
                while True:
                    with _closing_is_an_error():
                        answer = await anext(incoming)
                    heard = True
                    yield answer
            except StopAsyncIteration:
                return
            except grpc.aio.AioRpcError as error:
                if heard or attempt or not await self._refresh(error, used):
                    raise
            finally:
                answers.cancel()

    def _opened_with(self) -> tuple[bytes, bytes]:
        return self._cert, self._macaroon.secret

    async def _refresh(self, error: grpc.aio.AioRpcError, used: tuple[bytes, bytes]) -> bool:
        """Read the files again after a refusal of what was `used`; say whether to make the call once more.

        Only where the refused call cannot have been heard: a macaroon that LND does not take, or a
        handshake that failed.
        """
        if isinstance(translate(error), PermissionMissing):
            self._macaroon = _Macaroon(_read(self.settings.macaroon))
            return self._macaroon.secret != used[1]
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            cert = _read(self.settings.tls_cert)
            if cert != self._cert:
                self._cert = cert
                self._macaroon = _Macaroon(_read(self.settings.macaroon))
                stale, self._channel = self._channel, self._open()
                self._stubs = bind(cast(MethodSource, self._channel))
                await stale.close()
            return cert != used[0] and "handshake" in (error.details() or "").lower()
        return False

    async def close(self) -> None:
        """Close the channel and every stream on it."""
        await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        options: list[tuple[str, str | int]] = [
            ("grpc.keepalive_time_ms", 15_000),
            ("grpc.keepalive_timeout_ms", UNACKNOWLEDGED_MS),
            ("grpc.keepalive_permit_without_calls", 0),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # Two nodes on one address after each other must not share a connection.
            ("grpc.use_local_subchannel_pool", 1),
            # Never send anything twice behind our back.
            ("grpc.enable_retries", 0),
        ]
        if self.settings.tls_name is not None:
            options.append(("grpc.ssl_target_name_override", self.settings.tls_name))
        credentials = grpc.ssl_channel_credentials(root_certificates=self._cert)
        return grpc.aio.secure_channel(self.settings.address, credentials, options=options)


@contextmanager
def _closing_is_an_error() -> Generator[None, None, None]:
    """Turn what gRPC does to a call whose channel we close, a cancellation of its caller, into an error."""
    task = asyncio.current_task()
    try:
        yield
    except asyncio.CancelledError:
        if task is not None and task.cancelling():
            raise
    except grpc.aio.UsageError:
        pass
    else:
        return
    raise grpc.aio.AioRpcError(
        grpc.StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(), "we closed the connection"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LightningUnavailable(f"cannot read {path}: {error.strerror}") from None
