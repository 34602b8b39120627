"""What became of the money is told on the wallet's word, never on the broker's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from unit.sdk.signed_facts import (
    BROKER_NODE,
    BUYER,
    COMMITMENT,
    HASH,
    JOB_ID,
    NOW,
    OTHER_HASH,
    PREIMAGE,
    PROVIDER_NODE_KEY,
    TERMS,
    TOTAL,
    buyer_job,
    quote_view,
)
from unit.sdk.stand_ins import BuyersBroker, FakeWallet, paid, unknown, unpaid

from lightwork import errors
from lightwork.market import Market
from lightwork.profile import Profile
from lightwork.wallet import Payment, PaymentOutcome
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.commitment import read_commitment
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer

URL = "http://broker.test"
LIMIT = sats(100)
MOST = Msat(TOTAL + sats(5))
REFUNDED = buyer_job(JobStatus.REFUNDED, last_event=5, error={"code": "timed_out", "message": "too slow"})
EXPIRED = buyer_job(JobStatus.EXPIRED, last_event=5, error={"code": "unpaid", "message": "not paid in time"})


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


def market(
    wallet: FakeWallet,
    *views: JobForBuyer,
    broker: BuyersBroker | None = None,
    sleep: Callable[[float], Awaitable[None]] = at_once,
) -> Market:
    if broker is None:
        broker = BuyersBroker(views=list(views))
    return Market(
        URL,
        key=BUYER,
        wallet=wallet,
        profile=Profile(name="test", broker=URL, key_file=Path("unused")),
        budget=LIMIT,
        transport=broker.transport(),
        clock=lambda: NOW,
        sleep=sleep,
    )


@pytest.mark.parametrize("said", [REFUNDED, EXPIRED], ids=["refunded", "expired"])
async def test_a_job_that_only_the_broker_calls_unpaid_is_an_unknown_payment_that_may_be_held(
    said: JobForBuyer,
) -> None:
    async with market(FakeWallet(gate=asyncio.Event()), said) as buyer:
        with pytest.raises(errors.PaymentUnknown, match="in flight") as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == LIMIT - MOST
    assert caught.value.held_blocks == 200 + 288
    assert "488 blocks" in caught.value.message
    assert "no money" not in caught.value.message
    assert caught.value.hint is not None
    assert f"lightwork jobs {JOB_ID}" in caught.value.hint
    assert HASH in caught.value.hint


async def test_a_wallet_that_does_not_know_its_payment_confirms_no_refund() -> None:
    async with market(FakeWallet(payments=[unknown("the stream ended")]), REFUNDED) as buyer:
        with pytest.raises(errors.PaymentUnknown, match="the stream ended"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == LIMIT - MOST


async def test_a_refund_is_told_as_soon_as_the_wallet_confirms_it() -> None:
    gate = asyncio.Event()

    async def sleep(seconds: float) -> None:
        """The HTLC comes back while the last word of the wallet is waited for."""
        assert seconds == 20
        gate.set()
        await asyncio.Event().wait()

    async with market(FakeWallet(payments=[unpaid()], gate=gate), REFUNDED, sleep=sleep) as buyer:
        with pytest.raises(errors.JobFailed, match=r"too slow.*no money moved"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == LIMIT


async def test_a_wallet_that_was_lost_sight_of_is_looked_up_before_it_is_called_unknown() -> None:
    class Forgetful(FakeWallet):
        async def lookup(self, payment_hash: PaymentHash) -> Payment:
            return unpaid()

    async with market(Forgetful(payments=[unknown()]), REFUNDED) as buyer:
        with pytest.raises(errors.JobFailed, match="no money moved"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == LIMIT


OPEN = buyer_job(JobStatus.OPEN, last_event=1)


@pytest.mark.parametrize(
    "views",
    [
        [OPEN, EXPIRED],
        [OPEN],
        [EXPIRED],
        [REFUNDED],
        [buyer_job(JobStatus.WORKING, last_event=3)],
        [buyer_job(JobStatus.REFUNDING, last_event=4), REFUNDED],
    ],
    ids=lambda views: " then ".join(view.status for view in views),
)
@pytest.mark.parametrize("method", ["wait", "result"])
async def test_a_payment_that_was_taken_on_the_way_is_told_with_the_evidence(
    views: list[JobForBuyer], method: str
) -> None:
    async with market(FakeWallet(payments=[paid(fee=1_000)]), *views) as buyer:
        job = await buyer.start("echo", text="hi", max_price=sats(20))
        with pytest.raises(errors.PaidWithoutResult) as caught:
            async with asyncio.timeout(5):
                await (job.wait() if method == "wait" else job.result())
        assert buyer.budget_left == LIMIT - TOTAL - 1_000
    error = caught.value
    assert error.job_id == JOB_ID
    assert error.evidence.preimage == PREIMAGE.hex()
    assert read_commitment(error.evidence.commitment)[1] == COMMITMENT
    assert error.evidence.quote == quote_view().event
    for shown in (error.message, repr(error), repr(error.evidence), str(error.evidence.document())):
        assert PREIMAGE.hex() not in shown
        assert "no money moved" not in shown


async def test_a_payment_taken_after_the_broker_said_expired_is_told_too() -> None:
    gate = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        gate.set()
        await asyncio.Event().wait()

    async with market(FakeWallet(payments=[paid()], gate=gate), EXPIRED, sleep=sleep) as buyer:
        with pytest.raises(errors.PaidWithoutResult):
            await buyer.hire("echo", text="hi", max_price=sats(20))


async def test_a_preimage_that_does_not_fit_is_no_evidence() -> None:
    wrong = Payment(payment_hash=HASH, outcome=PaymentOutcome.SUCCEEDED, preimage="00" * 32)
    async with market(FakeWallet(payments=[wrong]), EXPIRED) as buyer:
        with pytest.raises(errors.PaidWithoutResult) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.evidence.preimage is None
    assert caught.value.evidence.document()["preimage_known"] is False


async def test_a_result_that_comes_a_moment_after_the_payment_accuses_nobody() -> None:
    working = buyer_job(JobStatus.WORKING, last_event=3)
    settled = buyer_job(JobStatus.SETTLED, last_event=6, result="hi", preimage=PREIMAGE.hex())
    async with market(FakeWallet(), working, working, settled) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"


async def test_a_quote_that_the_broker_swaps_after_the_hire_proves_nothing() -> None:
    swapped = quote_view(
        TERMS.model_copy(update={"payment_hash": OTHER_HASH}),
        COMMITMENT.model_copy(update={"payment_hash": OTHER_HASH}),
    )
    said = buyer_job(JobStatus.SETTLED, quote=swapped, last_event=6, result="hi", preimage=bytes(32).hex())
    async with market(FakeWallet(payments=[unpaid()]), said) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.check is errors.CheckCode.PREIMAGE


PROVIDER_NODE = read_invoice(COMMITMENT.invoice).payee


@dataclass
class Neighbourly(FakeWallet):
    """A wallet that can tell its own node and those next to it."""

    near: frozenset[str] | errors.LightworkError = frozenset()
    asked: list[str] = field(default_factory=list[str])

    async def peers(self) -> frozenset[str]:
        self.asked.append("peers")
        if isinstance(self.near, errors.LightworkError):
            raise self.near
        return self.near


async def test_a_provider_next_to_the_buyers_node_is_refused_before_paying() -> None:
    assert PROVIDER_NODE_KEY.hex() not in PROVIDER_NODE
    broker, wallet = BuyersBroker(), Neighbourly(near=frozenset({BROKER_NODE, PROVIDER_NODE}))
    async with market(wallet, broker=broker) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == LIMIT
    assert caught.value.check is errors.CheckCode.PROVIDER_NEARBY
    assert wallet.paid_invoices == []
    assert broker.calls[-1].endswith("/cancel")


async def test_a_provider_elsewhere_is_paid_and_the_wallet_is_asked_for_its_peers_once() -> None:
    wallet = Neighbourly(near=frozenset({BROKER_NODE}))
    async with market(wallet, broker=BuyersBroker()) as buyer:
        for _ in range(3):
            assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
    assert wallet.asked == ["peers"]


async def test_a_wallet_that_may_not_tell_its_peers_hires_all_the_same() -> None:
    wallet = Neighbourly(near=errors.WalletRefused("permission denied"))
    async with market(wallet, broker=BuyersBroker()) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
