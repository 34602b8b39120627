"""Whatever happens to two brokers on one PostgreSQL database: together they lose nobody a msat.

The operations and checks of `test_market_under_faults.py`, on a real server. Which broker's transaction comes first is
the server's choice, so a list of operations is drawn before it is played: what it leads to need not be the same twice.
`LIGHTWORK_TEST_PROFILE=nightly` plays fresh ones, and many more; see `make properties`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from fast_folder import fast_folder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from market_machine.books import Books, ServerBooks
from market_machine.mailboxes import MODES
from market_machine.nature import FAULTS, METHODS
from market_machine.operations import Op
from market_machine.regressions import SCRIPTS, SHARED_SCRIPTS, Script
from market_machine.story import play_script
from market_machine.withdrawing import WAYS
from postgres_server import PostgresServer

NIGHTLY = os.environ.get("LIGHTWORK_TEST_PROFILE") == "nightly"
EXAMPLES = int(os.environ.get("LIGHTWORK_MACHINE_EXAMPLES", "400" if NIGHTLY else "16"))
CALLED = tuple(METHODS.index(name) for name in ("pay", "settle", "add_hold", "summary", None))
OFTEN = (
    "deal", "pay", "serve", "work", "work", "decide", "race", "race", "rule", "withdraw", "wallet", "meddle", "hire",
    "kill", "kill_at", "kill_at", "start", "start", "start", "wait", "mine", "node", "fault", "jump", "receiver",
    "subscribe", "unsubscribe", "line", "again", "look", "read", "keep", "restore", "quote", "hire_at_once", "road",
    "publish",
)  # fmt: skip

number = st.integers(0, 119)


def _ops(name: st.SearchStrategy[str], a: st.SearchStrategy[int], b: st.SearchStrategy[int]):
    return st.builds(Op, name, a, b)


kind = st.integers(0, len(FAULTS) - 1)
deep_deal = _ops(st.just("deal"), number, st.sampled_from((2, 3, 3, 13)))
steps = st.one_of(
    _ops(st.sampled_from(OFTEN), number, number).map(lambda op: (op,)),
    _ops(st.sampled_from(OFTEN), number, number).map(lambda op: (op,)),
    deep_deal.map(lambda op: (op,)),
    st.tuples(_ops(st.just("fault"), st.sampled_from(CALLED), kind), deep_deal),
    st.tuples(
        _ops(st.just("deal"), st.sampled_from((8, 9, 12, 13)), st.just(3)),
        _ops(st.just("withdraw"), st.just(1), st.integers(0, len(WAYS) - 1)),
    ),
    st.tuples(_ops(st.just("receiver"), st.integers(1, 3), st.integers(0, len(MODES) - 1)), deep_deal),
    st.tuples(_ops(st.just("kill_at"), number, number), deep_deal),
)
scripts = st.lists(steps, min_size=6, max_size=30).map(lambda parts: [op for part in parts for op in part])


@pytest.fixture(scope="module")
def place() -> Generator[tuple[Books, Path]]:
    """A migrated database on a server, and a folder for markets: one after the other uses it."""
    with fast_folder() as folder, tempfile.TemporaryDirectory(dir=folder) as market:
        server = PostgresServer(folder)
        server.start()
        try:
            books = ServerBooks(server)
            yield books, Path(market)
            books.end()
        finally:
            server.stop()


@pytest.mark.timeout(0)
@given(script=scripts, diligent=st.booleans())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not NIGHTLY,
    database=None,
    # Shrinking asks for the same outcome of the same list, which the server does not promise; it costs hours, too.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_nothing_that_happens_to_two_brokers_costs_anybody_money(
    place: tuple[Books, Path], script: list[Op], diligent: bool
) -> None:
    books, folder = place
    played = play_script(script, folder, books=books, diligent=diligent)
    assert played.breaches == [], f"the script: {script}, diligent={diligent}"


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "script", [*SHARED_SCRIPTS, *(SCRIPTS if NIGHTLY else ())], ids=lambda script: script.name
)
def test_what_two_brokers_do_at_once_goes_well(place: tuple[Books, Path], script: Script) -> None:
    books, folder = place
    played = play_script(script.operations, folder, books=books, diligent=script.diligent)
    assert played.breaches == []
    if script in SHARED_SCRIPTS:
        assert script.reaches <= played.reached
