"""One run: everything is started, the market works while the monkey strikes, then all comes to rest."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from chaos.buyers import Buyers
from chaos.evidence import gather, jobs_of, measure
from chaos.ground import NODE_IS_AWAY, Ground, Void, start_ground, stop_brokers
from chaos.monkey import Monkey, Struck
from chaos.report import Recovery, Run, recovery_of, say
from chaos.rogue import Rogue
from chaos.sellers import Sellers
from chaos.strikes import draw
from chaos.verdict import breaches_of
from e2e_client import SignedClient
from e2e_waiting import until
from fast_folder import fast_folder
from postgres_server import PostgresServer

from lightwork_contracts.status import JobStatus
from lightwork_regtest import Network

REST_SECONDS = 150.0
"""For the last jobs: to be paid or expire, to be worked on, paid out again and again, and refunded."""
LINE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a run."""

    seed: int
    minutes: float = 3.0
    buyers: int = 6
    brokers: int = 1
    database: str = "sqlite"
    calm: float = 1.0


async def play(network: Network, folder: Path, options: Options) -> Run:
    """Run once on a network of its own, and return what it led to.

    Raises:
        AssertionError: something did not start, or did not come back.
        Void: LND broke a channel of its own; the books were sound all the same.
    """
    async with _open_ground(network, folder, options) as ground:
        before = await measure(ground)
        sellers = Sellers(ground, seed=options.seed)
        buyers = Buyers(ground, seed=options.seed, number=options.buyers)
        monkey = Monkey(ground, draw(options.seed, victims=ground.victims, calm=options.calm))
        operator = _Operator(ground)
        watching = [asyncio.create_task(broker.watch()) for broker in ground.brokers]
        ruling = asyncio.create_task(operator.run())
        telling = asyncio.create_task(_tell(ground, options))
        begun = time.monotonic()
        try:
            async with sellers.selling() as rogue:
                async with buyers.hiring():
                    await monkey.run(seconds=60 * options.minutes)
                    struck = time.monotonic() - begun
                    say("the monkey has stopped; everything is started, and the last jobs end")
                    await _healed(ground)
                await _until_at_rest(ground, rogue)
                rested = time.monotonic() - begun - struck
        finally:
            for task in (*watching, ruling, telling):
                task.cancel()
            await asyncio.gather(*watching, ruling, telling, return_exceptions=True)
            await operator.close()
        wrong = (*buyers.wrong, *sellers.ended, *_crashes(ground))
        facts = await gather(ground, before, wrong=wrong)
        # The books lag behind the node by one commit; they are asked again until they fit, within a bound.
        deadline = time.monotonic() + 15
        while breaches_of(facts) and time.monotonic() < deadline:
            facts = await gather(ground, before, wrong=wrong)
        return Run(
            seed=options.seed,
            brokers=options.brokers,
            database="PostgreSQL" if ground.server is not None else "SQLite",
            seconds=struck,
            rest_seconds=rested,
            recoveries=_recoveries(monkey.struck),
            tries=buyers.tries,
            said=dict(buyers.said),
            facts=facts,
        )


@asynccontextmanager
async def _open_ground(network: Network, folder: Path, options: Options) -> AsyncGenerator[Ground]:
    async with AsyncExitStack() as stack:
        server: PostgresServer | None = None
        if options.database == "postgres":
            server = PostgresServer(stack.enter_context(fast_folder()))
            stack.callback(server.kill)
            await asyncio.to_thread(server.start)
        ground = await start_ground(network, folder, brokers=options.brokers, server=server)
        stack.push_async_callback(stop_brokers, ground.brokers)
        yield ground


async def _healed(ground: Ground) -> None:
    try:
        await ground.heal()
    except Void:
        # Without a channel the money cannot come to rest, but what has ended must be right.
        audited = await ground.brokers[0].command("audit", "--node", "--json")
        assert audited.returncode == 0, audited.stdout + audited.stderr
        raise


async def _until_at_rest(ground: Ground, rogue: Rogue) -> None:
    """Wait until no job and no HTLC is left, within a bound; what then is left is the verdict's to judge."""

    async def at_rest() -> bool:
        await rogue.make_up()
        if not all(job.is_over for job in await jobs_of(ground)):
            return False
        return not await ground.nodes.htlcs()

    with suppress(AssertionError):
        await until(at_rest, what="all jobs are over", seconds=REST_SECONDS, every=0.5)


def _crashes(ground: Ground) -> list[str]:
    """Return the ends of brokers that nobody had killed, and that a node which is away does not explain."""
    return [
        f"{broker.url} ended by itself with {code}; see {broker.log}"
        for broker in ground.brokers
        for code in broker.ended_by_itself
        if code != NODE_IS_AWAY
    ]


class _Operator:
    """Rules on disputes, one way and the other in turn."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._clients = [SignedClient(url, key=ground.operator()) for url in ground.urls]
        self._turns = itertools.count()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            with suppress(OSError, RuntimeError, httpx2.HTTPError):
                await self._rule()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def _rule(self) -> None:
        for job in await jobs_of(self._ground):
            if job.status is JobStatus.DISPUTED:
                turn = next(self._turns)
                client = self._clients[turn // 2 % len(self._clients)]
                ruling = {"release": turn % 2 == 0, "reason": "looked at it"}
                await client.call("POST", f"/v1/jobs/{job.id}/ruling", ruling)


async def _tell(ground: Ground, options: Options) -> None:
    begun = time.monotonic()
    while True:
        await asyncio.sleep(LINE_SECONDS)
        with suppress(OSError, RuntimeError):
            jobs = await jobs_of(ground)
            over = sum(1 for job in jobs if job.is_over)
            settled = sum(1 for job in jobs if job.status is JobStatus.SETTLED)
            passed = time.monotonic() - begun
            say(
                f"{passed:5.0f} s of {60 * options.minutes:.0f}: {len(jobs)} jobs, {settled} settled, {over} over"
            )


def _recoveries(struck: list[Struck]) -> tuple[Recovery, ...]:
    kinds = sorted({(one.deed, one.victim) for one in struck})
    return tuple(
        recovery_of(
            victim, deed, [one.back_seconds for one in struck if (one.deed, one.victim) == (deed, victim)]
        )
        for deed, victim in kinds
    )
