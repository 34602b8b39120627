"""What holds a secret does not print it, and the log takes out what may be one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.jobs.store import Job
from lightwork_broker.logs import redact
from lightwork_broker.webhooks.store import Webhook
from lightwork_contracts.ids import JobId, ListingId, PaymentHash, Pubkey, QuoteId, WebhookId, WithdrawalId
from lightwork_contracts.money import Msat
from lightwork_contracts.status import Acceptance, JobStatus
from lightwork_contracts.wire.accounts import WithdrawalStatus

SECRET = "5e" * 32
HASH = PaymentHash("ab" * 32)
KEY = Pubkey("cd" * 32)

ESCROW = Escrow(
    id=JobId("job_1"),
    state=EscrowState.FORWARDED,
    payment_hash=HASH,
    price_msat=Msat(1),
    fee_msat=Msat(0),
    routing_msat=Msat(0),
    total_msat=Msat(1),
    provider_invoice="lnbcrt1",
    hold_cltv_blocks=100,
    outgoing_cltv_blocks=50,
    forward_seconds=60,
    memo="a job",
    pay_by=1,
    preimage=SECRET,
    created_at=1,
    updated_at=1,
)
JOB = Job(
    id=JobId("job_1"),
    status=JobStatus.SETTLED,
    quote_id=QuoteId("qte_1"),
    buyer=KEY,
    provider=KEY,
    listing_id=ListingId("lst_1"),
    listing_version=1,
    task="echo",
    price_msat=Msat(1),
    payment_hash=HASH,
    acceptance=Acceptance.AUTO,
    work_seconds=60,
    review_seconds=0,
    input=SECRET,
    result=SECRET,
    preimage=SECRET,
    created_at=1,
    updated_at=1,
)
WITHDRAWAL = Withdrawal(
    id=WithdrawalId("wdr_1"),
    agent=KEY,
    status=WithdrawalStatus.PAID,
    payment_hash=HASH,
    invoice="lnbcrt1",
    amount_msat=Msat(1),
    max_fee_msat=Msat(0),
    preimage=SECRET,
    created_at=1,
    updated_at=1,
)
WEBHOOK = Webhook(
    id=WebhookId("whk_1"),
    owner=KEY,
    url=f"https://example.com/{SECRET}",
    secret=SECRET,
    cursor=0,
    created_at=1,
)


def test_no_row_that_holds_a_secret_prints_it() -> None:
    for row in (ESCROW, JOB, WITHDRAWAL, WEBHOOK):
        for text in (repr(row), str(row), f"{row}", f"{[row]}"):
            assert row.id in text
            assert SECRET not in text


def test_what_may_be_a_secret_is_taken_out_of_the_log() -> None:
    line: MutableMapping[str, Any] = {
        "event": f"paid with {SECRET}",
        "exc_info": f"ValueError: {SECRET.upper()} is no macaroon",
        "preimage": SECRET,
        "macaroon": "0201",
        "authorization": "Nostr e30=",
        "payment_hash": HASH,
        "job": "job_1",
        "amount_msat": 5,
    }
    told = dict(redact(None, "info", line))
    assert SECRET not in str(told).lower()
    assert "0201" not in str(told)
    assert "e30=" not in str(told)
    assert (told["payment_hash"], told["job"], told["amount_msat"]) == (HASH, "job_1", 5)
