"""Whatever buyers, sellers, faults, crashes, blocks and clocks do: the whole broker loses nobody a msat.

A Hypothesis state machine plays operations on the application as it is shipped, over its HTTP API, on the simulated
network as it is shipped, in virtual time; after each one every invariant is checked. In CI the same examples run
each time. `LIGHTWORK_TEST_PROFILE=nightly` runs fresh ones, and many more; see `make properties`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
from fast_folder import fast_folder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kill_matrix.run_cell import make_template
from market_machine.books import Books, SqliteBooks
from market_machine.mailboxes import MODES
from market_machine.nature import FAULTS, METHODS
from market_machine.operations import Op
from market_machine.regressions import SCRIPTS, Script
from market_machine.story import Story, open_story, play_script
from market_machine.withdrawing import WAYS

from lightwork_broker.lightning.simulated import Fault

NIGHTLY = os.environ.get("LIGHTWORK_TEST_PROFILE") == "nightly"
EXAMPLES = int(os.environ.get("LIGHTWORK_MACHINE_EXAMPLES", "2000" if NIGHTLY else "60"))
STEPS = 60 if NIGHTLY else 45
EXPECTED = {
    *(f"job {status}" for status in (
        "quoted", "open", "funded", "working", "delivered", "disputed", "releasing", "refunding", "settled",
        "refunded", "expired",
    )),
    *(f"escrow {state}" for state in (
        "created", "open", "accepted", "releasing", "forwarding", "forwarded", "settling", "canceling", "settled",
        "canceled",
    )),
    *(f"withdrawal {status}" for status in ("paying", "paid", "failed")),
}  # fmt: skip
"""What a run must come to. `returned`, `exposed` and `lost` take an outage at a bad time: see the regressions."""
MISSED = 2
"""Kinds of faults, and of receivers, that a run may miss by chance: each has a script of its own."""

LEAST_EXAMPLES = 60
"""With fewer, a run by hand says nothing of what the machine comes to."""

CREDIT_DEALS = (8, 9, 12, 13)
"""Deals that are paid in credit mode, and accepted by themselves."""

ILL = tuple(MODES.index(mode) for mode in dict.fromkeys(MODES) if mode != "up")
"""How a receiver can be that is not simply up."""
HELD = WAYS.index("held")
REVIEWED = 2
"""A deal whose result the buyer may reject."""

CALLED = tuple(METHODS.index(name) for name in ("pay", "settle", "add_hold", "summary", None))
"""Calls that a deal makes, so that what is planned for them strikes."""

number = st.integers(0, 119)


class MarketMachine(RuleBasedStateMachine):
    """Its rules are the operations of `market_machine.operations`; what they do is written there."""

    books: Books
    folder: Path
    seen: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._broken = False
        self.story: Story = self._stack.enter_context(open_story(self.folder, books=self.books))
        self._diligent = True

    @initialize(diligent=st.booleans())
    def open_the_market(self, *, diligent: bool) -> None:
        self._diligent = diligent
        self._judge(self.story.begin())

    def teardown(self) -> None:
        try:
            if not self._broken:
                self._judge(self.story.end(diligent=self._diligent))
            MarketMachine.seen |= self.story.reached
        finally:
            self._stack.close()

    def _play(self, name: str, a: int = 0, b: int = 0) -> None:
        self._judge(self.story.play(Op(name, a, b)))

    def _judge(self, breaches: list[str]) -> None:
        if breaches:
            self._broken = True
            told = "\n".join(breaches)
            raise AssertionError(f"{told}\nthe script: {self.story.played}, diligent={self._diligent}")

    @property
    def lives(self) -> bool:
        return self.story.world.house.lives

    # --- trading ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def deal(self, a: int, b: int) -> None:
        self._play("deal", a, b)

    @precondition(lambda self: self.lives)
    @rule(a=number, stage=st.sampled_from((2, 3, 3, 3)), held=st.sampled_from((0, 0, 10)))
    def deep_deal(self, a: int, stage: int, held: int) -> None:
        self._play("deal", a, held + stage)

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def quote(self, a: int, b: int) -> None:
        self._play("quote", a, b)

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def hire_at_once(self, a: int, b: int) -> None:
        self._play("hire_at_once", a, b)

    @precondition(lambda self: self.lives and bool(self.story.world.quotes))
    @rule(a=number, b=number)
    def hire(self, a: int, b: int) -> None:
        self._play("hire", a, b)

    @precondition(lambda self: self.has_job)
    @rule(a=number, b=number)
    def pay(self, a: int, b: int) -> None:
        self._play("pay", a, b)

    @precondition(lambda self: self.lives and self.has_job)
    @rule(a=number, b=number)
    def serve(self, a: int, b: int) -> None:
        self._play("serve", a, b)

    @precondition(lambda self: self.lives and self.has_job)
    @rule(a=number, b=number)
    def work(self, a: int, b: int) -> None:
        self._play("work", a, b)

    @precondition(lambda self: self.lives and self.has_job)
    @rule(a=number, b=number)
    def decide(self, a: int, b: int) -> None:
        self._play("decide", a, b)

    @precondition(lambda self: self.lives)
    @rule(b=number)
    def reject_or_rule(self, b: int) -> None:
        if not self.has("delivered", "disputed"):
            self._play("deal", REVIEWED, 3)
        self._play("rule", 0, b)

    @precondition(lambda self: self.lives and self.has_job)
    @rule(a=number, b=number)
    def meddle(self, a: int, b: int) -> None:
        self._play("meddle", a, b)

    @precondition(lambda self: self.lives and self.has_job)
    @rule(a=number, b=number)
    def race(self, a: int, b: int) -> None:
        self._play("race", a, b)

    @precondition(lambda self: any(seller.held for seller in self.story.world.sellers))
    @rule(a=number, b=number)
    def wallet(self, a: int, b: int) -> None:
        self._play("wallet", a, b)

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def withdraw(self, a: int, b: int) -> None:
        self._play("withdraw", a, b)

    @precondition(lambda self: self.lives)
    @rule(deal=st.sampled_from(CREDIT_DEALS), b=number)
    def earn_and_withdraw(self, deal: int, b: int) -> None:
        self._play("deal", deal, 3)
        self._play("withdraw", 0, b)

    @precondition(lambda self: self.lives)
    @rule(deal=st.sampled_from(CREDIT_DEALS), b=number)
    def withdraw_to_a_wallet_that_decides_later(self, deal: int, b: int) -> None:
        self._play("deal", deal, 3)
        self._play("withdraw", 1, HELD)
        self._play("wallet", 0, b)

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def change_the_offer(self, a: int, b: int) -> None:
        self._play("retire" if a % 3 == 0 else "publish", a // 3, b)

    @precondition(lambda self: self.lives)
    @rule(a=number)
    def read(self, a: int) -> None:
        self._play("read", a)

    @property
    def has_job(self) -> bool:
        return bool(self.story.world.books.rows("SELECT id FROM job LIMIT 1"))

    def has(self, *statuses: str) -> bool:
        return any(job["status"] in statuses for job in self.story.world.jobs())

    # --- webhooks ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.lives)
    @rule(what=st.sampled_from(("subscribe", "unsubscribe")), a=number, b=number)
    def subscription(self, what: str, a: int, b: int) -> None:
        self._play(what, a, b)

    @rule(a=number, b=number)
    def receiver(self, a: int, b: int) -> None:
        self._play("receiver", a, b)

    @precondition(lambda self: self.lives)
    @rule(who=st.integers(1, 3), mode=st.sampled_from(ILL), deal=number, stage=st.integers(2, 3))
    def deal_of_which_a_receiver_hears(self, who: int, mode: int, deal: int, stage: int) -> None:
        self._play("receiver", who, mode)
        self._play("deal", deal, stage)

    # --- what goes wrong --------------------------------------------------------------------------------

    @rule(method=st.integers(0, 3 * len(METHODS) - 1), kind=st.integers(0, len(FAULTS) - 1))
    def fault(self, method: int, kind: int) -> None:
        self._play("fault", method, kind)

    @precondition(lambda self: self.lives)
    @rule(a=number, method=st.sampled_from(CALLED), kind=st.integers(0, len(FAULTS) - 1))
    def deal_in_bad_weather(self, a: int, method: int, kind: int) -> None:
        self._play("fault", method, kind)
        self._play("deal", a, 3)

    @rule(a=number, b=number)
    def node(self, a: int, b: int) -> None:
        self._play("node", a, b)

    @precondition(lambda self: not self.story.world.state("broker").serves)
    @rule()
    def node_comes_back(self) -> None:
        self._play("node", 0, 1)

    @rule(b=number)
    def road(self, b: int) -> None:
        self._play("road", 0, b)

    @precondition(lambda self: self.lives)
    @rule()
    def kill(self) -> None:
        self._play("kill")

    @precondition(lambda self: self.lives)
    @rule(a=number, b=number)
    def kill_at(self, a: int, b: int) -> None:
        self._play("kill_at", a, b)

    @precondition(lambda self: not self.lives)
    @rule()
    def start(self) -> None:
        self._play("start")

    @precondition(lambda self: not self.lives)
    @rule()
    def start_again(self) -> None:
        self._play("start")

    @precondition(lambda self: self.has_job)
    @rule()
    def keep(self) -> None:
        self._play("keep")

    @precondition(lambda self: self.story.world.house.may_restore)
    @rule()
    def restore(self) -> None:
        self._play("restore")

    # --- time -------------------------------------------------------------------------------------------

    @rule(a=number, b=number)
    def mine(self, a: int, b: int) -> None:
        self._play("mine", a, b)

    @rule(a=number)
    def wait(self, a: int) -> None:
        self._play("wait", a)

    @rule(a=st.integers(0, 8))
    def wait_a_little(self, a: int) -> None:
        self._play("wait", a)

    @rule(a=number)
    def jump(self, a: int) -> None:
        self._play("jump", a)

    @precondition(lambda self: self.lives)
    @rule()
    def look(self) -> None:
        self._play("look")
        self._play("again")


@pytest.fixture(scope="module")
def place() -> Generator[tuple[Books, Path]]:
    """A migrated database, and a folder for markets: one after the other uses it."""
    with fast_folder() as folder, tempfile.TemporaryDirectory(dir=folder) as market:
        yield SqliteBooks(Path(market), template=make_template(folder)), Path(market)


@pytest.mark.timeout(0)
def test_nothing_that_happens_to_a_market_costs_anybody_money(place: tuple[Books, Path]) -> None:
    MarketMachine.books, MarketMachine.folder = place
    run_state_machine_as_test(
        MarketMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=not NIGHTLY,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if EXAMPLES >= LEAST_EXAMPLES:
        assert EXPECTED - MarketMachine.seen == set(), "the machine does not come to where it should"
        for kinds in ({f"fault {fault.name}" for fault in Fault}, {f"receiver {mood}" for mood in MODES}):
            missed = kinds - MarketMachine.seen - {"receiver moody"}
            assert len(missed) <= MISSED, f"too much never happens: {missed}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_what_once_went_wrong_goes_well(place: tuple[Books, Path], script: Script) -> None:
    books, folder = place
    played = play_script(script.operations, folder, books=books, diligent=script.diligent)
    assert played.breaches == []
    assert script.reaches <= played.reached
