"""Several Lightning nodes in one process: no I/O, no threads, no sleeping, and money that adds up."""

from __future__ import annotations

import secrets
from typing import Final

from lightwork_broker.lightning.simulated.channels import Channel, Htlc, Policy
from lightwork_broker.lightning.simulated.connection import Connection, Patience, come_back, go_away
from lightwork_broker.lightning.simulated.faults import Faults, NoFaults
from lightwork_broker.lightning.simulated.node import SimulatedNode
from lightwork_broker.lightning.simulated.node_state import Condition, NodeState, new_node
from lightwork_broker.lightning.simulated.switchboard import Switchboard
from lightwork_broker.lightning.simulated.timing import RealTime, Time
from lightwork_contracts.bolt11 import Network
from lightwork_contracts.money import Msat, sats

DEFAULT_POLICY: Final = Policy()
FIRST_HEIGHT: Final = 1_000
MARKET_CAPACITY: Final = sats(16_000_000)


class SimulatedNetwork:
    """Nodes, channels and a chain whose blocks the caller mines.

    The same seed and the same calls give the same keys, invoices and preimages; without a seed they are random.
    Node names are for people: they are not on the wire. Differences to LND: payments are never split, mission
    control forgets, commitment fees are nothing, and a channel lives on when the chain has ended an HTLC of it.
    """

    def __init__(
        self,
        *,
        seed: bytes | None = None,
        clock: Time | None = None,
        faults: Faults | None = None,
        patience: Patience | None = None,
        height: int = FIRST_HEIGHT,
        network: Network = Network.REGTEST,
    ) -> None:
        self._seed = secrets.token_bytes(32) if seed is None else seed
        self._faults = faults or NoFaults()
        self._patience = patience or Patience()
        self._board = Switchboard(clock=clock or RealTime(), height=height, network=network)
        self._names: dict[str, NodeState] = {}

    @classmethod
    def market(
        cls,
        *,
        seed: bytes | None = None,
        clock: Time | None = None,
        faults: Faults | None = None,
        patience: Patience | None = None,
    ) -> SimulatedNetwork:
        """Return buyer - broker - provider in a row, both channels with money on both sides."""
        made = cls(seed=seed, clock=clock, faults=faults, patience=patience)
        for name in ("broker", "buyer", "provider"):
            made.add_node(name)
        half = Msat(MARKET_CAPACITY // 2)
        made.open_channel("buyer", "broker", capacity_msat=MARKET_CAPACITY, push_msat=half)
        made.open_channel("broker", "provider", capacity_msat=MARKET_CAPACITY, push_msat=half)
        return made

    @property
    def clock(self) -> Time:
        return self._board.clock

    @property
    def height(self) -> int:
        return self._board.height

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def states(self) -> tuple[NodeState, ...]:
        """Return what each node knows, to be looked at only."""
        return tuple(self._names.values())

    def add_node(self, name: str, *, hold_expiry_delta: int | None = None) -> SimulatedNode:
        """Add a node without channels.

        Raises: ValueError when there is one of this name.
        """
        if name in self._names:
            raise ValueError(f"there is a node {name!r} already")
        node = new_node(name, seed=self._seed)
        if hold_expiry_delta is not None:
            node.hold_expiry_delta = hold_expiry_delta
        self._names[name] = node
        self._board.nodes[node.pubkey] = node
        return self.node(name)

    def node(self, name: str) -> SimulatedNode:
        """Return a new connection to a node; what the node knows outlives it.

        Raises: KeyError.
        """
        return SimulatedNode(
            Connection(self._board, self._names[name], faults=self._faults, patience=self._patience)
        )

    def open_channel(
        self,
        funder: str,
        peer: str,
        *,
        capacity_msat: Msat,
        push_msat: Msat = Msat(0),
        policy: Policy = DEFAULT_POLICY,
        peer_policy: Policy = DEFAULT_POLICY,
        announced: bool = True,
    ) -> int:
        """Open a channel of which `peer` owns `push_msat` at once; return its short channel id.

        One that is not announced carries strangers only by a route hint that names it.
        """
        if funder == peer or not 0 <= push_msat <= capacity_msat:
            raise ValueError("a channel has two ends, and what is pushed is part of it")
        first, second = self._names[funder].pubkey, self._names[peer].pubkey
        number = (self._board.height << 40) | (len(self._board.channels) + 1) << 16
        self._board.channels[number] = Channel(
            number,
            (first, second),
            capacity_msat,
            balances={first: capacity_msat - push_msat, second: push_msat},
            policies={first: policy, second: peer_policy},
            announced=announced,
        )
        return number

    def mine(self, blocks: int = 1) -> int:
        """Add blocks one by one, each with all that it brings; return the new height."""
        for _ in range(blocks):
            self._board.mine()
        return self._board.height

    def next_deadline(self) -> int | None:
        """Return the height at which a node gives the next held payment back by itself, or None."""
        return self._board.next_deadline()

    def waiting(self) -> tuple[Htlc, ...]:
        """Return the HTLCs that wait in channels, the one that expires first in front."""
        return tuple(self._board.waiting())

    # --- what can happen to a node ------------------------------------------------------------------------

    def stop(self, name: str) -> None:
        """Take a node down: calls fail, streams end, HTLCs stay where they are."""
        go_away(self._names[name], Condition.DOWN)

    def lock(self, name: str) -> None:
        """Lock a node's wallet: as `stop`, and it says why."""
        go_away(self._names[name], Condition.LOCKED)

    def start(self, name: str) -> None:
        """Start or unlock a node; it hears what it missed and does what fell due."""
        come_back(self._board, self._names[name])

    def restart(self, name: str) -> None:
        """Stop and start a node: streams end, nothing is forgotten."""
        self.stop(name)
        self.start(name)

    def stall(self, name: str) -> None:
        """Let a node keep what it should forward: payments over it are stuck, and their payee knows nothing."""
        self._board.stalled.add(self._names[name].pubkey)

    def flow(self, name: str) -> None:
        """Let a stalled node forward again; what is too late by now goes back."""
        self._board.stalled.discard(self._names[name].pubkey)
        self._board.flow()

    def set_synced(self, name: str, *, synced: bool) -> None:
        """Let a node say whether it follows the chain."""
        self._names[name].synced = synced

    # --- what must always hold ----------------------------------------------------------------------------

    def check(self) -> None:
        """Check that no channel made or lost a msat, and that no side is below zero.

        Raises: AssertionError.
        """
        for channel in self._board.channels.values():
            if not channel.is_whole or min(channel.balances.values()) < 0:
                raise AssertionError(f"channel {channel.number} does not add up")
