"""Who hires, again and again: most are honest, and some cancel, pay late or never, reject, or just leave."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path

from chaos import rogue
from chaos.ground import Ground
from chaos.sellers import key_of

from lightwork import (
    CheckFailed,
    Job,
    LightworkError,
    LndWallet,
    Market,
    Msat,
    PaidWithoutResult,
    Profile,
    sats,
)
from lightwork.broker import Broker
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.wire.jobs import Hire, JobForBuyer
from lightwork_contracts.wire.market import RequestQuote

PATIENCE_SECONDS = 30.0
"""How long a buyer follows a job; then it leaves, and the job must come to its end without it."""
MOST = sats(50)
LATE_SECONDS = 17.0
"""A little more than the broker lets a job be unpaid."""


class Way(StrEnum):
    """How a buyer treats a job."""

    HONEST = "honest"
    CANCEL = "cancels"
    LEAVE = "leaves"
    ACCEPT = "accepts"
    REJECT = "rejects"
    BOTH = "accepts and rejects at once"
    SILENT = "is silent"
    LATE = "pays late"
    NEVER = "never pays"


WAYS: Mapping[tuple[str, Way], int] = {
    ("deliver", Way.HONEST): 8,
    ("think", Way.HONEST): 5,
    ("deliver-on-credit", Way.HONEST): 4,
    (rogue.TASK, Way.HONEST): 8,
    ("reviewed", Way.ACCEPT): 3,
    ("reviewed", Way.REJECT): 2,
    ("reviewed", Way.BOTH): 2,
    ("reviewed", Way.SILENT): 1,
    ("think", Way.CANCEL): 2,
    ("deliver", Way.CANCEL): 2,
    ("think", Way.LEAVE): 2,
    ("fail", Way.HONEST): 1,
    ("fail-on-credit", Way.HONEST): 1,
    ("dawdle", Way.HONEST): 1,
    ("refuse", Way.HONEST): 1,
    ("deliver", Way.LATE): 2,
    ("deliver", Way.NEVER): 1,
}


class Buyers:
    """All buyers of a run, on one node. What no buyer may ever see is told in `wrong`."""

    def __init__(self, ground: Ground, *, seed: int, number: int) -> None:
        self._ground = ground
        self._wallet: LndWallet = ground.nodes.wallet("buyer")
        self._buyers = [_Buyer(self, ground, index, seed=seed) for index in range(number)]
        self._paying: set[asyncio.Task[object]] = set()
        self.stopped = asyncio.Event()
        self.tries = 0
        self.said: Counter[str] = Counter()
        self.wrong: list[str] = []

    @property
    def wallet(self) -> LndWallet:
        return self._wallet

    @asynccontextmanager
    async def hiring(self) -> AsyncGenerator[None]:
        """Hire until the end of the block; then each buyer still sees its job through."""
        running = [asyncio.create_task(buyer.run()) for buyer in self._buyers]
        try:
            yield
            self.stopped.set()
            await asyncio.wait(running, timeout=2 * PATIENCE_SECONDS)
        finally:
            for task in (*running, *self._paying):
                task.cancel()
            await asyncio.gather(*running, *self._paying, return_exceptions=True)
            await self._wallet.close()

    def pay(self, job: JobForBuyer) -> None:
        """Pay in the background; what comes of it, the nodes are asked at the end."""
        if job.invoice is None:
            return

        async def paying(invoice: str) -> None:
            with suppress(LightworkError):
                await self._wallet.pay(
                    invoice, payment_hash=job.quote.payment_hash, max_fee_msat=Msat(1_000), max_cltv=800
                )

        task = asyncio.create_task(paying(job.invoice))
        self._paying.add(task)
        task.add_done_callback(self._paying.discard)


class _Buyer:
    """One key that hires at any of the brokers."""

    def __init__(self, all_of_them: Buyers, ground: Ground, index: int, *, seed: int) -> None:
        self._all = all_of_them
        self._urls = ground.urls
        self._key = key_of(f"buyer {index}")
        self._chance = random.Random(f"buyer {seed} {index}")
        self._markets: list[Market] = []

    async def run(self) -> None:
        profile = Profile(name="chaos", broker=self._urls[0], key_file=Path("unused"))
        async with AsyncExitStack() as open_markets:
            for url in self._urls:
                market = Market(
                    url, key=self._key, wallet=self._all.wallet, profile=profile, allow_credit=True
                )
                self._markets.append(await open_markets.enter_async_context(market))
            while not self._all.stopped.is_set():
                task, way = self._chance.choices(list(WAYS), list(WAYS.values()))[0]
                self._all.tries += 1
                await self._once(task, way)
                await asyncio.sleep(self._chance.uniform(0.05, 0.6))

    async def _once(self, task: str, way: Way) -> None:
        """Hire once and count what came of it."""
        said = "result"
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._hire(task, way)
        except TimeoutError:
            said = "left"
        except (PaidWithoutResult, CheckFailed) as error:
            said = error.code
            self._all.wrong.append(f"a buyer of {task} that {way}: {error}")
        except LightworkError as error:
            said = error.code
        except Exception as error:  # noqa: BLE001  (the edge of a buyer's process)
            said = type(error).__name__
            self._all.wrong.append(f"a buyer of {task} that {way}: {said}: {error}")
        self._all.said[said] += 1

    async def _hire(self, task: str, way: Way) -> None:
        text = "x" * self._chance.randint(1, 25)
        if way in (Way.LATE, Way.NEVER):
            await self._hire_by_hand(task, text, way)
            return
        job = await self._any().start(task, {"text": text}, max_price=MOST)
        try:
            await self._follow(job, text, way)
        finally:
            await job.close()

    async def _follow(self, job: Job, text: str, way: Way) -> None:
        match way:
            case Way.CANCEL:
                await asyncio.sleep(self._chance.uniform(0, 0.6))
                # At every broker at the same time, while the payment is on its way.
                calls = [broker.cancel(job.id) for broker in self._brokers()]
                await asyncio.gather(*calls, return_exceptions=True)
                await job.wait()
            case Way.LEAVE:
                await asyncio.sleep(self._chance.uniform(0, 1))
            case Way.ACCEPT | Way.REJECT | Way.BOTH:
                await job.result()
                brokers = self._brokers()
                accepts = [broker.accept(job.id) for broker in brokers if way is not Way.REJECT]
                rejects = [broker.reject(job.id, "wrong") for broker in brokers if way is not Way.ACCEPT]
                await asyncio.gather(*accepts, *rejects, return_exceptions=True)
                await job.wait()
            case _:
                result = await job.wait()
                if result not in (text, "here"):
                    self._all.wrong.append(f"{job.id} was settled with {result!r}")

    async def _hire_by_hand(self, task: str, text: str, way: Way) -> None:
        request = RequestQuote(task=task, input={"text": text}, modes=tuple(PaymentMode), max_price_msat=MOST)
        job = await self._brokers()[0].hire(Hire(request=request), idempotency_key=secrets.token_hex(8))
        if way is Way.LATE:
            await asyncio.sleep(self._chance.uniform(0, LATE_SECONDS))
            self._all.pay(job)

    def _any(self) -> Market:
        return self._chance.choice(self._markets)

    def _brokers(self) -> list[Broker]:
        """Every broker, in an order of chance."""
        return self._chance.sample([market.broker for market in self._markets], len(self._markets))
