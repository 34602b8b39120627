"""Every operation by its name, with two small numbers that it reads as it likes: so a story is a list to keep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kill_matrix.process import Gone
from market_machine import nature, subscribing, trading, withdrawing
from market_machine.parties import COMMITMENTS
from market_machine.world import NODES, World

from lightwork_broker.jobs.machine import JobStatus
from lightwork_contracts.status import CAPABILITIES

PAYING = ("plain", "plain", "plain", "short", "over", "twice", "other", "both")
WORKING = (
    "deliver",
    "deliver",
    "deliver",
    "fail",
    "junk",
    "huge",
    "stale",
    "future",
    "twice",
    "heartbeat",
    "odd",
)
HIRING = ("plain", "plain", "twice", "other")
QUOTING = ("plain", "refuse", "silent", "late", *COMMITMENTS)
NODE_EVENTS = ("stop", "start", "restart", "lock", "start", "unsynced", "start")


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: its name, and two numbers from 0 to 999."""

    name: str
    a: int = 0
    b: int = 0

    def __repr__(self) -> str:
        return f'Op("{self.name}", {self.a}, {self.b})'


Performer = Callable[[World, int, int], Awaitable[None]]


def _live(world: World, which: int) -> dict[str, Any] | None:
    """Return one of the jobs that are not over, the newest first."""
    live = [job for job in world.jobs() if not CAPABILITIES[JobStatus(job["status"])].terminal]
    return live[-1 - which % len(live)] if live else None


def _any(world: World, which: int) -> dict[str, Any] | None:
    jobs = world.jobs()
    return jobs[-1 - which % len(jobs)] if jobs else None


async def _publish(world: World, a: int, b: int) -> None:
    await world.sellers[a % len(world.sellers)].publish(b)


async def _retire(world: World, a: int, b: int) -> None:
    seller = world.sellers[a % len(world.sellers)]
    whose = world.sellers[b % len(world.sellers)]
    if whose.listings:
        path = f"/v1/listings/{whose.listings[b % len(whose.listings)]}"
        reply = await world.desk.ask(seller.key, "DELETE", path)
        if reply.is_good and whose is not seller:
            world.judge.breach("I32 somebody retired another's listing")


async def _quote(world: World, a: int, b: int) -> None:
    await trading.quote(world, world.buyers[a % 2], a // 2, way=QUOTING[b % len(QUOTING)])


async def _hire_at_once(world: World, a: int, b: int) -> None:
    await trading.quote(world, world.buyers[a % 2], a // 2, way=QUOTING[b % len(QUOTING)], hire=True)


async def _hire(world: World, a: int, b: int) -> None:
    await trading.hire(world, a, way=HIRING[b % len(HIRING)])


async def _pay(world: World, a: int, b: int) -> None:
    if (job := _any(world, a) if b // 8 % 4 == 3 else _live(world, a)) is not None:
        await trading.pay(world, job, way=PAYING[b % len(PAYING)])


async def _serve(world: World, a: int, b: int) -> None:
    await world.sellers[a % len(world.sellers)].poll(jobs=1 + b % 3)


async def _work(world: World, a: int, b: int) -> None:
    if (job := _live(world, a)) is not None:
        await trading.work(world, job, way=WORKING[b % len(WORKING)])


async def _decide(world: World, a: int, b: int) -> None:
    if (job := _live(world, a)) is not None:
        await trading.decide(world, job, release=b % 2 == 0)


async def _rule(world: World, a: int, b: int) -> None:
    """Reject what is delivered, or rule on what is disputed."""
    job = next((job for job in world.jobs() if job["status"] in ("delivered", "disputed")), None)
    if job is not None:
        await trading.decide(world, job, release=job["status"] == "disputed" and b % 2 == 0)


async def _meddle(world: World, a: int, b: int) -> None:
    if (job := _any(world, a)) is not None:
        what = trading.ACTS[b % len(trading.ACTS)]
        await trading.act(world, trading.who(world, job, b // len(trading.ACTS)), job, what)


async def _race(world: World, a: int, b: int) -> None:
    if (job := _live(world, a)) is not None:
        await trading.race(world, job, b)


async def _deal(world: World, a: int, b: int) -> None:
    """Carry a new job as far as `b` says: hired, paid, begun, delivered. So deep states come often."""
    before = {job["id"] for job in world.jobs()}
    quoted = await trading.quote(
        world, world.buyers[a % 2], a // 2, way="held" if b // 5 % 3 == 2 else "plain"
    )
    if quoted is None or not quoted.is_good:
        return
    await trading.hire(world, 0, way="plain")
    new = next((job for job in world.jobs() if job["id"] not in before), None)
    stage = b % 5
    if new is None or stage == 0:
        return
    await trading.pay(world, new, way="plain")
    await world.calm()
    if stage >= 2:
        await world.seller_of(new["provider"]).poll(jobs=3)
    if stage >= 3:
        await trading.work(world, new, way="deliver")


async def _wallet(world: World, a: int, b: int) -> None:
    await nature.wallet(world, a, settle=b % 3 != 2)


async def _withdraw(world: World, a: int, b: int) -> None:
    await withdrawing.withdraw(world, a, way=withdrawing.WAYS[b % len(withdrawing.WAYS)], number=b)


async def _read(world: World, a: int, b: int) -> None:
    await trading.read_around(world, a + b)


async def _fault(world: World, a: int, b: int) -> None:
    nature.fault(world, a, b)


async def _node(world: World, a: int, b: int) -> None:
    """Mostly the broker's own node; sometimes another one."""
    name = NODES[a // 3 % len(NODES)] if a % 3 == 2 else "broker"
    nature.node(world, name, NODE_EVENTS[b % len(NODE_EVENTS)])


async def _road(world: World, a: int, b: int) -> None:
    (world.network.flow if b % 2 else world.network.stall)("road")


async def _kill(world: World, a: int, b: int) -> None:
    await world.house.kill(a)


async def _kill_at(world: World, a: int, b: int) -> None:
    world.house.kill_at(1 + a % 40, node_too=b % 4 == 3, which=a // 40)


async def _start(world: World, a: int, b: int) -> None:
    await world.house.start(a)


async def _again(world: World, a: int, b: int) -> None:
    await world.desk.again()


async def _line(world: World, a: int, b: int) -> None:
    """Cut what brokers wake each other by, or mend it: it only saves waiting."""
    line = world.books.line
    if b % 2:
        line.mend()
    else:
        line.cut = True


async def _keep(world: World, a: int, b: int) -> None:
    world.house.keep()


async def _restore(world: World, a: int, b: int) -> None:
    if world.house.may_restore:
        world.house.restore()
        await world.house.start()


async def _mine(world: World, a: int, b: int) -> None:
    blocks = nature.BLOCKS[a % len(nature.BLOCKS)]
    await nature.mine(world, blocks, pace=(0, 0, 1, 20)[b % 4] if blocks <= 60 else 0)


async def _wait(world: World, a: int, b: int) -> None:
    await nature.wait(world, nature.SECONDS[a % len(nature.SECONDS)])


async def _days(world: World, a: int, b: int) -> None:
    await nature.days(world, 1 + a % 4)


async def _subscribe(world: World, a: int, b: int) -> None:
    await subscribing.subscribe(world, a, b)


async def _unsubscribe(world: World, a: int, b: int) -> None:
    await subscribing.unsubscribe(world, a, b)


async def _receiver(world: World, a: int, b: int) -> None:
    subscribing.receiver(world, a, b)


async def _jump(world: World, a: int, b: int) -> None:
    world.office.quiet = False
    jumped = world.clock.shift + nature.JUMPS[a % len(nature.JUMPS)]
    world.clock.shift = 0.0 if abs(jumped) > 3_600 else jumped


async def _look(world: World, a: int, b: int) -> None:
    process = world.house.serving(a)
    if process is not None:
        with suppress(Gone):
            await process.ask(lambda rooms: rooms.watchdog.look())


OPERATIONS: dict[str, Performer] = {
    "publish": _publish,
    "retire": _retire,
    "quote": _quote,
    "hire_at_once": _hire_at_once,
    "hire": _hire,
    "pay": _pay,
    "serve": _serve,
    "work": _work,
    "decide": _decide,
    "rule": _rule,
    "meddle": _meddle,
    "race": _race,
    "deal": _deal,
    "wallet": _wallet,
    "withdraw": _withdraw,
    "read": _read,
    "fault": _fault,
    "node": _node,
    "road": _road,
    "kill": _kill,
    "kill_at": _kill_at,
    "start": _start,
    "line": _line,
    "again": _again,
    "keep": _keep,
    "restore": _restore,
    "mine": _mine,
    "wait": _wait,
    "days": _days,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "receiver": _receiver,
    "jump": _jump,
    "look": _look,
}


async def perform(world: World, op: Op) -> None:
    """Do one operation."""
    await OPERATIONS[op.name](world, op.a, op.b)
