"""Finding a way through the channels: from the payee back to the payer, the cheapest first. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lightwork_broker.lightning.simulated.channels import Policy

BLOCK_PADDING: Final = 3
"""Blocks that a payer adds to the final hop, for blocks that come on the way (LND: routing)."""

MAX_HOPS: Final = 20
RISK_BILLIONTHS: Final = 15
"""What a block of lock time costs when routes are compared, in billionths of the amount (LND: RiskFactor)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One direction of a channel as the payer knows it. `channel` is None for a route hint's."""

    sender: str
    receiver: str
    policy: Policy
    largest_msat: int
    channel: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One hop of a route: the HTLC that is put on an edge. `blocks` count from the current height."""

    edge: Edge
    amount_msat: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Route:
    """The hops from payer to payee."""

    legs: tuple[Leg, ...]
    amount_msat: int

    @property
    def fee_msat(self) -> int:
        return self.legs[0].amount_msat - self.amount_msat

    @property
    def blocks(self) -> int:
        """How long the first HTLC is locked, in blocks from now."""
        return self.legs[0].blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a route must do. `final_blocks` is the payee's delta with the padding in it."""

    payer: str
    payee: str
    amount_msat: int
    final_blocks: int
    fee_limit_msat: int
    cltv_limit: int


@dataclass(frozen=True, slots=True)
class _Reach:
    """What must arrive at a node so that the payee gets its due: msat, blocks, and the hops from there."""

    node: str
    amount_msat: int
    blocks: int
    legs: tuple[Leg, ...]


def find_route(wish: Wish, edges: Iterable[Edge]) -> Route | None:
    """Return the cheapest route that fits every limit, or None. Equal ones are decided by channel number."""
    into: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        into[edge.receiver].append(edge)
    done: set[str] = set()
    # Cost, and a number against ties.
    queue: list[tuple[float, int, _Reach]] = [
        (0.0, 0, _Reach(wish.payee, wish.amount_msat, wish.final_blocks, ()))
    ]
    count = 0
    while queue:
        cost, _, reach = heapq.heappop(queue)
        if reach.node == wish.payer and reach.legs:
            return Route(reach.legs, wish.amount_msat)
        if reach.node in done or len(reach.legs) == MAX_HOPS:
            continue
        done.add(reach.node)
        for edge in sorted(
            into[reach.node], key=lambda each: (each.channel is None, each.channel, each.sender)
        ):
            before = _before(wish, edge, reach)
            if before is not None and edge.sender not in done:
                count += 1
                heapq.heappush(queue, (cost + _price(reach, before), count, before))
    return None


def _before(wish: Wish, edge: Edge, reach: _Reach) -> _Reach | None:
    """Return what must arrive at the start of `edge`, or None when a limit forbids this hop."""
    if not edge.policy.min_htlc_msat <= reach.amount_msat <= edge.largest_msat:
        return None
    leg = Leg(edge=edge, amount_msat=reach.amount_msat, blocks=reach.blocks)
    amount, blocks = reach.amount_msat, reach.blocks
    if edge.sender != wish.payer:
        # Who forwards takes its fee and its delta by its policy for the channel that it sends out on.
        amount += edge.policy.fee(amount)
        blocks += edge.policy.cltv_delta
    if amount - wish.amount_msat > wish.fee_limit_msat or blocks > wish.cltv_limit:
        return None
    return _Reach(edge.sender, amount, blocks, (leg, *reach.legs))


def _price(after: _Reach, before: _Reach) -> float:
    """Return what a hop adds to the cost: its fee, a share for the lock time, and a little for being a hop."""
    risk = before.amount_msat * (before.blocks - after.blocks) * RISK_BILLIONTHS / 1_000_000_000
    return before.amount_msat - after.amount_msat + risk + 1
