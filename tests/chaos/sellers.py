"""Who sells: two honest providers, one on credit, and one that does everything wrong."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

from chaos.ground import Ground
from chaos.rogue import Rogue

from lightwork import Acceptance, Agent, Msat, TaskFailed, TaskRefused, sats
from lightwork.broker import Broker
from lightwork.connection import Backoff, BrokerConnection
from lightwork.runner import Runner
from lightwork_contracts.signed.keys import SecretKey

READY_SECONDS = 30.0


def by_text(text: str) -> Msat:
    """A price that differs from job to job, and is no whole number of satoshis."""
    return Msat(sats(5) + 7 * len(text))


honest = Agent("honest")
on_credit = Agent("on-credit")


@honest.task(price=by_text, work_seconds=20)
async def deliver(text: str) -> str:
    """Return the text unchanged."""
    return text


@honest.task(price=by_text, work_seconds=20)
async def think(text: str) -> str:
    """Return the text after a while."""
    await asyncio.sleep(len(text) / 10)
    return text


@honest.task(price=by_text, acceptance=Acceptance.REVIEW, review_seconds=6)
async def reviewed(text: str) -> str:
    """Return the text, for the buyer to look at."""
    return text


@honest.task(price=sats(9))
async def fail(text: str) -> str:
    """Fail."""
    raise TaskFailed(text)


@honest.task(price=sats(9), work_seconds=4)
async def dawdle(text: str) -> str:
    """Never come to an end."""
    await asyncio.Event().wait()
    return text


@honest.task(price=sats(9))
async def refuse(text: str) -> str:
    """Refuse every input."""
    raise TaskRefused(text)


@on_credit.task(price=by_text, work_seconds=20)
async def deliver_on_credit(text: str) -> str:
    """Return the text unchanged."""
    return text


@on_credit.task(price=sats(9))
async def fail_on_credit(text: str) -> str:
    """Fail."""
    raise TaskFailed(text)


def key_of(name: str) -> SecretKey:
    """Return the key of a provider or a buyer of a run."""
    return SecretKey.generate(hashlib.sha256(f"chaos {name}".encode()).digest())


CREDIT_KEY = key_of("on credit")


class Sellers:
    """The providers of a run. One that ends by itself has a bug, and is told in `ended`."""

    def __init__(self, ground: Ground, *, seed: int) -> None:
        self._ground = ground
        self._seed = seed
        self.ended: list[str] = []

    @asynccontextmanager
    async def selling(self) -> AsyncGenerator[Rogue]:
        """Sell until the end of the block; the one whose stalls must be made up for is yielded."""
        wallet = self._ground.nodes.wallet("provider")
        urls = self._ground.urls
        brokers: list[Broker] = []
        runners: list[Runner] = []
        for number, (agents, key, own) in enumerate(
            (
                ([honest], key_of("first"), wallet),
                ([honest], key_of("second"), wallet),
                ([on_credit], CREDIT_KEY, None),
            )
        ):
            connection = BrokerConnection(urls[number % len(urls)], key=key, backoff=Backoff(most=1.0))
            brokers.append(Broker(connection))
            runners.append(
                Runner(agents, broker=brokers[-1], key=key, wallet=own, concurrency=32, finish_seconds=1)
            )
        rogue = Rogue(
            self._ground, wallet=wallet, key=key_of("rogue"), chance=random.Random(f"rogue {self._seed}")
        )
        running = [asyncio.create_task(self._told(runner.run())) for runner in runners]
        running.append(asyncio.create_task(self._told(rogue.run())))
        try:
            await asyncio.wait_for(
                asyncio.gather(rogue.ready.wait(), *(runner.ready.wait() for runner in runners)),
                READY_SECONDS,
            )
            yield rogue
        finally:
            rogue.stop()
            for runner in runners:
                runner.stop()
                runner.stop()
            await asyncio.wait(running, timeout=20)
            for task in running:
                task.cancel()
            for broker in brokers:
                await broker.close()
            await rogue.close()
            await wallet.close()

    async def _told(self, run: Coroutine[None, None, None]) -> None:
        try:
            await run
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  (the edge of a provider's process)
            self.ended.append(f"{type(error).__name__}: {error}")
