"""What an author's test can rely on: money to the msat, refunds, time-outs, faults, and nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import threading
from pathlib import Path

import pytest
from e2e_waiting import until

from lightwork import Acceptance, Agent, JobFailed, TaskFailed, sats
from lightwork.errors import LightworkError
from lightwork.testing import local_market, local_market_sync
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.status import JobStatus

PRICE = 10_000


def _agent() -> Agent:
    agent = Agent("tester")

    @agent.task(price=sats(10), work_seconds=60)
    async def echo(text: str) -> str:
        """Return the text unchanged."""
        return text

    @agent.task(price=sats(10))
    async def refuse(text: str) -> str:
        """Never do it."""
        raise TaskFailed("no")

    @agent.task(price=sats(10), acceptance=Acceptance.REVIEW, review_seconds=60)
    async def draft(text: str) -> str:
        """Return a draft that the buyer looks at."""
        return text

    return agent


async def test_a_hire_is_paid_to_the_msat_and_its_history_is_whole() -> None:
    async with local_market(_agent()) as market:
        job = await market.hire("echo", text="hi")
        assert (job.result, job.status) == ("hi", JobStatus.SETTLED)
        balances = await market.balances()
        assert (balances.buyer, balances.provider) == (-job.paid_msat, PRICE)
        kinds = [event.kind for event in await market.history(job.id)]
        assert kinds[0] == "job.quoted"
        assert kinds[-1] == "job.settled"
        assert [event.seq for event in await market.history(job.id)] == list(range(1, len(kinds) + 1))


async def test_the_hash_that_is_told_at_the_delivery_is_that_of_the_result_that_is_handed_out() -> None:
    async with local_market(_agent()) as market:
        job = await market.hire("draft", text="hi")
        events = await market.history(job.id)
    kinds = [event.kind for event in events]
    told = events[kinds.index("job.delivered")].data["result_hash"]
    assert told == hashlib.sha256(canonical_json(job.result)).hexdigest()
    assert kinds.index("job.delivered") < kinds.index("job.settled")


async def test_a_failing_task_gives_everything_back() -> None:
    async with local_market(_agent()) as market:
        with pytest.raises(JobFailed):
            await market.hire("refuse", text="hi")
        balances = await market.balances()
        assert (balances.buyer, balances.provider) == (0, 0)


async def test_a_result_under_review_is_accepted_and_paid() -> None:
    async with local_market(_agent()) as market:
        assert (await market.hire("draft", text="hi")).result == "hi"
        assert (await market.balances()).provider == PRICE


@pytest.mark.parametrize("name", ["lost_after", "unknown_outcome", "duplicate", "restart", "late_answer"])
@pytest.mark.parametrize("call", ["pay", "settle"])
async def test_a_fault_of_the_brokers_node_costs_nobody_anything(name: str, call: str) -> None:
    async with local_market(_agent()) as market:
        market.fault(name, call=call, seconds=0.1)
        job = await market.hire("echo", text="hi")
        balances = await market.balances()
        assert (balances.buyer, balances.provider) == (-job.paid_msat, PRICE)


async def test_a_node_that_is_down_for_a_while_is_waited_for() -> None:
    async with local_market(_agent()) as market:
        market.fault("node_down", call="pay")
        hiring = asyncio.create_task(market.hire("echo", text="hi"))

        async def is_down() -> bool:
            try:
                await market.market.quote("echo", text="another")
            except LightworkError:
                return True
            return False

        await until(is_down, what="the node has gone down")
        assert not hiring.done()
        market.revive()
        assert (await asyncio.wait_for(hiring, 60)).result == "hi"


async def test_a_fault_that_does_not_exist_is_refused_with_the_names_that_do() -> None:
    async with local_market() as market:
        with pytest.raises(ValueError, match=r"there is no fault 'earthquake'; there are: .*lost_after"):
            market.fault("earthquake")


async def test_blocks_are_mined_and_time_passes() -> None:
    async with local_market(_agent()) as market:
        height = market.mine(1)
        assert market.mine(3) == height + 3
        await market.advance(3_600)
        assert (await market.hire("echo", text="later")).result == "later"


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    with local_market_sync(_agent()) as market:
        assert market.hire("echo", text="hi").result == "hi"
        assert list(tmp_path.iterdir()) != []
    assert list(tmp_path.iterdir()) == []
    assert [thread.name for thread in set(threading.enumerate()) - threads] == []


def test_two_markets_at_once_do_not_know_each_other() -> None:
    with local_market_sync(_agent()) as first, local_market_sync(_agent()) as second:
        first.hire("echo", text="hi")
        assert first.balances().provider == PRICE
        assert second.balances().provider == 0
