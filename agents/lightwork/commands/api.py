"""`lightwork api`: one signed call of the broker's API, as it is."""

from __future__ import annotations

import re
import secrets
import sys
import time
from typing import Annotated

import httpx2
import typer

from lightwork.commands.bodies import read_bytes
from lightwork.commands.screen import BrokerOption, ProfileOption, report
from lightwork.connection import CONNECT_SECONDS, problem_of
from lightwork.errors import BrokerUnreachable, LightworkError, ProfileInvalid
from lightwork.profile import Profile
from lightwork_contracts.signed.http_auth import sign_request

SILENCE_SECONDS = 90.0
"""Longer than any call of the API waits for something to happen."""


def api(
    method: Annotated[str, typer.Argument(help="GET, POST, PUT or DELETE.", metavar="METHOD")],
    path: Annotated[str, typer.Argument(help="As in /v1/jobs?role=provider", metavar="PATH")],
    body: Annotated[
        str, typer.Argument(help="JSON, @file, or - for standard input.", metavar="[JSON|@FILE|-]")
    ] = "",
    *,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="One more header; may be given often.", metavar="'NAME: VALUE'"),
    ] = None,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
) -> None:
    """Sign one call with this profile's key, send it, and print the answer as it comes.

    A refusal is printed too, as the problem document that it is; the exit code says which kind it was.
    Nothing is tried twice.
    """
    if not path.startswith("/"):
        raise typer.BadParameter(f"'{path}' is no path of the broker, as in /v1/jobs")
    if not re.fullmatch(r"[A-Za-z]+", method):
        raise typer.BadParameter(f"'{method}' is no HTTP method")
    content = read_bytes(body, name="the body")
    headers = dict(_header(text) for text in header or [])
    try:
        _call(method.upper(), path, content=content, headers=headers, broker=broker, profile=profile)
    except LightworkError as error:
        raise typer.Exit(report(error, as_json=False)) from None


def _call(
    method: str,
    path: str,
    *,
    content: bytes,
    headers: dict[str, str],
    broker: str | None,
    profile: str | None,
) -> None:
    chosen = Profile.load(name=profile)
    url = _url(broker or chosen.broker, path)
    if content:
        headers = {"Content-Type": "application/json", **headers}
    signature = sign_request(
        key=chosen.secret_key(),
        url=str(url),
        method=method,
        body=content,
        created_at=int(time.time()),
        nonce=secrets.token_hex(16),
    )
    timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    try:
        with (
            httpx2.Client(timeout=timeout, trust_env=False) as client,
            client.stream(
                method, url, content=content or None, headers={**headers, "Authorization": signature}
            ) as answer,
        ):
            _show(answer)
    except httpx2.TransportError as error:
        raise BrokerUnreachable(
            f"no answer from the broker at {url.scheme}://{url.netloc.decode()} ({type(error).__name__})"
        ) from None


def _url(broker: str, path: str) -> httpx2.URL:
    try:
        url = httpx2.URL(f"{broker.rstrip('/')}{path}")
    except httpx2.InvalidURL as error:
        raise typer.BadParameter(f"this is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ProfileInvalid(
            f"'{broker}' is no broker URL", hint="write it with its scheme, as in http://127.0.0.1:8402"
        )
    return url


def _show(answer: httpx2.Response) -> None:
    """Print the answer as it comes, a stream of events included.

    Raises:
        LightworkError: it is a refusal.
    """
    last = b""
    for piece in answer.iter_bytes() if answer.is_success else [answer.read()]:
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        last = piece or last
    if last and not last.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    if not answer.is_success:
        raise problem_of(answer)


def _header(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)", text)
    if found is None:
        raise typer.BadParameter(f"'{text}' is no header, as in 'Idempotency-Key: my-first-hire'")
    return found[1], found[2]
