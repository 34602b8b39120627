"""What nobody trades: faults of calls, kills, nodes that go and come, blocks, and time."""

from __future__ import annotations

from market_machine.clocks import let_pass
from market_machine.world import World

from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.simulated import Fault

METHODS = (
    "pay", "track", "settle", "cancel", "add_hold", "lookup", "wait", "summary", "watch", "blocks",
    "estimate_fee", "pay", "settle", None,
)  # fmt: skip
"""Which call of the broker is struck; None is the next one."""
FAULTS = tuple(Fault)
LATE_SECONDS = (2.0, 11.0, 24.0)
BLOCKS = (1, 1, 1, 2, 3, 6, 6, 12, 30, 60, 144, 200)
SECONDS = (1, 2, 5, 10, 16, 31, 45, 61, 120, 301, 600, 1_800, 7_200)
JUMPS = (10, -10, 60, -60, 600, -600, 3_600, -3_600)


def fault(world: World, method: int, kind: int) -> None:
    """Let one of the broker's next calls go wrong."""
    world.weather.plan(
        FAULTS[kind % len(FAULTS)],
        method=METHODS[method % len(METHODS)],
        seconds=LATE_SECONDS[(method // len(METHODS) + kind // len(FAULTS)) % len(LATE_SECONDS)],
    )


def node(world: World, name: str, what: str) -> None:
    """Let a node go, come back, or say that it does not follow the chain."""
    match what:
        case "stop":
            world.network.stop(name)
        case "lock":
            world.network.lock(name)
        case "restart":
            world.network.restart(name)
        case "unsynced":
            world.network.set_synced(name, synced=False)
        case _:
            world.network.start(name)
            world.network.set_synced(name, synced=True)


async def wallet(world: World, which: int, *, settle: bool) -> None:
    """Let a seller's wallet take, or turn away, what it holds."""
    held = [(seller, preimage) for seller in world.sellers for preimage in seller.held.values()]
    if not held:
        return
    seller, preimage = held[-1 - which % len(held)]
    port = world.network.node(seller.name)
    try:
        await (port.settle(preimage) if settle else port.cancel(preimage.payment_hash))
    except LightningError:
        return


async def mine(world: World, blocks: int, *, pace: float) -> None:
    """Add blocks: all at once, or with `pace` seconds between them."""
    for _ in range(blocks):
        world.network.mine()
        if pace:
            await let_pass(pace, stride=min(pace, 10))


async def wait(world: World, seconds: float) -> None:
    """Let time pass; long times in strides."""
    await let_pass(seconds, stride=1 if seconds <= 120 else 5 if seconds <= 600 else 30)


async def days(world: World, count: int) -> None:
    """Let days pass, in which blocks come as they do."""
    for _ in range(count * 24):
        await let_pass(3_600, stride=600)
        await mine(world, 6, pace=0)


def is_fair(world: World) -> bool:
    """Whether nothing stands in the broker's way now."""
    state = world.state("broker")
    return world.house.lives and world.weather.is_fair and state.serves and state.synced
