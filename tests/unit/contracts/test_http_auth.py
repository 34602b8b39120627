"""Signed HTTP requests: one request, one signature, one use, within a minute."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence

import pytest

from lightwork_contracts.errors import AuthError
from lightwork_contracts.signed.event import SignedEvent, sign_event
from lightwork_contracts.signed.http_auth import RequestAuth, read_request_auth, sign_request
from lightwork_contracts.signed.keys import SecretKey

KEY = SecretKey.generate(bytes([3]) * 32)
URL = "http://127.0.0.1:8080/v1/quotes?limit=5"
NOW = 1_700_000_000
BODY = b'{"task":"echo"}'
GOOD_TAGS = (("u", URL), ("method", "POST"), ("payload", hashlib.sha256(BODY).hexdigest()))


def header(*, body: bytes = BODY, method: str = "POST", created_at: int = NOW, nonce: str = "n1") -> str:
    return sign_request(key=KEY, url=URL, method=method, body=body, created_at=created_at, nonce=nonce)


def crafted(tags: Sequence[Sequence[str]] = GOOD_TAGS, *, kind: int = 27235, content: str = "") -> str:
    return wrapped(sign_event(key=KEY, kind=kind, created_at=NOW, tags=tags, content=content))


def wrapped(event: SignedEvent) -> str:
    return f"Nostr {base64.b64encode(event.model_dump_json().encode()).decode()}"


def read(
    value: str | None, *, url: str = URL, method: str = "POST", body: bytes = BODY, now: int = NOW
) -> RequestAuth:
    return read_request_auth(value, url=url, method=method, body=body, now=now)


def refused(
    value: str | None, *, url: str = URL, method: str = "POST", body: bytes = BODY, now: int = NOW
) -> str:
    with pytest.raises(AuthError) as caught:
        read(value, url=url, method=method, body=body, now=now)
    return caught.value.code


def test_a_signed_request_tells_who_signed_it() -> None:
    auth = read(header())
    assert (auth.pubkey, auth.created_at) == (KEY.public, NOW)
    assert len(auth.event_id) == 64


def test_a_request_of_another_nostr_client_without_a_nonce_is_taken() -> None:
    assert read(crafted()).pubkey == KEY.public


def test_a_request_without_a_body_needs_no_payload() -> None:
    assert read(header(body=b"", method="get"), body=b"", method="GET").pubkey == KEY.public


def test_two_equal_requests_within_a_second_have_different_ids() -> None:
    assert read(header(nonce="a")).event_id != read(header(nonce="b")).event_id


@pytest.mark.parametrize("value", [None, "", "Basic abc", "Bearer abc", "L402 a:b"])
def test_a_request_without_a_nostr_header_is_refused(value: str | None) -> None:
    assert refused(value) == "auth_missing"


@pytest.mark.parametrize(
    "value",
    [
        "Nostr",
        "Nostr ",
        "Nostr !!!!",
        "Nostr é",
        "Nostr e30=",
        "Nostr bnVsbA==",
        "Nostr " + base64.b64encode(b"\xff").decode(),
        "Nostr " + base64.b64encode(b"[" * 3000).decode(),
        "Nostr " + "A" * 9000,
        header() + "A" * 9000,
        header()[:-20],
    ],
    ids=range(11),
)
def test_a_header_that_holds_no_event_is_refused(value: str) -> None:
    assert refused(value) == "auth_malformed"


@pytest.mark.parametrize(
    "tags",
    [
        GOOD_TAGS[1:],
        (GOOD_TAGS[0], GOOD_TAGS[2]),
        (*GOOD_TAGS, ("u", URL)),
        (*GOOD_TAGS, ("method", "GET")),
        (*GOOD_TAGS, ("payload", "00" * 32)),
    ],
    ids=["no u", "no method", "two u", "two method", "two payload"],
)
def test_an_event_that_says_a_thing_twice_or_not_at_all_is_refused(tags: Sequence[Sequence[str]]) -> None:
    assert refused(crafted(tags)) == "auth_malformed"


def test_an_event_with_content_is_refused() -> None:
    assert refused(crafted(content="x")) == "auth_malformed"


def test_an_event_of_another_kind_is_refused() -> None:
    assert refused(crafted(kind=1)) == "auth_kind"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8080/v1/quotes?limit=5",
        "http://127.0.0.1:8081/v1/quotes?limit=5",
        "http://localhost:8080/v1/quotes?limit=5",
        "http://127.0.0.1:8080/v1/jobs?limit=5",
        "http://127.0.0.1:8080/v1/quotes?limit=6",
        "http://127.0.0.1:8080/v1/quotes",
        "http://127.0.0.1:8080/v1/quotes?limit=5#",
    ],
)
def test_a_signature_for_another_url_is_refused(url: str) -> None:
    assert refused(header(), url=url) == "auth_url_mismatch"


def test_a_signature_for_another_method_is_refused() -> None:
    assert refused(header(), method="PUT") == "auth_method_mismatch"


def test_a_signature_for_another_body_is_refused() -> None:
    assert refused(header(), body=BODY + b" ") == "auth_payload_mismatch"
    assert refused(header(), body=b"") == "auth_payload_mismatch"
    assert refused(header(body=b"")) == "auth_payload_mismatch"


@pytest.mark.parametrize("age", [-61, 61, 10_000])
def test_a_signature_from_outside_the_window_is_refused(age: int) -> None:
    assert refused(header(), now=NOW + age) == "auth_stale"


@pytest.mark.parametrize("age", [-60, 0, 60])
def test_a_signature_at_the_edge_of_the_window_is_taken(age: int) -> None:
    assert read(header(), now=NOW + age).created_at == NOW


def test_a_signature_that_does_not_hold_is_refused() -> None:
    event = json.loads(base64.b64decode(header().removeprefix("Nostr ")))
    other = SecretKey.generate(bytes([4]) * 32)
    for change in ({"sig": "00" * 64}, {"pubkey": other.public}, {"id": "11" * 32}):
        assert (
            refused(wrapped(SignedEvent.model_validate_json(json.dumps(event | change)))) == "auth_signature"
        )


def test_a_request_is_checked_in_well_under_a_millisecond() -> None:
    value = header()
    best = min(_seconds(value) for _ in range(50))
    assert best < 0.001


def _seconds(value: str) -> float:
    started = time.perf_counter()
    read(value)
    return time.perf_counter() - started
