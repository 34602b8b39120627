"""Playing operations on a market, one after the other, with every check after each, and bringing it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog.testing
from kill_matrix.process import owned_task
from kill_matrix.steps import Steps
from kill_matrix.watched import Life
from market_machine import nature, subscribing
from market_machine.books import Books
from market_machine.checks import Checks
from market_machine.clocks import StridingLoop
from market_machine.ending import bring_to_end
from market_machine.operations import Op, perform
from market_machine.sayings import Sayings
from market_machine.world import World, make_world

from lightwork_broker.audit import audit, compare_with_node
from lightwork_broker.lightning.ports import InvoiceState

PATIENCE_SECONDS = 200.0
"""How long nothing may stand in the broker's way before what is left undone is its own fault."""


@dataclass
class Story:
    """One market from its first operation to its end. Make it with `open_story`."""

    runner: asyncio.Runner
    world: World
    checks: Checks
    sayings: Sayings
    played: list[Op] = field(default_factory=list[Op])
    fair_seconds: dict[str, float] = field(default_factory=dict[str, float])
    """For each payout that was made and whose escrow is not settled yet: how long the broker could have."""
    _audited: object = None

    def begin(self) -> list[str]:
        """Start the broker and let everybody publish."""

        async def work() -> None:
            await self.world.house.start()
            for seller in self.world.sellers:
                for variant in (0, 1):
                    await seller.publish(variant)
            await subscribing.begin(self.world)

        return self._do(work)

    def play(self, op: Op) -> list[str]:
        """Do one operation, let everything come to rest, and return every breach so far."""
        self.played.append(op)
        return self._do(lambda: perform(self.world, op))

    def end(self, *, diligent: bool) -> list[str]:
        """Heal everything, let time pass until all is over, and return every breach."""
        return self._do(lambda: bring_to_end(self.world, self.checks, diligent=diligent, watch=self._watch))

    @property
    def breaches(self) -> list[str]:
        world = self.world
        return [
            *world.judge.breaches,
            *world.house.breaches,
            *world.desk.breaches,
            *world.office.breaches,
        ]

    @property
    def reached(self) -> set[str]:
        """Every status and state that was ever written, every fault that struck, and what receivers did."""
        faults = {f"fault {fault.name}" for fault in self.world.weather.struck}
        return self.checks.reached | faults | {f"receiver {mood}" for mood in self.world.office.saw}

    # --- after each operation ---------------------------------------------------------------------------

    def _do(self, work: Callable[[], Any]) -> list[str]:
        restored = self.world.house.restored

        async def all_of_it() -> None:
            begun, fair = asyncio.get_running_loop().time(), nature.is_fair(self.world)
            await work()
            await self.world.calm()
            if self.world.house.restored != restored:
                self.checks.forget()
                self.world.office.forget()
                self._audited = None
            fair = fair and nature.is_fair(self.world)
            self._watch(asyncio.get_running_loop().time() - begun if fair else 0.0)
            self.checks.look()
            self.world.office.look()
            await self._audit()

        with structlog.testing.capture_logs() as logs:
            self.runner.run(all_of_it())
        self.sayings.read(logs, self.checks)
        return self.breaches

    def _watch(self, seconds: float) -> None:
        """Count for how long the broker could have settled what it has paid for; a loss before is excused."""
        checks = self.checks
        for row in self.world.books.rows("SELECT payment_hash, state FROM escrow WHERE credited_to IS NULL"):
            payment_hash, state = row["payment_hash"], row["state"]
            hold, payment = checks.hold(payment_hash), checks.payment(payment_hash)
            if hold is None or payment is None or state in ("settled", "lost"):
                self.fair_seconds.pop(payment_hash, None)
            elif checks.succeeded(payment_hash) and hold.state is InvoiceState.ACCEPTED:
                fair = self.fair_seconds.get(payment_hash, 0.0) + seconds
                self.fair_seconds[payment_hash] = fair
                if fair > PATIENCE_SECONDS:
                    checks.breach("I38 a provider is paid, and the buyer's HTLC waits although all is well")
            canceled = hold is not None and hold.state is InvoiceState.CANCELED
            if canceled and self.fair_seconds.get(payment_hash, 0.0) <= PATIENCE_SECONDS:
                checks.excused.add(payment_hash)

    async def _audit(self) -> None:
        """Let the broker's own audit look, past the process that may be dead."""
        world = self.world
        database = world.books.open(Life(Steps(now=world.clock.now)))
        try:
            version = world.books.version()
            if version != self._audited:
                self._audited = version
                for breach in (await audit(database)).breaches:
                    self.checks.breach(f"audit: {breach}")
            if world.state("broker").serves:
                with world.weather.calm():
                    seen = await compare_with_node(database, world.network.node("broker"))
                    for breach in seen.breaches:
                        self.checks.breach(f"audit --node: {breach}")
        finally:
            await database.close()


@contextmanager
def open_story(folder: Path, *, books: Books) -> Generator[Story]:
    """Make a market in a folder, in a loop of its own, and take it down."""
    with asyncio.Runner(loop_factory=lambda: StridingLoop(coarseness=books.coarseness)) as runner:
        runner.get_loop().set_task_factory(owned_task)

        async def make() -> World:
            return make_world(folder, books=books)

        world = runner.run(make())
        try:
            yield Story(runner, world, Checks(world), Sayings(world))
        finally:
            with structlog.testing.capture_logs():
                runner.run(world.house.kill())
            world.books.close()


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a script: every breach, after the operation that brought it, and the states that were reached."""

    breaches: list[str]
    reached: set[str]


def play_script(script: Iterable[Op], folder: Path, *, books: Books, diligent: bool = True) -> Played:
    """Play a list of operations to the end, or to the first breach."""
    with open_story(folder, books=books) as story:
        breaches = story.begin()
        for op in script:
            if breaches:
                break
            breaches = story.play(op)
        if not breaches:
            return Played(story.end(diligent=diligent), story.reached)
        return Played([f"after {story.played[-1:]}:", *breaches], story.reached)
