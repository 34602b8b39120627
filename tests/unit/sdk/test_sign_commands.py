"""`lightwork sign` and `lightwork api`: what a broker accepts from them, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightwork.exit_codes import ExitCode
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.errors import AuthCode, AuthError
from lightwork_contracts.ids import ListingId, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import sats
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import read_commitment
from lightwork_contracts.signed.http_auth import RequestAuth, read_request_auth
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, read_listing
from lightwork_contracts.wire.market import AnswerQuote, PublishListing, QuoteWork
from lightwork_contracts.wire.problems import ProblemCode

URL = "http://127.0.0.1:8402/v1/jobs?role=provider&limit=5"
LISTING = {
    "name": "echo",
    "description": "Return the text unchanged.",
    "agent_name": "echo",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}},
    "output_schema": {"type": "string"},
    "price": {"kind": "fixed", "msat": 10_000},
    "work_seconds": 60,
}
# 2,500 micro-BTC, from the examples of BOLT 11.
INVOICE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqw"
    "zqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w"
    "27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    return {"HOME": str(tmp_path), "LIGHTWORK_BROKER": "http://127.0.0.1:8402", "COLUMNS": "100"}


def lightwork(
    environment: Mapping[str, str], *words: str, given: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", "from lightwork.cli import main; main()", *words],
        env=dict(environment),
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
    )


def key_of(environment: Mapping[str, str]) -> SecretKey:
    return SecretKey.read(Path(environment["HOME"]) / ".config" / "lightwork" / "default.key")


def authorization(line: bytes) -> str:
    name, _, value = line.decode().strip().partition(": ")
    assert name == "Authorization"
    return value


def read(header: str, *, body: bytes = b"", method: str = "GET") -> RequestAuth:
    return read_request_auth(header, url=URL, method=method, body=body, now=int(time.time()))


def quote_work(mode: PaymentMode = PaymentMode.ESCROW, *, hashed: str | None = None) -> QuoteWork:
    return QuoteWork(
        quote_id=QuoteId("qte_" + "0" * 26),
        listing_id=ListingId("lst_" + "0" * 26),
        listing_version=3,
        task="echo",
        input={"text": "hi"},
        input_hash=hashed or input_hash({"text": "hi"}),
        answer_by=int(time.time()) + 10,
        mode=mode,
        invoice_expiry_seconds=600,
        max_final_cltv=144,
        deadline_seconds=60,
    )


def test_a_signed_request_is_accepted_for_its_url_method_and_key(environment: Mapping[str, str]) -> None:
    done = lightwork(environment, "sign", "request", "get", URL)
    assert done.returncode == 0, done.stderr
    assert read(authorization(done.stdout)).pubkey == key_of(environment).public


def test_two_signatures_of_one_request_are_two_events(environment: Mapping[str, str]) -> None:
    headers = [authorization(lightwork(environment, "sign", "request", "GET", URL).stdout) for _ in range(2)]
    assert read(headers[0]).event_id != read(headers[1]).event_id


@pytest.mark.parametrize("way", ["text", "file", "standard input"])
def test_the_signature_is_of_the_bodys_bytes_however_it_is_given(
    environment: Mapping[str, str], tmp_path: Path, way: str
) -> None:
    body = '{"text": "ü"}\n'.encode()
    (tmp_path / "body.json").write_bytes(body)
    given = {"text": body.decode(), "file": f"@{tmp_path / 'body.json'}", "standard input": "-"}[way]
    done = lightwork(environment, "sign", "request", "POST", URL, "--body", given, given=body)
    header = authorization(done.stdout)
    assert read(header, body=body, method="POST").pubkey == key_of(environment).public
    with pytest.raises(AuthError) as refused:
        read(header, body=body.strip(), method="POST")
    assert refused.value.code == AuthCode.PAYLOAD_MISMATCH


def test_a_signed_listing_is_a_body_with_every_default_written_out(environment: Mapping[str, str]) -> None:
    done = lightwork(environment, "sign", "listing", "-", given=json.dumps(LISTING).encode())
    assert done.returncode == 0, done.stderr
    signer, content = read_listing(PublishListing.model_validate_json(done.stdout).event)
    assert signer == key_of(environment).public
    assert content.price == FixedPrice(msat=sats(10))
    assert (content.name, content.review_seconds, content.mode) == ("echo", 0, PaymentMode.ESCROW)


def test_a_commitment_says_what_the_invoice_and_the_quote_say(environment: Mapping[str, str]) -> None:
    work = quote_work().model_dump_json().encode()
    done = lightwork(environment, "sign", "commitment", "-", "--invoice", INVOICE.upper(), given=work)
    assert done.returncode == 0, done.stderr
    signer, said = read_commitment(AnswerQuote.model_validate_json(done.stdout).commitment)
    assert signer == key_of(environment).public
    assert (said.price_msat, said.invoice) == (250_000_000, INVOICE)
    assert said.payment_hash == read_invoice(INVOICE).payment_hash
    assert (said.listing_version, said.input_hash) == (3, input_hash({"text": "hi"}))


def test_a_commitment_in_credit_mode_has_a_price_and_no_invoice(environment: Mapping[str, str]) -> None:
    work = quote_work(PaymentMode.CREDIT).model_dump_json().encode()
    done = lightwork(environment, "sign", "commitment", "-", "--price-msat", "10000", given=work)
    assert done.returncode == 0, done.stderr
    _, said = read_commitment(AnswerQuote.model_validate_json(done.stdout).commitment)
    assert (said.price_msat, said.invoice, said.mode) == (10_000, None, PaymentMode.CREDIT)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        (PaymentMode.ESCROW, ["--price-msat", "10000"]),
        (PaymentMode.ESCROW, []),
        (PaymentMode.CREDIT, ["--invoice", INVOICE]),
        (PaymentMode.ESCROW, ["--invoice", "lnbc1nonsense"]),
    ],
)
def test_a_commitment_in_another_mode_than_was_asked_for_is_wrong_usage(
    environment: Mapping[str, str], mode: PaymentMode, options: list[str]
) -> None:
    work = quote_work(mode).model_dump_json().encode()
    done = lightwork(environment, "sign", "commitment", "-", *options, given=work)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert b"Traceback" not in done.stderr


def test_a_quote_with_a_hash_of_another_input_is_not_signed(environment: Mapping[str, str]) -> None:
    work = quote_work(hashed=input_hash({"text": "something else"})).model_dump_json().encode()
    done = lightwork(environment, "sign", "commitment", "-", "--invoice", INVOICE, given=work)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert b"input_hash" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["sign", "request", "GET", "/v1/jobs"],
        ["sign", "request", "GET\r\n", URL],
        ["sign", "request", "POST", URL, "--body", "@/no/such/file"],
        ["sign", "listing", "{}"],
        ["sign", "listing", '{"name": "Echo!"}'],
        ["sign", "commitment", "[]"],
        ["api", "GET", "v1/jobs"],
        ["api", "GET", "/v1/jobs", "-H", "no header"],
        ["api", "GET", "/v1/jobs", "-H", "A: b\r\nC: d"],
        ["api", "G T", "/v1/jobs"],
        ["api", "GET", "/v1/jobs", "--broker", "127.0.0.1:8402"],
    ],
)
def test_what_cannot_be_signed_or_sent_is_exit_code_2_without_a_traceback(
    environment: Mapping[str, str], words: list[str]
) -> None:
    done = lightwork(environment, *words)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, b"")
    assert b"Traceback" not in done.stderr


class Answering(BaseHTTPRequestHandler):
    """A broker that says for its part what it was asked, or refuses."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        server = self.server
        assert isinstance(server, Broker)
        auth = read_request_auth(
            self.headers["Authorization"],
            url=f"http://127.0.0.1:{server.server_port}{self.path}",
            method=self.command,
            body=body,
            now=int(time.time()),
        )
        code = server.refuses_with
        if code is None:
            told = {"pubkey": auth.pubkey, "key": self.headers["Idempotency-Key"], "body": json.loads(body)}
        else:
            told = {"type": f"urn:{code}", "title": "No", "status": 400, "code": code, "detail": "because"}
        content = json.dumps(told).encode()
        self.send_response(200 if code is None else 400)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return None


class Broker(ThreadingHTTPServer):
    refuses_with: ProblemCode | None = None


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_call_is_signed_sent_with_its_headers_and_its_answer_printed(
    environment: Mapping[str, str], broker: Broker
) -> None:
    done = lightwork(
        environment,
        *("api", "post", "/v1/quotes?x=%20y", "-", "-H", "Idempotency-Key: twelve-letters"),
        *("--broker", f"http://127.0.0.1:{broker.server_port}/"),
        given=b'{"task": "echo"}',
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {
        "pubkey": key_of(environment).public,
        "key": "twelve-letters",
        "body": {"task": "echo"},
    }


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (ProblemCode.NOT_FOUND, ExitCode.NOT_FOUND),
        (ProblemCode.PRICE_ABOVE_MAX, ExitCode.NOT_PAID),
        (ProblemCode.PROVIDER_OFFLINE, ExitCode.NOT_FOUND),
        (ProblemCode.AUTH_STALE, ExitCode.REFUSED),
        (ProblemCode.WRONG_STATUS, ExitCode.REFUSED),
    ],
)
def test_a_refusal_is_printed_whole_and_gives_the_exit_code_of_its_kind(
    environment: Mapping[str, str], broker: Broker, code: ProblemCode, exit_code: ExitCode
) -> None:
    broker.refuses_with = code
    url = f"http://127.0.0.1:{broker.server_port}"
    done = lightwork(environment, "api", "POST", "/v1/quotes", "{}", "--broker", url)
    assert done.returncode == exit_code
    assert json.loads(done.stdout)["code"] == code
    assert b"because" in done.stderr


def test_a_broker_that_is_not_there_is_exit_code_5(environment: Mapping[str, str], broker: Broker) -> None:
    url = f"http://127.0.0.1:{broker.server_port}"
    broker.shutdown()
    broker.server_close()
    done = lightwork(environment, "api", "GET", "/v1/info", "--broker", url)
    assert (done.returncode, done.stdout) == (ExitCode.BROKER_UNREACHABLE, b"")
