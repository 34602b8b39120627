"""What a network consists of: its LND nodes and the channels between them."""

from __future__ import annotations

from dataclasses import dataclass

COIN = 100_000_000

CHANNEL_CAPACITY_SAT = 16_000_000


@dataclass(frozen=True)
class ChannelPlan:
    """A channel to open: amounts in satoshis; `push_sat` is what the peer starts with."""

    funder: str
    peer: str
    capacity_sat: int = CHANNEL_CAPACITY_SAT
    push_sat: int = CHANNEL_CAPACITY_SAT // 2


@dataclass(frozen=True)
class Topology:
    """The nodes by name, the channels, and the payment that proves the network (payer, payee)."""

    nodes: tuple[str, ...]
    channels: tuple[ChannelPlan, ...]
    proof: tuple[str, str] | None = None


MARKET = Topology(
    nodes=("broker", "buyer", "provider"),
    channels=(ChannelPlan("buyer", "broker"), ChannelPlan("broker", "provider")),
    proof=("buyer", "provider"),
)
"""The smallest network on which an escrowed job can run: buyer, broker and provider in a row."""

CHAIN_ONLY = Topology(nodes=(), channels=())
"""Only bitcoind, for tests that need a chain and no Lightning."""

TOPOLOGIES = {"market": MARKET, "chain": CHAIN_ONLY}
