"""How many requests of one key are under way."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from lightwork_broker.errors import Overloaded
from lightwork_broker.identity.at_once import AtOnce
from lightwork_contracts.ids import Pubkey

ONE, OTHER = Pubkey("ab" * 32), Pubkey("cd" * 32)


def _ask(places: AtOnce, key: Pubkey) -> None:
    with places.one_more(key):
        pass


def _fail(places: AtOnce) -> None:
    with places.one_more(ONE):
        raise ZeroDivisionError


def test_a_key_that_has_taken_all_its_places_is_refused_and_others_are_not() -> None:
    places = AtOnce(2)
    with places.one_more(ONE), places.one_more(ONE):
        with pytest.raises(Overloaded):
            _ask(places, ONE)
        _ask(places, OTHER)
    _ask(places, ONE)


def test_a_place_comes_back_however_the_request_ends_and_takes_no_memory() -> None:
    places = AtOnce(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            _fail(places)
    _ask(places, ONE)
    assert places.keys == 0


def test_without_a_limit_nothing_is_refused() -> None:
    places = AtOnce(0)
    with ExitStack() as held:
        for _ in range(1_000):
            held.enter_context(places.one_more(ONE))
