"""Signed HTTP requests (NIP-98), with the payload hash required and a nonce of our own."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from pydantic import ValidationError

from lightwork_contracts.errors import AuthCode, AuthError, EventError
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.signed.event import SignedEvent, sign_event, verify_event
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.kinds import HTTP_AUTH

SCHEME = "Nostr"
MAX_HEADER_CHARACTERS = 8 * 1024
WINDOW_SECONDS = 60


@dataclass(frozen=True, slots=True)
class RequestAuth:
    """Who signed a request. `event_id` must still be claimed from the `ReplayGuard`."""

    pubkey: Pubkey
    event_id: str
    created_at: int


def sign_request(*, key: SecretKey, url: str, method: str, body: bytes, created_at: int, nonce: str) -> str:
    """Return the value of the Authorization header for one request.

    Args:
        url: exactly what is requested: scheme, host, port if written, path and query.
        created_at: Unix seconds.
        nonce: fresh for every request, so that two equal requests within a second differ.
    """
    tags = [["u", url], ["method", method.upper()]]
    if body:
        tags.append(["payload", hashlib.sha256(body).hexdigest()])
    tags.append(["nonce", nonce])
    event = sign_event(key=key, kind=HTTP_AUTH, created_at=created_at, tags=tags, content="")
    return f"{SCHEME} {base64.b64encode(event.model_dump_json().encode()).decode()}"


def read_request_auth(
    header: str | None,
    *,
    url: str,
    method: str,
    body: bytes,
    now: int,
    window_seconds: int = WINDOW_SECONDS,
) -> RequestAuth:
    """Return who signed this request. Every cheap check comes before the signature's.

    Args:
        url: as the caller must have written it (behind a proxy: the public one).
        now: Unix seconds.
        window_seconds: how far `created_at` may be from `now`, before or after.

    Raises:
        AuthError: with the code of the first thing that is wrong.
    """
    event = _parse(header)
    if event.kind != HTTP_AUTH:
        raise AuthError(AuthCode.KIND, f"the event has kind {event.kind}, not {int(HTTP_AUTH)}")
    if _single(event, "u") != url:
        raise AuthError(AuthCode.URL_MISMATCH, f"the signature is for another URL than {url}")
    if _single(event, "method") != method.upper():
        raise AuthError(
            AuthCode.METHOD_MISMATCH, f"the signature is for another method than {method.upper()}"
        )
    _check_payload(event, body)
    if abs(now - event.created_at) > window_seconds:
        raise AuthError(
            AuthCode.STALE,
            f"signed {now - event.created_at} s ago, at most {window_seconds} s are allowed: check the clock",
        )
    try:
        pubkey = verify_event(event)
    except EventError as error:
        raise AuthError(AuthCode.SIGNATURE, error.message) from None
    return RequestAuth(pubkey=pubkey, event_id=event.id, created_at=event.created_at)


def _parse(header: str | None) -> SignedEvent:
    if not header:
        raise AuthError(AuthCode.MISSING, f"the request has no Authorization: {SCHEME} header")
    if len(header) > MAX_HEADER_CHARACTERS:
        raise AuthError(AuthCode.MALFORMED, f"the header is longer than {MAX_HEADER_CHARACTERS} characters")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise AuthError(AuthCode.MISSING, f"the Authorization header has another scheme than {SCHEME}")
    try:
        data = base64.b64decode(token.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise AuthError(AuthCode.MALFORMED, "the header does not hold base64") from None
    try:
        event = SignedEvent.model_validate_json(data)
    except ValidationError:
        raise AuthError(AuthCode.MALFORMED, "the header does not hold a signed Nostr event") from None
    if event.content:
        raise AuthError(AuthCode.MALFORMED, "the content of an HTTP auth event is empty")
    return event


def _single(event: SignedEvent, name: str) -> str:
    values = event.tag_values(name)
    if len(values) != 1:
        raise AuthError(AuthCode.MALFORMED, f"the event has {len(values)} tags {name}, not one")
    return values[0]


def _check_payload(event: SignedEvent, body: bytes) -> None:
    stated = event.tag_values("payload")
    if len(stated) > 1:
        raise AuthError(AuthCode.MALFORMED, "the event has several tags payload")
    if not stated and not body:
        return
    if not stated or stated[0] != hashlib.sha256(body).hexdigest():
        raise AuthError(AuthCode.PAYLOAD_MISMATCH, "the signature is not for this body")
