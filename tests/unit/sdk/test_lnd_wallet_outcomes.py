"""LND's words become four outcomes, and an error is never one of the two final ones."""

from __future__ import annotations

import base64
import json

import httpx2
import pytest
from unit.sdk.signed_facts import HASH, OTHER_HASH, PREIMAGE

from lightwork.errors import WalletRefused, WalletUnreachable
from lightwork.lnd_wallet import LndWallet
from lightwork.wallet import Payment, PaymentOutcome
from lightwork_contracts.money import Msat

MACAROON = bytes.fromhex("0201036c6e64deadbeef")


def wallet(handler: httpx2.MockTransport) -> LndWallet:
    return LndWallet(url="https://node.test:8080", macaroon=MACAROON, transport=handler)


def line(status: str, **more: str) -> str:
    return json.dumps({"result": {"payment_hash": HASH, "status": status, **more}}) + "\n"


def says(body: str, status: int = 200) -> tuple[LndWallet, list[httpx2.Request]]:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, text=body)

    return wallet(httpx2.MockTransport(handle)), seen


async def pay(using: LndWallet) -> Payment:
    return await using.pay("lnbcrt1", payment_hash=HASH, max_fee_msat=Msat(5_000), max_cltv=500)


async def test_a_payment_is_sent_with_its_limits_as_lnd_wants_them() -> None:
    using, seen = says(line("SUCCEEDED", payment_preimage=PREIMAGE.hex(), fee_msat="1000"))
    payment = await pay(using)
    assert (payment.outcome, payment.fee_msat, payment.preimage) == (
        PaymentOutcome.SUCCEEDED,
        1_000,
        PREIMAGE.hex(),
    )
    body = json.loads(seen[0].content)
    assert body["fee_limit_msat"] == "5000"
    assert body["cltv_limit"] == 500
    assert body["payment_request"] == "lnbcrt1"
    assert seen[0].headers["grpc-metadata-macaroon"] == MACAROON.hex()


@pytest.mark.parametrize(
    ("body", "status", "outcome"),
    [
        (line("FAILED", failure_reason="FAILURE_REASON_NO_ROUTE"), 200, PaymentOutcome.FAILED),
        (line("INITIATED") + line("IN_FLIGHT") + line("FAILED"), 200, PaymentOutcome.FAILED),
        (line("IN_FLIGHT"), 200, PaymentOutcome.UNKNOWN),
        ("", 200, PaymentOutcome.UNKNOWN),
        ("<html>", 502, PaymentOutcome.UNKNOWN),
        ("<html>\n", 200, PaymentOutcome.UNKNOWN),
        ('{"error":{"code":2,"message":"payment is in transition"}}\n', 200, PaymentOutcome.UNKNOWN),
        ('{"code":6,"message":"invoice is already paid"}', 409, PaymentOutcome.UNKNOWN),
        (line("SUCCEEDED").replace(HASH, OTHER_HASH), 200, PaymentOutcome.UNKNOWN),
        (line("SOMETHING_NEW"), 200, PaymentOutcome.UNKNOWN),
    ],
)
async def test_only_a_terminal_state_of_this_payment_is_final(
    body: str, status: int, outcome: PaymentOutcome
) -> None:
    using, _ = says(body, status)
    assert (await pay(using)).outcome is outcome
    assert (await using.track(HASH)).outcome is outcome


@pytest.mark.parametrize(
    "error", [httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.WriteError]
)
async def test_a_lost_connection_is_unknown(error: type[httpx2.TransportError]) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise error("gone", request=request)

    assert (await pay(wallet(httpx2.MockTransport(handle)))).outcome is PaymentOutcome.UNKNOWN


async def test_a_connection_that_was_never_made_sent_nothing() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    using = wallet(httpx2.MockTransport(handle))
    with pytest.raises(WalletUnreachable):
        await pay(using)
    assert (await using.track(HASH)).outcome is PaymentOutcome.UNKNOWN


async def test_a_look_takes_the_first_word_and_does_not_wait_for_the_last() -> None:
    using, seen = says(line("IN_FLIGHT"))
    assert (await using.lookup(HASH)).outcome is PaymentOutcome.IN_FLIGHT
    segment = base64.urlsafe_b64encode(bytes.fromhex(HASH)).decode()
    assert seen[0].url.path == f"/v2/router/track/{segment}"
    assert seen[0].url.params["no_inflight_updates"] == "false"


async def test_an_invoice_is_asked_for_in_msat_and_its_hash_read_from_base64() -> None:
    r_hash = base64.b64encode(bytes.fromhex(HASH)).decode()
    using, seen = says(json.dumps({"r_hash": r_hash, "payment_request": "lnbcrt1", "add_index": "7"}))
    made = await using.create_invoice(amount_msat=Msat(10_500), expiry_seconds=60, memo="m", final_cltv=80)
    assert (made.invoice, made.payment_hash) == ("lnbcrt1", HASH)
    assert json.loads(seen[0].content) == {
        "value_msat": "10500",
        "expiry": "60",
        "memo": "m",
        "cltv_expiry": "80",
    }


async def test_an_invoice_that_is_refused_says_why() -> None:
    using, _ = says('{"code":7,"message":"permission denied"}', 403)
    with pytest.raises(WalletRefused, match="permission denied"):
        await using.create_invoice(amount_msat=Msat(1), expiry_seconds=60, memo="m", final_cltv=80)


async def test_neither_macaroon_nor_preimage_shows_in_what_is_printed() -> None:
    using, _ = says(line("SUCCEEDED", payment_preimage=PREIMAGE.hex()))
    payment = await pay(using)
    assert MACAROON.hex() not in repr(using)
    assert PREIMAGE.hex() not in repr(payment)
