"""The monkey: strikes at victims as they are drawn, several at once, and sees to it that each comes back."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.ground import Ground
from chaos.report import say
from chaos.strikes import Deed, Strike, Victim

AT_ONCE = 3


@dataclass(frozen=True, slots=True)
class Struck:
    """One strike that was made. Seconds: how long the victim was down, and how long until it served again."""

    victim: str
    deed: Deed
    down_seconds: float
    back_seconds: float


class Monkey:
    """Strikes until its time is over; a victim that is still down or still is left alone."""

    def __init__(self, ground: Ground, strikes: Iterator[Strike]) -> None:
        self._ground = ground
        self._strikes = strikes
        self._busy: set[Victim] = set()
        self._under_way: set[asyncio.Task[None]] = set()
        self.struck: list[Struck] = []

    async def run(self, *, seconds: float) -> None:
        """Strike for so long, and return when everything that was struck is back.

        Raises:
            AssertionError: a victim does not come back.
        """
        ends = time.monotonic() + seconds
        for strike in self._strikes:
            if time.monotonic() + strike.pause >= ends:
                break
            await asyncio.sleep(strike.pause)
            if strike.victim in self._busy or len(self._busy) >= AT_ONCE:
                continue
            if strike.victim is not None:
                self._busy.add(strike.victim)
            task = asyncio.create_task(self._strike(strike))
            self._under_way.add(task)
            for done in [task for task in self._under_way if task.done()]:
                self._under_way.discard(done)
                done.result()
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        await asyncio.gather(*self._under_way)

    async def _strike(self, strike: Strike) -> None:
        say(f"  {strike}")
        victim, back = strike.victim, 0.0
        if victim is None:
            await self._ground.mine(strike.blocks)
        elif strike.deed is Deed.FREEZE:
            broker = self._ground.broker(victim)
            broker.signal(signal.SIGSTOP)
            await asyncio.sleep(strike.lasts)
            broker.signal(signal.SIGCONT)
        else:
            await self._ground.down(victim)
            if self._ground.has_broken(victim):
                say(f"  {victim} had failed a channel of its own")
            await asyncio.sleep(strike.lasts)
            back = await self._ground.up(victim)
        if victim is not None:
            self._busy.discard(victim)
        self.struck.append(
            Struck(
                victim="all" if victim is None else victim.value,
                deed=strike.deed,
                down_seconds=strike.lasts if victim is not None else 0,
                back_seconds=back,
            )
        )
