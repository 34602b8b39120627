"""Rates: fair in the long run, generous with bursts, and bounded in memory."""

from __future__ import annotations

import pytest
from escrow_world import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from lightwork_broker.errors import Overloaded
from lightwork_broker.rate_limit import BURST_SECONDS, MAX_BUCKETS, RateLimit


def test_a_burst_goes_through_and_then_only_the_rate() -> None:
    clock = ManualClock()
    limit = RateLimit(clock=clock, per_second=10)
    assert sum(limit.take("a") for _ in range(100)) == 10 * BURST_SECONDS
    clock.time += 1
    assert sum(limit.take("a") for _ in range(100)) == 10
    with pytest.raises(Overloaded):
        limit.require("a")
    assert limit.take("b"), "another name has its own"


def test_zero_is_no_limit() -> None:
    limit = RateLimit(clock=ManualClock(), per_second=0)
    assert all(limit.take("a") for _ in range(10_000))


def test_a_clock_that_is_put_back_neither_gives_nor_takes() -> None:
    clock = ManualClock()
    limit = RateLimit(clock=clock, per_second=1)
    while limit.take("a"):
        pass
    clock.time -= 3_600
    assert not limit.take("a")
    clock.time += 1
    assert limit.take("a")


def test_however_many_names_ask_the_memory_is_bounded() -> None:
    limit = RateLimit(clock=ManualClock(), per_second=1)
    for number in range(MAX_BUCKETS + 100):
        limit.take(str(number))
    assert len(limit._buckets) == MAX_BUCKETS


@given(pauses=st.lists(st.floats(0, 5), min_size=1, max_size=200), rate=st.integers(1, 20))
def test_in_no_stretch_of_time_does_more_than_burst_and_rate_get_through(
    pauses: list[float], rate: int
) -> None:
    clock = ManualClock()
    limit = RateLimit(clock=clock, per_second=rate)
    begun, taken = clock.now(), 0
    for pause in pauses:
        clock.time += pause
        taken += limit.take("a")
        assert taken <= rate * BURST_SECONDS + (clock.now() - begun) * rate + 1
