"""A signed request counts once, within a bounded memory."""

from __future__ import annotations

import pytest

from lightwork_contracts.errors import AuthError
from lightwork_contracts.signed.replay import ReplayGuard

START = 1_700_000_000


def name(number: int) -> str:
    return f"{number:064x}"


def refused(guard: ReplayGuard, number: int, *, created_at: int, now: int) -> str:
    with pytest.raises(AuthError) as caught:
        guard.claim(name(number), created_at=created_at, now=now)
    return caught.value.code


def test_an_event_is_taken_once_as_long_as_its_signature_is_fresh() -> None:
    guard = ReplayGuard(started_at=START)
    guard.claim(name(1), created_at=START + 30, now=START)
    for now in (START, START + 30, START + 89, START + 90):
        assert refused(guard, 1, created_at=START + 30, now=now) == "auth_replayed"
    assert refused(guard, 1, created_at=START + 30, now=START + 91) == "auth_stale"


def test_different_events_of_one_second_are_all_taken() -> None:
    guard = ReplayGuard(started_at=START)
    for number in range(100):
        guard.claim(name(number), created_at=START, now=START)
    assert len(guard) == 100


def test_what_was_signed_before_the_guard_began_is_refused() -> None:
    guard = ReplayGuard(started_at=START)
    assert refused(guard, 1, created_at=START - 1, now=START + 1) == "auth_stale"


def test_what_is_outside_the_window_is_refused_in_both_directions() -> None:
    guard = ReplayGuard(started_at=START, window_seconds=10)
    assert refused(guard, 1, created_at=START + 11, now=START) == "auth_stale"
    assert refused(guard, 1, created_at=START, now=START + 11) == "auth_stale"


def test_a_full_guard_refuses_instead_of_forgetting_and_recovers_when_the_window_has_passed() -> None:
    guard = ReplayGuard(started_at=START, window_seconds=10, capacity=3)
    for number in range(3):
        guard.claim(name(number), created_at=START, now=START)
    assert refused(guard, 3, created_at=START, now=START) == "auth_guard_full"
    assert refused(guard, 0, created_at=START, now=START) == "auth_replayed"
    guard.claim(name(4), created_at=START + 11, now=START + 11)
    assert len(guard) == 1


def test_memory_stays_bounded_over_a_long_time() -> None:
    guard = ReplayGuard(started_at=START, window_seconds=5)
    for second in range(1000):
        guard.claim(name(second), created_at=START + second, now=START + second)
        assert len(guard) <= 6


def test_a_clock_set_back_does_not_make_a_forgotten_event_new() -> None:
    guard = ReplayGuard(started_at=START, window_seconds=10)
    guard.claim(name(1), created_at=START, now=START)
    guard.claim(name(2), created_at=START + 100, now=START + 100)
    assert refused(guard, 1, created_at=START, now=START) == "auth_stale"
