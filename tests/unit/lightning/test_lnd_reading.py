"""LND's answers in our words, where a real LND cannot be made to give them."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from lndgrpc.compiled import lightning_pb2

from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.lnd_errors import refusal, translate
from lightwork_broker.lightning.lnd_info import commit_fee_sats
from lightwork_broker.lightning.lnd_invoices import read_invoice
from lightwork_broker.lightning.lnd_payouts import read_payment
from lightwork_broker.lightning.ports import InvoiceState, Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage

PREIMAGE = Preimage(b"\x07" * 32)
HASH = PREIMAGE.payment_hash


def payment(**fields: object) -> lightning_pb2.Payment:
    return lightning_pb2.Payment(payment_hash=HASH, **fields)


def lnd_says(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)


def test_a_success_has_fee_and_preimage() -> None:
    paid = read_payment(payment(status=2, payment_preimage=PREIMAGE.hex(), fee_msat=1_001), HASH)
    assert paid == Payout(status=PayoutStatus.SUCCEEDED, payment_hash=HASH, preimage=PREIMAGE, fee_msat=1_001)


@pytest.mark.parametrize("preimage", ["00" * 32, "11" * 32, "", "zz"])
def test_a_success_without_the_right_preimage_is_unknown(preimage: str) -> None:
    assert read_payment(payment(status=2, payment_preimage=preimage), HASH).status is PayoutStatus.UNKNOWN


def test_an_answer_about_another_payment_is_unknown() -> None:
    other = lightning_pb2.Payment(payment_hash="22" * 32, status=3, failure_reason=2)
    assert read_payment(other, HASH).status is PayoutStatus.UNKNOWN


@pytest.mark.parametrize("status", [1, 4])
def test_a_payment_that_has_begun_is_in_flight(status: int) -> None:
    assert read_payment(payment(status=status), HASH).status is PayoutStatus.IN_FLIGHT


@pytest.mark.parametrize("status", [0, 5, 99])
def test_a_status_that_we_do_not_know_is_unknown(status: int) -> None:
    assert read_payment(payment(status=status), HASH).status is PayoutStatus.UNKNOWN


@pytest.mark.parametrize(
    ("reason", "failure"),
    [
        (1, PayoutFailure.TIMEOUT),
        (2, PayoutFailure.NO_ROUTE),
        (3, PayoutFailure.ERROR),
        (4, PayoutFailure.INCORRECT_PAYMENT_DETAILS),
        (5, PayoutFailure.INSUFFICIENT_BALANCE),
        (6, PayoutFailure.CANCELED),
        (77, PayoutFailure.ERROR),
    ],
)
def test_each_reason_of_a_failure_is_told(reason: int, failure: PayoutFailure) -> None:
    failed = read_payment(payment(status=3, failure_reason=reason), HASH)
    assert (failed.status, failed.failure) == (PayoutStatus.FAILED, failure)


def test_a_payout_cannot_claim_success_without_its_preimage() -> None:
    with pytest.raises(ValueError, match="exactly when it succeeded"):
        Payout(status=PayoutStatus.SUCCEEDED, payment_hash=HASH)
    with pytest.raises(ValueError, match="does not open"):
        Payout(status=PayoutStatus.SUCCEEDED, payment_hash=HASH, preimage=Preimage(bytes(32)), fee_msat=0)


def test_the_deadline_of_a_hold_is_the_lowest_of_the_htlcs_that_wait() -> None:
    htlcs = [
        lightning_pb2.InvoiceHTLC(amt_msat=400, expiry_height=300, state=0),
        lightning_pb2.InvoiceHTLC(amt_msat=600, expiry_height=250, state=0),
        lightning_pb2.InvoiceHTLC(amt_msat=999, expiry_height=100, state=2),
    ]
    hold = read_invoice(lightning_pb2.Invoice(r_hash=b"\x01" * 32, value_msat=1_000, state=3, htlcs=htlcs))
    assert (hold.state, hold.accepted_msat, hold.min_expiry_height, hold.htlc_count) == (
        InvoiceState.ACCEPTED,
        1_000,
        250,
        2,
    )


def test_an_invoice_state_that_we_do_not_know_is_no_state() -> None:
    with pytest.raises(LightningUnavailable):
        read_invoice(lightning_pb2.Invoice(state=9))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (grpc.StatusCode.UNKNOWN, "Stream removed"),
        (grpc.StatusCode.INTERNAL, "invoice expired"),
        (grpc.StatusCode.UNAVAILABLE, "self-payments not allowed"),
        (grpc.StatusCode.CANCELLED, ""),
        (grpc.StatusCode.UNKNOWN, "routerrpc server shutting down"),
        (grpc.StatusCode.UNKNOWN, "cannot get macaroon: macaroon store is locked"),
    ],
)
def test_an_error_that_proves_nothing_is_unavailable_and_no_refusal(code: grpc.StatusCode, text: str) -> None:
    error = lnd_says(code, text)
    assert type(translate(error)) is LightningUnavailable
    assert refusal(error) is None


def test_an_error_of_the_node_is_shown_without_what_could_be_a_secret() -> None:
    text = f"odd: {PREIMAGE.hex()} lnbcrt10u1pabcdefghijklmnopqrstuvwxyz0123456789"
    shown = str(translate(lnd_says(grpc.StatusCode.UNKNOWN, text)))
    assert "odd" in shown
    assert PREIMAGE.hex() not in shown
    assert "lnbcrt10u1" not in shown


def test_the_fee_of_a_commitment_counts_neither_dust_nor_fractions() -> None:
    quiet = lightning_pb2.Channel(
        capacity=16_000_000, local_balance=8_000_000, fee_per_kw=2_500, commitment_type=3
    )
    quiet.remote_balance = 16_000_000 - 8_000_000 - 660 - 2_810
    assert commit_fee_sats(quiet) == 2_810
    # both balances lost a fraction of a satoshi, 100 sat wait without an output of their own
    quiet.remote_balance -= 101
    quiet.pending_htlcs.add(amount=100)
    assert commit_fee_sats(quiet) == 2_810
    # 50,000 sat wait in an output, which costs 430 sat more
    quiet.pending_htlcs.add(amount=50_000)
    quiet.remote_balance -= 50_430
    assert commit_fee_sats(quiet) == 3_240
