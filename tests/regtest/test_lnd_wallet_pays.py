"""The SDK's wallet on real LND: invoices, payments that wait, and what is not known."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncGenerator

import httpx2
import pytest

from lightwork import LndWallet, PaymentOutcome
from lightwork.errors import WalletRefused, WalletUnreachable
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat, sats
from lightwork_regtest import Network

UNHEARD = PaymentHash("ab" * 32)


@pytest.fixture
async def buyer(network: Network) -> AsyncGenerator[LndWallet, None]:
    node = network.node("buyer")
    wallet = LndWallet.from_files(url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.role_macaroon)
    yield wallet
    await wallet.close()


@pytest.fixture
async def provider(network: Network) -> AsyncGenerator[LndWallet, None]:
    node = network.node("provider")
    wallet = LndWallet.from_files(url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.role_macaroon)
    yield wallet
    await wallet.close()


async def test_an_invoice_says_exactly_what_was_asked_for(network: Network, provider: LndWallet) -> None:
    made = await provider.create_invoice(
        amount_msat=Msat(10_500), expiry_seconds=1_234, memo="lightwork echo", final_cltv=60
    )
    read = read_invoice(made.invoice)
    assert (read.amount_msat, read.expiry_seconds, read.payment_hash) == (10_500, 1_234, made.payment_hash)
    assert read.payee == network.node("provider").pubkey
    assert 60 <= read.min_final_cltv <= 63


async def test_a_payment_succeeds_with_a_preimage_of_its_hash_and_is_known_afterwards(
    buyer: LndWallet, provider: LndWallet
) -> None:
    made = await provider.create_invoice(amount_msat=sats(21), expiry_seconds=600, memo="x", final_cltv=80)
    assert (await buyer.lookup(made.payment_hash)).outcome is PaymentOutcome.UNKNOWN
    payment = await buyer.pay(
        made.invoice, payment_hash=made.payment_hash, max_fee_msat=sats(5), max_cltv=500
    )
    assert payment.outcome is PaymentOutcome.SUCCEEDED
    assert payment.preimage is not None
    assert hashlib.sha256(bytes.fromhex(payment.preimage)).hexdigest() == made.payment_hash
    assert await buyer.track(made.payment_hash) == payment
    assert await buyer.lookup(made.payment_hash) == payment
    again = await buyer.pay(made.invoice, payment_hash=made.payment_hash, max_fee_msat=sats(5))
    assert again.outcome is PaymentOutcome.UNKNOWN


async def test_a_fee_limit_that_no_route_meets_fails_and_costs_nothing(
    buyer: LndWallet, provider: LndWallet
) -> None:
    made = await provider.create_invoice(amount_msat=sats(21), expiry_seconds=600, memo="x", final_cltv=80)
    payment = await buyer.pay(made.invoice, payment_hash=made.payment_hash, max_fee_msat=Msat(0))
    assert (payment.outcome, payment.reason) == (PaymentOutcome.FAILED, "no_route")


async def test_a_held_payment_stays_in_flight_and_survives_the_loss_of_its_stream(
    network: Network, buyer: LndWallet
) -> None:
    broker = network.node("broker")
    preimage = hashlib.sha256(b"a secret of test_lnd_wallet_pays" + str(id(buyer)).encode()).digest()
    payment_hash = PaymentHash(hashlib.sha256(preimage).hexdigest())
    async with httpx2.AsyncClient(
        base_url=broker.rest_url,
        verify=ssl.create_default_context(cafile=str(broker.tls_cert)),
        headers={"Grpc-Metadata-macaroon": broker.admin_macaroon.read_bytes().hex()},
    ) as lnd:
        hold = await lnd.post(
            "/v2/invoices/hodl",
            json={"hash": b64(bytes.fromhex(payment_hash)), "value_msat": "30000", "cltv_expiry": "100"},
        )
        invoice = str(hold.json()["payment_request"])
        paying = asyncio.create_task(
            buyer.pay(invoice, payment_hash=payment_hash, max_fee_msat=sats(5), max_cltv=500)
        )
        async with asyncio.timeout(60):
            # The buyer's side shows the HTLC before the broker has accepted it, and settling needs the latter.
            while (await lnd.get(f"/v1/invoice/{payment_hash}")).json()["state"] != "ACCEPTED":
                assert not paying.done()
        assert (await buyer.lookup(payment_hash)).outcome is PaymentOutcome.IN_FLIGHT
        paying.cancel()
        await asyncio.wait({paying})
        tracking = asyncio.create_task(buyer.track(payment_hash))
        settled = await lnd.post("/v2/invoices/settle", json={"preimage": b64(preimage)})
        assert settled.status_code == 200, settled.text
        async with asyncio.timeout(60):
            payment = await tracking
    assert payment.outcome is PaymentOutcome.SUCCEEDED
    assert payment.preimage == preimage.hex()


async def test_a_macaroon_that_may_not_pay_leaves_the_payment_unknown(provider: LndWallet) -> None:
    payment = await provider.pay("lnbcrt1", payment_hash=UNHEARD, max_fee_msat=sats(1))
    assert payment.outcome is PaymentOutcome.UNKNOWN
    assert payment.reason == "permission denied"


async def test_a_macaroon_that_may_not_make_invoices_is_told_so(buyer: LndWallet) -> None:
    with pytest.raises(WalletRefused, match="permission denied"):
        await buyer.create_invoice(amount_msat=sats(1), expiry_seconds=60, memo="x", final_cltv=80)


async def test_a_node_with_another_certificate_is_not_spoken_to(network: Network) -> None:
    node, other = network.node("buyer"), network.node("provider")
    wallet = LndWallet.from_files(url=node.rest_url, tls_cert=other.tls_cert, macaroon=node.role_macaroon)
    with pytest.raises(WalletUnreachable):
        await wallet.pay("lnbcrt1", payment_hash=UNHEARD, max_fee_msat=sats(1))
    await wallet.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
