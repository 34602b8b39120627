"""Hiring: what is asked, what is paid, and how every end of a job reaches the buyer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from unit.sdk.signed_facts import (
    BROKER,
    BUYER,
    HASH,
    LISTING_ID,
    NOW,
    OTHER_HASH,
    PREIMAGE,
    ROUTING,
    STRANGER,
    TERMS,
    TOTAL,
    buyer_job,
    hold_invoice,
    listing_view,
    quote_view,
)
from unit.sdk.stand_ins import BuyersBroker, FakeWallet, paid, problem, unknown, unpaid

from lightwork import errors
from lightwork.job import Job
from lightwork.market import Market
from lightwork.profile import Profile
from lightwork.wallet import Payment
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.status import Acceptance, JobStatus
from lightwork_contracts.wire.problems import ProblemCode

URL = "http://broker.test"


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


def market(
    broker: BuyersBroker,
    wallet: FakeWallet,
    *,
    budget: Msat | None = None,
    pinned: str | None = None,
    clock: Callable[[], float] = lambda: NOW,
    sleep: Callable[[float], Awaitable[None]] = at_once,
) -> Market:
    return Market(
        URL,
        key=BUYER,
        wallet=wallet,
        profile=Profile(name="test", broker=URL, key_file=Path("unused"), broker_pubkey=pinned),
        budget=budget,
        transport=broker.transport(),
        clock=clock,
        sleep=sleep,
    )


async def test_a_hire_is_one_request_a_payment_and_one_look() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
    assert broker.calls == ["info", "POST jobs", f"GET jobs/{buyer_job(JobStatus.OPEN).id}"]
    assert wallet.paid_invoices == [hold_invoice()]
    assert broker.bodies == [
        {
            "quote_id": None,
            "request": {
                "listing_id": None,
                "task": "echo",
                "version": None,
                "input": {"text": "hi"},
                "modes": ["escrow"],
                "max_price_msat": 20_000,
            },
        }
    ]


async def test_the_wallet_is_always_given_a_fee_limit_and_a_time_lock_limit() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        await buyer.hire("echo", text="hi", max_price=sats(20))
    assert wallet.limits == [(sats(5), 200 + 288)]


async def test_the_brokers_info_is_read_once_for_many_hires() -> None:
    broker = BuyersBroker()
    async with market(broker, FakeWallet()) as buyer:
        for _ in range(3):
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert broker.calls.count("info") == 1


async def test_a_lost_answer_is_asked_for_again_under_the_same_idempotency_key() -> None:
    broker, wallet = BuyersBroker(lose=2), FakeWallet()
    async with market(broker, wallet) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
    assert len(broker.keys) == 3
    assert len(set(broker.keys)) == 1
    assert len(wallet.paid_invoices) == 1


@pytest.mark.parametrize(
    ("code", "hired"),
    [
        ("check_invoice_hash", buyer_job(JobStatus.OPEN, invoice_text=hold_invoice(payment_hash=OTHER_HASH))),
        ("check_invoice_amount", buyer_job(JobStatus.OPEN, invoice_text=hold_invoice(Msat(TOTAL + 1)))),
        ("check_broker_key", buyer_job(JobStatus.OPEN, quote=quote_view(broker=STRANGER))),
    ],
)
async def test_what_does_not_hold_together_is_called_off_and_never_paid(code: str, hired: object) -> None:
    assert isinstance(hired, type(buyer_job(JobStatus.OPEN)))
    broker, wallet = BuyersBroker(hired=hired), FakeWallet()
    async with market(broker, wallet) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.code == code
    assert wallet.paid_invoices == []
    assert broker.calls[-1].endswith("/cancel")


async def test_a_broker_with_another_key_than_the_pinned_one_gets_no_order() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet, pinned=STRANGER.public) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.check is errors.CheckCode.BROKER_KEY
    assert broker.calls == ["info"]
    async with market(BuyersBroker(), wallet, pinned=BROKER.public) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"


async def test_a_listing_named_by_its_id_is_read_and_pins_its_signer() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        assert await buyer.hire(LISTING_ID, text="hi", max_price=sats(20)) == "hi"
    assert broker.calls[0] == f"GET listings/{LISTING_ID}"
    broker, wallet = BuyersBroker(listing=listing_view(key=STRANGER)), FakeWallet()
    async with market(broker, wallet) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire(LISTING_ID, text="hi", max_price=sats(20))
    assert caught.value.check is errors.CheckCode.PROVIDER_KEY
    assert wallet.paid_invoices == []


async def test_a_broker_that_shows_another_listing_than_asked_for_gets_no_order() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("lst_" + "1" * 26, text="hi", max_price=sats(20))
    assert caught.value.check is errors.CheckCode.LISTING
    assert "POST jobs" not in broker.calls


async def test_a_listing_pins_provider_and_version() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        assert await buyer.hire(listing_view(), text="hi", max_price=sats(20)) == "hi"
        with pytest.raises(errors.CheckFailed):
            await buyer.hire(listing_view(version=2), text="hi", max_price=sats(20))
    assert len(wallet.paid_invoices) == 1


async def test_a_price_above_the_maximum_is_refused_by_the_buyer_even_if_the_broker_does_not_mind() -> None:
    broker, wallet = BuyersBroker(), FakeWallet()
    async with market(broker, wallet) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(12))
    assert caught.value.check is errors.CheckCode.ABOVE_MAX
    assert wallet.paid_invoices == []


async def test_problems_of_the_broker_become_errors_by_their_code() -> None:
    for code, status, kind in (
        (ProblemCode.PRICE_ABOVE_MAX, 402, errors.PriceAboveMax),
        (ProblemCode.PROVIDER_OFFLINE, 409, errors.ProviderUnavailable),
        (ProblemCode.NOT_FOUND, 404, errors.NotFound),
        (ProblemCode.INPUT_INVALID, 422, errors.RequestRefused),
        (ProblemCode.AUTH_STALE, 401, errors.AuthRefused),
        (ProblemCode.INTERNAL, 500, errors.BrokerProblem),
    ):
        async with market(BuyersBroker(refuse=problem(code, status)), FakeWallet()) as buyer:
            with pytest.raises(kind) as caught:
                await buyer.hire("echo", text="hi", max_price=sats(20))
        assert caught.value.code == code


async def test_a_broker_that_restarts_in_the_middle_of_a_job_is_waited_for() -> None:
    broker = BuyersBroker()

    class Losing(FakeWallet):
        """The broker goes away while the payment is held: thirty lost connections."""

        async def pay(self, *_: object, **__: object) -> Payment:
            broker.lose = 30
            return paid()

    async with market(broker, Losing()) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
    assert broker.lose == 0


async def test_a_broker_that_stays_away_is_told_with_the_job_that_goes_on() -> None:
    now = [float(NOW)]

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await asyncio.sleep(0)

    broker = BuyersBroker()

    class Losing(FakeWallet):
        async def pay(self, *_: object, **__: object) -> Payment:
            broker.lose = 10_000
            return paid()

    async with market(broker, Losing(), sleep=sleep, clock=lambda: now[0]) as buyer:
        with pytest.raises(errors.BrokerUnreachable, match="goes on without being watched"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert now[0] >= NOW + 300


async def test_a_refunded_job_is_a_failed_job_with_the_providers_reason() -> None:
    refunded = buyer_job(
        JobStatus.REFUNDED, last_event=5, error={"code": "task_failed", "message": "the printer is on fire"}
    )
    wallet = FakeWallet(payments=[unpaid("incorrect_payment_details")])
    async with market(BuyersBroker(views=[refunded]), wallet) as buyer:
        with pytest.raises(errors.JobFailed, match="printer is on fire") as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert (caught.value.code, caught.value.status) == ("task_failed", "refunded")


async def test_a_job_that_is_still_being_refunded_is_waited_for() -> None:
    views = [
        buyer_job(JobStatus.REFUNDING, last_event=4),
        buyer_job(JobStatus.REFUNDED, last_event=5, error={"code": "timed_out", "message": "too slow"}),
    ]
    async with market(BuyersBroker(views=views), FakeWallet(payments=[unpaid()])) as buyer:
        with pytest.raises(errors.JobFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.code == "timed_out"


async def test_a_payment_that_finds_no_route_calls_the_job_off() -> None:
    broker = BuyersBroker(views=[buyer_job(JobStatus.OPEN)])
    async with market(broker, FakeWallet(payments=[unpaid("no_route")])) as buyer:
        with pytest.raises(errors.PaymentFailed, match="no_route"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert broker.calls[-1].endswith("/cancel")


async def test_a_wallet_that_cannot_be_reached_calls_the_job_off() -> None:
    broker = BuyersBroker(views=[buyer_job(JobStatus.OPEN)])
    wallet = FakeWallet(payments=[errors.WalletUnreachable("the node is down")])
    async with market(broker, wallet) as buyer:
        with pytest.raises(errors.WalletUnreachable):
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert broker.calls[-1].endswith("/cancel")


async def test_an_unknown_payment_is_tracked_and_never_made_again() -> None:
    wallet = FakeWallet(payments=[unknown(), unknown(), paid()])
    async with market(BuyersBroker(), wallet) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
    assert len(wallet.paid_invoices) == 1


async def test_a_payment_that_the_wallet_never_took_is_called_off_after_the_grace() -> None:
    now = [float(NOW)]

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await asyncio.sleep(0)

    broker = BuyersBroker(views=[buyer_job(JobStatus.OPEN)])
    wallet = FakeWallet(payments=[unknown("permission denied")])
    async with market(broker, wallet, budget=sats(100), sleep=sleep, clock=lambda: now[0]) as buyer:
        with pytest.raises(errors.PaymentUnknown, match="permission denied"):
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == sats(100) - TOTAL - sats(5)
    assert now[0] >= NOW + 20
    assert len(wallet.paid_invoices) == 1


async def test_a_preimage_that_is_none_is_told_instead_of_a_result() -> None:
    wrong = Payment(payment_hash=HASH, outcome=paid().outcome, preimage="00" * 32)
    async with market(BuyersBroker(), FakeWallet(payments=[wrong])) as buyer:
        with pytest.raises(errors.CheckFailed) as caught:
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert caught.value.check is errors.CheckCode.PREIMAGE


REVIEWED = TERMS.model_copy(update={"acceptance": Acceptance.REVIEW, "review_seconds": 3_600})


async def test_hire_accepts_a_result_under_review_and_start_leaves_it_to_the_buyer() -> None:
    quote = quote_view(REVIEWED)
    opened = buyer_job(JobStatus.OPEN, quote=quote)
    delivered = buyer_job(JobStatus.DELIVERED, quote=quote, last_event=4, result="hi")
    settled = buyer_job(JobStatus.SETTLED, quote=quote, last_event=7, result="hi", preimage=PREIMAGE.hex())

    class Held(FakeWallet):
        """A hold invoice: the payment ends when the job has been accepted."""

        async def pay(self, *_: object, **__: object) -> Payment:
            async with asyncio.timeout(5):
                await broker.accepted.wait()
            return paid()

    broker = BuyersBroker(hired=opened, views=[delivered, settled])
    async with market(broker, Held()) as buyer:
        assert await buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"

    broker = BuyersBroker(hired=opened, views=[delivered])
    async with market(broker, Held()) as buyer:
        job = await buyer.start("echo", text="hi", max_price=sats(20))
        assert await job.result() == "hi"
        assert not broker.accepted.is_set()


async def test_a_rejected_result_is_a_dispute_not_a_result() -> None:
    quote = quote_view(REVIEWED)
    broker = BuyersBroker(
        hired=buyer_job(JobStatus.OPEN, quote=quote),
        views=[buyer_job(JobStatus.DISPUTED, quote=quote, last_event=5, result="hi")],
    )
    async with market(broker, FakeWallet(gate=asyncio.Event())) as buyer:
        job = await buyer.start("echo", text="hi", max_price=sats(20))
        with pytest.raises(errors.JobDisputed):
            await job.wait()


async def test_the_budget_counts_what_is_under_way_and_gets_back_what_was_not_spent() -> None:
    wallet = FakeWallet(payments=[paid(fee=1_000), unpaid(), paid()])
    most = Msat(TOTAL + sats(5))
    async with market(BuyersBroker(), wallet, budget=Msat(most + TOTAL)) as buyer:
        await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == most - 1_000
        with pytest.raises(errors.BudgetExceeded):
            await buyer.hire("echo", text="hi", max_price=sats(20))
    assert len(wallet.paid_invoices) == 1


async def test_a_refund_gives_the_budget_back() -> None:
    refunded = buyer_job(JobStatus.REFUNDED, last_event=5, error={"code": "task_failed", "message": "no"})
    async with market(
        BuyersBroker(views=[refunded]), FakeWallet(payments=[unpaid()]), budget=sats(100)
    ) as buyer:
        with pytest.raises(errors.JobFailed):
            await buyer.hire("echo", text="hi", max_price=sats(20))
        assert buyer.budget_left == sats(100)


async def test_an_input_that_has_no_json_form_is_refused_before_anything_is_sent() -> None:
    broker = BuyersBroker()
    async with market(broker, FakeWallet()) as buyer:
        for value in (float("nan"), "\ud800"):
            with pytest.raises(errors.InputInvalid):
                await buyer.hire("echo", text=value, max_price=sats(20))
    assert broker.calls == []


async def test_a_price_limit_that_is_no_whole_amount_is_refused() -> None:
    broker = BuyersBroker()
    async with market(broker, FakeWallet()) as buyer:
        with pytest.raises(errors.InputInvalid, match="max_price"):
            await buyer.hire("echo", text="hi", max_price=Msat(0))
    assert broker.calls == []


async def test_an_older_answer_does_not_take_a_job_back_in_time() -> None:
    broker = BuyersBroker(
        views=[buyer_job(JobStatus.WORKING, last_event=3), buyer_job(JobStatus.FUNDED, last_event=2)]
    )
    async with market(broker, FakeWallet(gate=asyncio.Event())) as buyer:
        job: Job = await buyer.start("echo", text="hi", max_price=sats(20))
        assert (await job.refresh()).status is JobStatus.WORKING
        assert (await job.refresh()).status is JobStatus.WORKING


async def test_events_resume_after_a_lost_stream_and_end_with_the_job() -> None:
    seen: list[str | None] = []

    def stream(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers.get("last-event-id"))
        first = len(seen) == 1
        lines = (
            [event(1, JobStatus.OPEN), event(2, JobStatus.FUNDED)] if first else [event(3, JobStatus.SETTLED)]
        )
        return httpx2.Response(200, text="".join(lines), headers={"content-type": "text/event-stream"})

    broker, plain = BuyersBroker(), httpx2.MockTransport(stream)
    usual = broker.transport()

    class Both(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            chosen = plain if request.url.path.endswith("/events") else usual
            return await chosen.handle_async_request(request)

    buyer = Market(
        URL,
        key=BUYER,
        wallet=FakeWallet(gate=asyncio.Event()),
        profile=Profile(name="test", broker=URL, key_file=Path("unused")),
        transport=Both(),
        clock=lambda: NOW,
        sleep=at_once,
    )
    async with buyer:
        job = await buyer.start("echo", text="hi", max_price=sats(20))
        assert [item.seq async for item in job.events()] == [1, 2, 3]
    assert seen == ["0", "2"]


def event(seq: int, status: JobStatus) -> str:
    data = f'{{"seq":{seq},"job_id":"{buyer_job(status).id}","kind":"job.{status}","status":"{status}","at":{NOW}}}'
    return f"id: {seq}\ndata: {data}\n\n"


def test_the_blocking_market_does_the_same() -> None:
    from lightwork.market_sync import SyncMarket

    broker, wallet = BuyersBroker(), FakeWallet()
    with SyncMarket(lambda: market(broker, wallet)) as buyer:
        assert buyer.hire("echo", text="hi", max_price=sats(20)) == "hi"
        job = buyer.start("echo", text="hi", max_price=sats(20))
        assert job.wait() == "hi"
    assert ROUTING
