"""Where the tests of the whole market take place: three nodes, and how the provider is paid there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pytest

from lightwork import Wallet
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat

ESCROW_STAGES = [pytest.param("lnd", marks=pytest.mark.regtest), "simulated"]
ANY_NODE = pytest.mark.parametrize("stage", ["simulated"], indirect=True, scope="session")
"""For what is the same on every node: nothing of it need be asked of the slow ones."""

NODES: tuple[str, ...] = ("buyer", "broker", "provider")


@dataclass(frozen=True, slots=True)
class HangingHtlc:
    """An HTLC as one of its two nodes sees it: one that hangs between two nodes is there twice."""

    node: str
    payment_hash: str
    incoming: bool
    expiry_height: int


class Nodes(Protocol):
    """The nodes buyer - broker - provider, both channels with money on both sides. Amounts are msat."""

    def broker_settings(self) -> Mapping[str, str]:
        """Return the settings with which a broker reaches its node."""
        ...

    def wallet(self, name: str) -> Wallet:
        """Open the wallet of the buyer or the provider."""
        ...

    def wallet_environment(self, name: str) -> Mapping[str, str]:
        """Return the variables with which the command line opens that wallet."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Return what a broker knows of its node and must tell nobody."""
        ...

    async def wealth_msat(self, name: str) -> int:
        """Return what a node owns in its channels, undisturbed by HTLCs that wait."""
        ...

    async def htlcs(self) -> tuple[HangingHtlc, ...]:
        """Return every HTLC that hangs on a channel now."""
        ...

    async def height(self) -> int:
        """Return the height that the broker's node has seen."""
        ...

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        """Mine; refused, without `force`, when a node would then give a held HTLC back by itself."""
        ...

    async def kill_broker_node(self) -> None:
        """End the broker's node without warning."""
        ...

    async def start_broker_node(self) -> None:
        """Start the broker's node again."""
        ...

    async def invoice_of_broker_node(self, amount_msat: Msat) -> str:
        """Return a plain invoice of the broker's own node."""
        ...

    async def give_back(self, payment_hash: str) -> None:
        """Cancel an invoice of the broker's node, behind the broker's back."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """The nodes of a test, and the mode in which its jobs are paid."""

    nodes: Nodes
    mode: PaymentMode = PaymentMode.ESCROW
