"""The search for secrets: whatever is planted is found, and what an owner is due is not taken for a leak."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import pytest
from secret_search.harvest import sweep
from secret_search.listening import asker_of
from secret_search.search import Finding, Kind, SecretSearch

from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.signed.keys import SecretKey

PLAIN = bytes(set(range(256)) - set(b"'\"\\"))
"""In JSON a quote within a text is written otherwise, so what is planted has none."""


def _drawn(size: int) -> bytes:
    return bytes(secrets.choice(PLAIN) for _ in range(size))


KEY = _drawn(32)
PREIMAGE = _drawn(32)
HASH = hashlib.sha256(PREIMAGE).hexdigest()
MACAROON = b"\x02\x01\x03lnd\x02\xf8\x01" + _drawn(200)
WEBHOOK = _drawn(32)
PASSWORD = secrets.token_urlsafe(18)
TOKEN = sign_request(
    key=SecretKey.generate(KEY), url="http://x/", method="GET", body=b"", created_at=1, nonce="0" * 16
)
PLANTED = [
    pytest.param(Kind.PREIMAGE, PREIMAGE.hex(), id="preimage in hex"),
    pytest.param(Kind.PREIMAGE, PREIMAGE.hex().upper(), id="preimage in capitals"),
    pytest.param(Kind.PREIMAGE, base64.b64encode(PREIMAGE).decode(), id="preimage in base64"),
    pytest.param(Kind.PREIMAGE, base64.urlsafe_b64encode(PREIMAGE).decode(), id="preimage in a URL's base64"),
    pytest.param(Kind.PREIMAGE, repr(PREIMAGE), id="preimage as bytes"),
    pytest.param(Kind.KEY, KEY.hex(), id="key"),
    pytest.param(Kind.KEY, "ab" + KEY.hex() + "cd", id="key in a longer dump"),
    pytest.param(Kind.MACAROON, MACAROON.hex(), id="macaroon in hex"),
    pytest.param(Kind.MACAROON, MACAROON.hex()[:60], id="the beginning of a macaroon"),
    pytest.param(Kind.MACAROON, MACAROON.hex()[-100:], id="the end of a macaroon"),
    pytest.param(Kind.MACAROON, base64.b64encode(MACAROON).decode(), id="macaroon in base64"),
    pytest.param(Kind.MACAROON, repr(MACAROON), id="macaroon as bytes"),
    pytest.param(Kind.WEBHOOK, "whsec_" + base64.b64encode(WEBHOOK).decode(), id="webhook secret"),
    pytest.param(Kind.WEBHOOK, WEBHOOK.hex(), id="webhook secret in hex"),
    pytest.param(Kind.PASSWORD, f"connecting as x with {PASSWORD} now", id="password"),
    pytest.param(Kind.PASSWORD, "postgresql://me:hunter2@db.example/x", id="password in a URL"),
    pytest.param(Kind.SIGNED_REQUEST, f"authorization={TOKEN}", id="signed request"),
]


@pytest.fixture
def search() -> SecretSearch:
    """A search that was told of each secret but the preimage, whose hash it has seen."""
    made = SecretSearch()
    made.add(Kind.KEY, KEY)
    made.add(Kind.MACAROON, MACAROON)
    made.add(Kind.WEBHOOK, WEBHOOK)
    made.add(Kind.PASSWORD, PASSWORD)
    made.answer("a quote", json.dumps({"payment_hash": HASH}))
    return made


@pytest.mark.parametrize(("kind", "text"), PLANTED)
def test_a_secret_in_a_log_is_found(search: SecretSearch, kind: Kind, text: str) -> None:
    search.log("broker.log", f"2026-01-01 [info] something secret={text} job=1")
    assert Finding(kind, "broker.log") in search.findings()
    assert text not in str(search.findings())
    assert "FOUND" in search.summary()


@pytest.mark.parametrize(("kind", "text"), PLANTED)
def test_a_secret_in_an_answer_is_found(search: SecretSearch, kind: Kind, text: str) -> None:
    search.answer("GET /", json.dumps({"detail": f"an error: {text}"}).replace("\\\\", "\\"))
    assert Finding(kind, "GET /") in search.findings()


def test_a_hash_that_is_seen_after_the_preimage_gives_it_away_all_the_same() -> None:
    search = SecretSearch()
    search.log("broker.log", f"paid with {PREIMAGE.hex()}")
    assert search.findings() == []
    search.answer("a quote", json.dumps({"payment_hash": HASH}))
    assert search.findings() == [Finding(Kind.PREIMAGE, "broker.log")]


def job(status: str) -> str:
    return json.dumps({"id": "job_1", "status": status, "payment_hash": HASH, "preimage": PREIMAGE.hex()})


def test_the_buyer_of_a_settled_job_is_due_its_preimage() -> None:
    search = SecretSearch()
    search.answer("POST /v1/jobs", json.dumps({"id": "job_1"}), asker="buyer", created="/v1/jobs")
    search.answer("GET /v1/jobs/job_1", job("settled"), asker="buyer")
    assert search.findings() == []
    assert search.secrets == 1
    search.log("broker.log", PREIMAGE.hex())
    assert search.findings() == [Finding(Kind.PREIMAGE, "broker.log")]


@pytest.mark.parametrize("status", ["funded", "delivered", "releasing", "refunded", "paying"])
def test_nobody_is_due_a_preimage_before_the_settlement(status: str) -> None:
    search = SecretSearch()
    search.answer("GET /v1/jobs/job_1", job(status), asker="buyer")
    assert search.findings() == [Finding(Kind.PREIMAGE, "GET /v1/jobs/job_1")]


def test_nobody_but_the_buyer_is_due_it_after_the_settlement() -> None:
    search = SecretSearch()
    search.answer("POST /v1/jobs", json.dumps({"id": "job_1"}), asker="buyer", created="/v1/jobs")
    search.answer("GET /v1/jobs/job_1", job("settled"), asker="provider")
    assert [finding.kind for finding in search.findings()] == [Kind.PREIMAGE]


def test_a_preimage_that_is_due_is_found_where_it_stands_a_second_time() -> None:
    search = SecretSearch()
    twice = json.dumps({**json.loads(job("settled")), "detail": PREIMAGE.hex()})
    search.answer("GET /v1/jobs/job_1", twice, asker="buyer")
    assert search.findings() == [Finding(Kind.PREIMAGE, "GET /v1/jobs/job_1")]


def test_a_webhooks_secret_is_due_once_to_whoever_adds_it() -> None:
    search = SecretSearch()
    added = json.dumps({"id": "whk_1", "secret": "whsec_" + base64.b64encode(WEBHOOK).decode()})
    search.answer("POST /v1/webhooks", added, asker="owner", created="/v1/webhooks")
    assert search.findings() == []
    search.answer("GET /v1/webhooks", added, asker="owner")
    assert {finding.where for finding in search.findings()} == {"GET /v1/webhooks"}


def test_what_a_node_tells_its_owner_is_looked_for_and_not_found_fault_with() -> None:
    search = SecretSearch()
    search.from_a_node(json.dumps({"payment_preimage": PREIMAGE.hex(), "payment_hash": HASH}))
    search.from_a_node(json.dumps({"r_preimage": base64.b64encode(KEY).decode()}))
    assert (search.findings(), search.secrets) == ([], 2)
    search.log("broker.log", KEY.hex())
    assert search.findings() == [Finding(Kind.PREIMAGE, "broker.log")]


def test_the_zeros_that_stand_for_a_preimage_not_yet_known_are_no_secret() -> None:
    search = SecretSearch()
    search.from_a_node(json.dumps({"payment_preimage": "00" * 32}))
    search.from_a_node(json.dumps({"r_preimage": base64.b64encode(bytes(32)).decode()}))
    search.log("bitcoind.log", "hashAssumeValid=" + "00" * 32)
    assert (search.findings(), search.secrets) == ([], 0)


def test_a_hash_a_signature_and_a_public_key_are_nothing_secret(search: SecretSearch) -> None:
    key = SecretKey.generate(KEY)
    shown = {"hash": HASH, "pubkey": key.public, "sig": key.sign(bytes(32)).hex()}
    search.answer("GET /", json.dumps(shown))
    search.log("broker.log", f"node={'02' + HASH} url=postgresql://me:***@db.example/x")
    assert search.findings() == []


def test_a_folder_gives_its_logs_its_keys_its_macaroons_and_what_is_in_its_database() -> None:
    with TemporaryDirectory() as name:  # not of pytest: what is planted must be gone at the end of the run
        folder = Path(name)
        (folder / "lnd").mkdir()
        (folder / "broker.key").write_text(KEY.hex() + "\n")
        (folder / "lnd" / "admin.macaroon").write_bytes(MACAROON)
        (folder / "lnd" / "lnd.conf").write_text(f"bitcoind.rpcuser=x\nbitcoind.rpcpass={PASSWORD}\n")
        with closing(sqlite3.connect(folder / "broker.sqlite", isolation_level=None)) as database:
            database.execute("CREATE TABLE job (preimage)")
            database.execute("INSERT INTO job VALUES (?)", (PREIMAGE.hex(),))
        (folder / "broker.log").write_text(f"{KEY.hex()} {PREIMAGE.hex()} {PASSWORD}")
        (folder / "lnd" / "lnd.log.1").write_text(MACAROON.hex())
        search = SecretSearch()
        sweep(folder, search)
        sweep(folder, search)
        assert (search.logs, search.secrets) == (2, 4)
        found = {(finding.kind, Path(finding.where).name) for finding in search.findings()}
        assert found == {
            (Kind.KEY, "broker.log"),
            (Kind.PREIMAGE, "broker.log"),
            (Kind.PASSWORD, "broker.log"),
            (Kind.MACAROON, "lnd.log.1"),
        }


def test_whoever_signed_a_request_is_known_and_whoever_did_not_is_nobody() -> None:
    assert asker_of(TOKEN) == SecretKey.generate(KEY).public
    for other in ("", "Nostr", "Nostr !!", "Basic eDp5", "Nostr bm8="):
        assert asker_of(other) is None


async def test_each_client_of_the_process_is_listened_to() -> None:
    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-told", b"1")]})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b"heard"})  # type: ignore[operator]

    from secret_search.search import SEARCH

    before = SEARCH.answers
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:  # type: ignore[arg-type]
        assert (await client.get("/")).text == "heard"
        async with client.stream("GET", "/") as response:
            assert [part async for part in response.aiter_text()] == ["heard"]
    assert SEARCH.answers == before + 4
