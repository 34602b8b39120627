"""Webhooks asked for, listed and removed: by those whose they are, by strangers, and at URLs that are refused."""

from __future__ import annotations

from market_machine.mailboxes import MODES, Mailbox
from market_machine.parties import key_of
from market_machine.world import World

from lightwork_broker.webhooks.service import MOST_OF_OWNER
from lightwork_contracts.signed.keys import SecretKey

EVE = key_of("eve")
"""She buys and sells nothing, and listens."""
AT_FIRST = ("max", "ada", "cy")
HOSTILE = (
    "http://shop.example/hook",
    "https://127.0.0.1/hook",
    "ftp://shop.example/",
    "https://[::1]:8402/hook",
)


def _keys(world: World) -> list[SecretKey]:
    return [EVE, *(party.key for party in (*world.buyers, *world.sellers))]


async def begin(world: World) -> None:
    """Let some of the parties, and a stranger, have a webhook from the beginning."""
    for key in (EVE, *(key_of(name) for name in AT_FIRST)):
        await _add(world, key)


async def subscribe(world: World, a: int, b: int) -> None:
    """Ask for a webhook; now and then at a URL that no broker may call."""
    key = _keys(world)[a % len(_keys(world))]
    if b % 5 == 4:
        body = {"url": HOSTILE[b // 5 % len(HOSTILE)]}
        reply = await world.desk.ask(key, "POST", "/v1/webhooks", body)
        if reply.is_good:
            world.judge.breach(f"P3 a webhook was taken for {body['url']}")
        return
    await _add(world, key)


async def _add(world: World, key: SecretKey) -> None:
    office = world.office
    box = office.open(key.public)
    reply = await world.desk.ask(key, "POST", "/v1/webhooks", {"url": box.url})
    office.look()
    if reply.is_good and (reply.body["id"], reply.body["secret"]) != (box.id, box.secret):
        world.judge.breach("a webhook is stored otherwise than it was told")
    if sum(1 for one in office.boxes if one.exists and one.owner == key.public) > MOST_OF_OWNER:
        world.judge.breach("P2 a key has more webhooks than it may")


async def unsubscribe(world: World, a: int, b: int) -> None:
    """Remove a webhook, mostly as its owner; and list what one has."""
    there = [box for box in world.office.boxes if box.exists]
    if not there:
        return
    box = there[a % len(there)]
    keys = _keys(world)
    owner = next(key for key in keys if key.public == box.owner)
    key = owner if b % 3 else keys[b // 3 % len(keys)]
    await _list(world, key)
    if b % 4 == 3:
        return
    reply = await world.desk.ask(key, "DELETE", f"/v1/webhooks/{box.id}")
    world.office.look()
    if reply.is_good and (key is not owner or box.exists):
        world.judge.breach("I32 somebody removed a webhook that is not theirs, or it is still there")


async def _list(world: World, key: SecretKey) -> None:
    reply = await world.desk.ask(key, "GET", "/v1/webhooks")
    if not reply.is_good:
        return
    mine = {box.id for box in world.office.boxes if box.exists and box.owner == key.public}
    if {one["id"] for one in reply.body["webhooks"]} != mine:
        world.judge.breach("I32 the list of one's webhooks is not that")


def receiver(world: World, a: int, b: int) -> None:
    """Let a receiver go up, down, slow, or answer something else."""
    boxes: list[Mailbox] = world.office.boxes
    if boxes:
        boxes[a % len(boxes)].mode = MODES[b % len(MODES)]
