"""The runner: listing, pricing, promising once, working, and handing over whatever happens on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import httpx2
import pytest
from unit.sdk.providers_broker import ProvidersBroker, job_work, lease_lost, listing_id, quote_work
from unit.sdk.signed_facts import HASH, NOW, PROVIDER, QUOTE_ID
from unit.sdk.stand_ins import FakeWallet, problem

from lightwork import Agent, JobContext, Runner, TaskFailed, TaskRefused, sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.errors import AuthRefused, WalletUnreachable
from lightwork.reports import Report
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment, read_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.wire.problems import ProblemCode

OTHER_QUOTE = type(QUOTE_ID)("qt_" + "1" * 26)


def echo_agent() -> Agent:
    agent = Agent("echo")

    @agent.task(price=sats(10))
    async def echo(text: str) -> str:
        """Return the text unchanged."""
        return text

    return agent


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def running(
    broker: ProvidersBroker,
    agent: Agent,
    *,
    wallet: FakeWallet | None = None,
    concurrency: int = 2,
    finish_seconds: float = 5,
    reports: list[Report] | None = None,
) -> AsyncGenerator[Runner, None]:
    """A runner at that broker, listed and asking; stopped at the end of the `with`."""
    connection = BrokerConnection(
        "http://broker.test", key=PROVIDER, transport=broker.transport(), clock=lambda: NOW, sleep=at_once
    )
    runner = Runner(
        [agent],
        broker=Broker(connection),
        key=PROVIDER,
        wallet=wallet or FakeWallet(),
        concurrency=concurrency,
        finish_seconds=finish_seconds,
        tell=(reports if reports is not None else []).append,
    )
    serving = asyncio.create_task(runner.run())
    try:
        async with asyncio.timeout(5):
            await runner.ready.wait()
        yield runner
    finally:
        runner.stop()
        async with asyncio.timeout(10):
            await serving
        await connection.close()


def committed(body: dict[str, object]) -> Commitment:
    return read_commitment(SignedEvent.model_validate(body["commitment"]))[1]


async def test_a_task_is_listed_once_and_again_only_when_it_changes() -> None:
    broker = ProvidersBroker()
    async with running(broker, echo_agent()):
        pass
    async with running(broker, echo_agent()):
        pass
    assert len(broker.sent("/v1/listings")) == 1
    changed = Agent("echo")

    @changed.task(price=sats(11))
    async def echo(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Return the text unchanged."""
        return text

    async with running(broker, changed):
        pass
    assert broker.listed["echo"].version == 2
    first, second = (cast("dict[str, dict[str, int]]", body) for body in broker.sent("/v1/listings"))
    assert second["event"]["created_at"] > first["event"]["created_at"]


async def test_a_quote_is_answered_with_an_invoice_of_exactly_the_price_and_a_signed_commitment() -> None:
    broker, wallet = ProvidersBroker(), FakeWallet()
    async with running(broker, echo_agent(), wallet=wallet):
        broker.give(quote_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/answer")))
    commitment = committed(broker.sent("/answer")[0])
    assert (commitment.price_msat, commitment.payment_hash, commitment.quote_id) == (sats(10), HASH, QUOTE_ID)
    assert wallet.created == [(sats(10), 5_000, 80)]


async def test_the_final_time_lock_stays_within_what_the_broker_accepts() -> None:
    broker, wallet = ProvidersBroker(), FakeWallet()
    async with running(broker, echo_agent(), wallet=wallet):
        broker.give(quote_work({"text": "hi"}, max_final_cltv=40))
        await broker.until(lambda: bool(broker.sent("/answer")))
    assert wallet.created[0][2] == 40


async def test_the_same_quote_asked_twice_gets_the_same_commitment_and_one_invoice() -> None:
    broker, wallet = ProvidersBroker(), FakeWallet()
    async with running(broker, echo_agent(), wallet=wallet):
        broker.give(quote_work({"text": "hi"}), quote_work({"text": "hi"}))
        await broker.until(lambda: len(broker.sent("/answer")) == 2)
        broker.give(quote_work({"text": "hi"}))
        await broker.until(lambda: len(broker.sent("/answer")) == 3)
    assert len(wallet.created) == 1
    assert len({str(body) for body in broker.sent("/answer")}) == 1


async def test_a_second_commitment_to_another_input_of_the_same_quote_is_refused() -> None:
    broker, wallet = ProvidersBroker(), FakeWallet()
    async with running(broker, echo_agent(), wallet=wallet):
        broker.give(quote_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/answer")))
        broker.give(quote_work({"text": "something dear"}))
        await broker.until(lambda: bool(broker.sent("/refuse")))
    assert len(wallet.created) == 1
    assert len(broker.sent("/answer")) == 1


async def test_the_price_function_sees_the_arguments() -> None:
    agent = Agent("count")

    def price(text: str) -> Msat:
        return sats(len(text))

    @agent.task(price=price)
    async def count(text: str) -> int:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Count the characters."""
        return len(text)

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(quote_work({"text": "four"}))
        await broker.until(lambda: bool(broker.sent("/answer")))
    assert committed(broker.sent("/answer")[0]).price_msat == sats(4)


@pytest.mark.parametrize(
    ("value", "said"),
    [({"text": 5}, "text"), ({}, "text"), ({"text": "a", "more": 1}, "more"), ({"text": None}, "text")],
)
async def test_an_input_that_does_not_fit_is_refused_with_the_field_and_no_invoice(
    value: dict[str, str | int | None], said: str
) -> None:
    broker, wallet = ProvidersBroker(), FakeWallet()
    async with running(broker, echo_agent(), wallet=wallet):
        broker.give(quote_work({**value}))
        await broker.until(lambda: bool(broker.sent("/refuse")))
    assert said in str(broker.sent("/refuse")[0]["reason"])
    assert wallet.created == []


async def test_a_price_function_may_refuse_and_its_faults_stay_private() -> None:
    agent = Agent("picky")

    def price(text: str) -> Msat:
        if text == "refuse":
            raise TaskRefused("not that one")
        raise RuntimeError("secret token 123")

    @agent.task(price=price)
    async def picky(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Do little."""
        return text

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(quote_work({"text": "refuse"}), quote_work({"text": "break"}, quote_id=OTHER_QUOTE))
        await broker.until(lambda: len(broker.sent("/refuse")) == 2)
    reasons = {str(body["reason"]) for body in broker.sent("/refuse")}
    assert "not that one" in reasons
    assert not any("123" in reason for reason in reasons)


async def test_a_wallet_that_is_away_refuses_the_quote() -> None:
    def down() -> None:
        raise WalletUnreachable("no node at 10.0.0.7")

    broker = ProvidersBroker()
    async with running(broker, echo_agent(), wallet=FakeWallet(on_create=down)):
        broker.give(quote_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/refuse")))
    assert "10.0.0.7" not in str(broker.sent("/refuse")[0])


async def test_another_version_than_the_listed_one_is_refused() -> None:
    broker = ProvidersBroker()
    async with running(broker, echo_agent()):
        broker.give(quote_work({"text": "hi"}, version=2))
        broker.give(quote_work({"text": "hi"}, quote_id=OTHER_QUOTE, listing=listing_id(7)))
        await broker.until(lambda: len(broker.sent("/refuse")) == 2)


async def test_a_leased_job_is_run_and_its_result_delivered_without_a_heartbeat() -> None:
    broker = ProvidersBroker()
    async with running(broker, echo_agent()):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/deliver")))
    assert broker.sent("/deliver") == [{"epoch": 1, "result": "hi"}]
    assert broker.sent("/heartbeat") == []


async def test_a_plain_function_runs_beside_the_loop_and_tells_its_progress() -> None:
    agent = Agent("slow")
    go_on, threads = threading.Event(), list[str]()

    @agent.task(price=sats(1))
    def slow(text: str, job: JobContext) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take a while."""
        threads.append(threading.current_thread().name)
        job.progress(0.5, "half way")
        assert go_on.wait(5)
        return text

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/heartbeat")))
        go_on.set()
        await broker.until(lambda: bool(broker.sent("/deliver")))
    assert broker.sent("/heartbeat")[0] == {"epoch": 1, "progress": 0.5, "note": "half way"}
    assert threads == ["lightwork-slow"]


async def test_heartbeats_go_out_well_within_the_lease() -> None:
    agent, release = Agent("slow"), asyncio.Event()

    @agent.task(price=sats(1))
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take a while."""
        await release.wait()
        return text

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}, lease_seconds=1))
        await broker.until(lambda: len(broker.sent("/heartbeat")) >= 2, seconds=3)
        release.set()


class Boom(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (TaskRefused("I do not do that"), "task_refused", "I do not do that"),
        (TaskFailed("the printer is on fire"), "task_failed", "the printer is on fire"),
        (Boom("password=hunter2"), "task_failed", "the task raised Boom"),
        (KeyboardInterrupt(), "task_failed", "the task raised RuntimeError"),
    ],
)
async def test_what_a_task_raises_decides_what_the_buyer_reads(
    raised: BaseException, code: str, message: str
) -> None:
    agent = Agent("bad")

    @agent.task(price=sats(1))
    def bad(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Fail."""
        raise raised

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/fail")))
    assert broker.sent("/fail") == [{"epoch": 1, "code": code, "message": message}]


async def test_a_return_value_that_does_not_fit_fails_as_output_invalid() -> None:
    agent = Agent("liar")

    @agent.task(price=sats(1))
    async def liar(text: str) -> int:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Say a number."""
        return cast("int", text)

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/fail")))
    assert broker.sent("/fail")[0]["code"] == "output_invalid"


async def test_a_result_that_the_broker_refuses_fails_as_output_invalid() -> None:
    broker = ProvidersBroker(rules={"/deliver": lambda: problem(ProblemCode.OUTPUT_INVALID, 422)})
    async with running(broker, echo_agent()):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/fail")))
    assert broker.sent("/fail")[0]["code"] == "output_invalid"


async def test_a_delivery_is_tried_again_after_a_lost_connection() -> None:
    left = [httpx2.ReadError("gone"), httpx2.ConnectError("gone"), *[httpx2.ReadTimeout("gone")] * 6]
    broker = ProvidersBroker(rules={"/deliver": lambda: left.pop() if left else None})
    async with running(broker, echo_agent()):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/deliver")))
    assert left == []


async def test_a_lost_lease_drops_the_result_without_a_failure() -> None:
    reports: list[Report] = []
    broker = ProvidersBroker(rules={"/deliver": lease_lost})
    async with running(broker, echo_agent(), reports=reports):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/deliver")))
    assert broker.sent("/fail") == []
    assert [report.kind for report in reports if report.kind.startswith("job.")] == [
        "job.started",
        "job.lease_lost",
    ]


async def test_a_broker_that_says_stop_ends_the_work() -> None:
    agent, cancelled = Agent("slow"), asyncio.Event()

    @agent.task(price=sats(1))
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take for ever."""
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return text

    broker = ProvidersBroker(stop_at_heartbeat=True)
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}, lease_seconds=1))
        async with asyncio.timeout(5):
            await cancelled.wait()
    assert broker.sent("/deliver") + broker.sent("/fail") == []


async def test_a_task_that_takes_too_long_is_stopped_at_the_deadline_and_failed() -> None:
    agent = Agent("slow")

    @agent.task(price=sats(1), work_seconds=1)
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take for ever."""
        await asyncio.Event().wait()
        return text

    broker = ProvidersBroker()
    async with running(broker, agent):
        broker.give(job_work({"text": "hi"}, deadline=NOW))
        await broker.until(lambda: bool(broker.sent("/fail")))
    assert "within 1 seconds" in str(broker.sent("/fail")[0]["message"])


async def test_a_job_at_another_price_than_promised_is_refused() -> None:
    broker = ProvidersBroker()
    async with running(broker, echo_agent()):
        broker.give(quote_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/answer")))
        broker.give(job_work({"text": "hi"}, price=1))
        await broker.until(lambda: bool(broker.sent("/fail")))
    assert broker.sent("/fail")[0]["code"] == "task_refused"
    assert broker.sent("/deliver") == []


async def test_no_more_jobs_are_asked_for_than_slots_are_free_and_a_full_runner_still_answers_quotes() -> (
    None
):
    agent, release = Agent("slow"), asyncio.Event()

    @agent.task(price=sats(1))
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take a while."""
        await release.wait()
        return text

    broker = ProvidersBroker()
    async with running(broker, agent, concurrency=2):
        broker.give(*(job_work({"text": "hi"}, number=number) for number in range(3)))
        broker.give(quote_work({"text": "hi"}, quote_id=OTHER_QUOTE))
        await broker.until(lambda: bool(broker.sent("/answer")))
        assert len(broker.jobs) == 1
        assert max(poll.max_jobs for poll in broker.polls) == 2
        release.set()
        await broker.until(lambda: len(broker.sent("/deliver")) == 3)


async def test_a_stopping_runner_finishes_what_runs_and_asks_for_no_more() -> None:
    agent, started, release = Agent("slow"), asyncio.Event(), asyncio.Event()

    @agent.task(price=sats(1))
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take a while."""
        started.set()
        await release.wait()
        return text

    broker = ProvidersBroker()
    async with running(broker, agent) as runner:
        broker.give(job_work({"text": "hi"}))
        await started.wait()
        runner.stop()
        release.set()
        await broker.until(lambda: bool(broker.sent("/deliver")))
        broker.give(job_work({"text": "no more"}, number=2))
    assert len(broker.sent("/deliver")) == 1
    assert len(broker.jobs) == 1


async def test_work_that_does_not_end_in_time_is_given_back_when_the_runner_stops() -> None:
    agent, started = Agent("slow"), asyncio.Event()

    @agent.task(price=sats(1))
    async def slow(text: str) -> str:  # pyright: ignore[reportUnusedFunction]  (sold, not called)
        """Take for ever."""
        started.set()
        await asyncio.Event().wait()
        return text

    broker = ProvidersBroker()
    async with running(broker, agent, finish_seconds=0.05):
        broker.give(job_work({"text": "hi"}))
        await started.wait()
    assert broker.sent("/fail")[0]["message"] == "the provider stopped before the task was done"


async def test_a_broker_that_goes_away_is_asked_again_until_it_is_back() -> None:
    left = [httpx2.ConnectError("gone")] * 12
    reports: list[Report] = []
    broker = ProvidersBroker(rules={"/poll": lambda: left.pop() if left else None})
    async with running(broker, echo_agent(), reports=reports):
        broker.give(job_work({"text": "hi"}))
        await broker.until(lambda: bool(broker.sent("/deliver")))
    assert [report.kind for report in reports].count("broker.away") >= 1
    assert "broker.back" in [report.kind for report in reports]


async def test_a_key_that_the_broker_does_not_accept_ends_the_runner() -> None:
    broker = ProvidersBroker(rules={"/poll": lambda: problem(ProblemCode.AUTH_STALE, 401)})
    connection = BrokerConnection(
        "http://broker.test", key=PROVIDER, transport=broker.transport(), clock=lambda: NOW, sleep=at_once
    )
    runner = Runner([echo_agent()], broker=Broker(connection), key=PROVIDER, wallet=FakeWallet())
    with pytest.raises(AuthRefused):
        async with asyncio.timeout(5):
            await runner.run()
    await connection.close()


async def test_a_broker_that_started_again_and_takes_no_earlier_signature_is_asked_again() -> None:
    left: list[httpx2.Response] = []
    broker = ProvidersBroker(rules={"/poll": lambda: left.pop() if left else None})
    async with running(broker, echo_agent()):
        broker.give(job_work({"text": "one"}))
        await broker.until(lambda: len(broker.sent("/deliver")) == 1)
        left.extend(problem(ProblemCode.AUTH_STALE, 401) for _ in range(12))
        # The first of these ends the question that was open already; the second needs a new one.
        for number in (2, 3):
            broker.give(job_work({"text": "again"}))
            await broker.until(lambda number=number: len(broker.sent("/deliver")) == number)
    assert left == []
