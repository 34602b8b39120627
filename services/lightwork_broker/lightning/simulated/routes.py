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


def find_route(wish: Wish, edges: Iterable[Edge]) -> Route | None:
    """Return the cheapest route that fits every limit, or None. Equal ones are decided by channel number."""
    into: defaultdict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        into[edge.receiver].append(edge)
    best: dict[str, float] = {}
    # cost, a number against ties, node, legs from here to the payee
    queue: list[tuple[float, int, str, tuple[Leg, ...]]] = [(0.0, 0, wish.payee, ())]
    count = 0
    while queue:
        cost, _, node, legs = heapq.heappop(queue)
        if node == wish.payer and legs:
            return Route(legs, wish.amount_msat)
        if best.get(node, cost + 1) <= cost or len(legs) == MAX_HOPS:
            continue
        best[node] = cost
        for edge in sorted(into[node], key=lambda each: (each.channel is None, each.channel, each.sender)):
            leg = _leg(wish, edge, legs)
            if leg is not None:
                count += 1
                heapq.heappush(queue, (cost + _price(leg, legs, wish), count, edge.sender, (leg, *legs)))
    return None


def _leg(wish: Wish, edge: Edge, onward: tuple[Leg, ...]) -> Leg | None:
    """Return the HTLC on `edge` that feeds the hops after it, or None when a limit forbids it."""
    if not onward:
        amount, blocks = wish.amount_msat, wish.final_blocks
    else:
        # The end of this edge forwards: it takes its fee and its delta by the next edge's policy.
        following = onward[0]
        policy = following.edge.policy
        amount = following.amount_msat + policy.fee(following.amount_msat)
        blocks = following.blocks + policy.cltv_delta
    fits = edge.policy.min_htlc_msat <= amount <= edge.largest_msat
    affordable = amount - wish.amount_msat <= wish.fee_limit_msat and blocks <= wish.cltv_limit
    returns = any(leg.edge.receiver == edge.sender for leg in onward)
    if not fits or not affordable or returns:
        return None
    return Leg(edge=edge, amount_msat=amount, blocks=blocks)


def _price(leg: Leg, onward: tuple[Leg, ...], wish: Wish) -> float:
    """Return what this hop adds to the cost: its fee, a share for the lock time, and a little for being a hop."""
    before = onward[0] if onward else None
    fee = leg.amount_msat - (wish.amount_msat if before is None else before.amount_msat)
    blocks = leg.blocks - (0 if before is None else before.blocks)
    return fee + leg.amount_msat * blocks * RISK_BILLIONTHS / 1_000_000_000 + 1
