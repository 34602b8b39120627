"""The wire of the simulated Lightning network: wallets whose money is play money, for tests and for learning.

Whoever knows a wallet's name can spend from it: there is nothing to steal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from lightwork_contracts.ids import PaymentHashField
from lightwork_contracts.money import AmountMsat, PriceMsat, sats
from lightwork_contracts.wire.base import Answer, Wire

SIMULATED_PATH = "/simulated/v1"
MAX_WAIT_SECONDS = 30.0
DEFAULT_BALANCE = sats(5_000_000)
WALLET_NODE_PREFIX = "wallet "
"""The node of the wallet `alice` is `wallet alice`: a wallet can be called as the broker's node is."""

WalletName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["alice"])]
WaitSeconds = Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait for the end")]


class OpenWallet(Wire):
    """A node of this name with one channel to the broker's node; the same name again is the same wallet."""

    name: WalletName
    balance_msat: Annotated[
        PriceMsat,
        Field(
            description="What the wallet owns at first, and how much it can receive; 2 % is the channel's reserve"
        ),
    ] = DEFAULT_BALANCE


class WalletView(Answer):
    """A wallet as it is now. What waits in HTLCs still belongs to its sender."""

    name: WalletName
    pubkey: str = Field(description="The node's compressed public key")
    balance_msat: AmountMsat


class CreateInvoice(Wire):
    """A plain BOLT11 invoice of the wallet's own node."""

    wallet: WalletName
    amount_msat: PriceMsat
    expiry_seconds: int = Field(default=3_600, ge=1, le=31_536_000)
    memo: str = Field(default="", max_length=639)
    final_cltv: int = Field(default=80, ge=24, le=2_016, description="blocks")


class SimulatedInvoice(Answer):
    """The invoice's text, and the hash that it is known by."""

    invoice: str
    payment_hash: PaymentHashField


class PayInvoice(Wire):
    """Pay an invoice once: the same hash again gives the same payment."""

    wallet: WalletName
    invoice: str = Field(max_length=7_089)
    payment_hash: PaymentHashField
    max_fee_msat: AmountMsat
    max_cltv: int | None = Field(default=None, ge=1, le=2_016, description="blocks that the route may lock")
    wait_seconds: WaitSeconds = 0.0


class SimulatedPayment(Answer):
    """How a payment stands; the preimage, and the fee in msat, are there only after success."""

    payment_hash: PaymentHashField
    outcome: Literal["succeeded", "failed", "in_flight", "unknown"]
    fee_msat: AmountMsat | None = None
    reason: str | None = None
    preimage: str | None = Field(default=None, repr=False)


class MineBlocks(Wire):
    """Blocks to add to the simulated chain."""

    blocks: int = Field(default=1, ge=1, le=10_000)
    force: bool = Field(default=False, description="Also where that sends held payments back")


class SimulatedChain(Answer):
    """The chain's height, and the height at which the next held payment goes back by itself."""

    height: int
    next_deadline: int | None = None


# --- the network in a process of its own: what can be asked of it besides wallets ---


class NodeAction(StrEnum):
    """What can happen to a node as a whole. `stall`: it keeps what it should forward, until `flow`."""

    STOP = "stop"
    START = "start"
    RESTART = "restart"
    LOCK = "lock"
    STALL = "stall"
    FLOW = "flow"


class PlanFault(Wire):
    """A fault for the next call that is of this method and node; null is any."""

    fault: str = Field(max_length=64, examples=["lost_after"])
    method: str | None = Field(default=None, max_length=64, examples=["pay"])
    node: str | None = Field(default=None, max_length=128, examples=["broker"])
    seconds: float = Field(default=1.0, ge=0, le=3_600, description="for `late_call` and `late_answer`")


class FaultsView(Answer):
    """How many planned faults wait, which have struck, in order, and the names that can be asked for."""

    waiting: int
    struck: tuple[str, ...]
    faults: dict[str, str] = Field(description="name and meaning")
    methods: tuple[str, ...]


class SimulatedHtlc(Answer):
    """Money that waits in a channel from `sender` to `receiver`, both names of nodes."""

    payment_hash: PaymentHashField
    sender: str
    receiver: str
    amount_msat: AmountMsat
    expiry_height: int


class SimulatedNodeView(Answer):
    """A node of the network."""

    name: str
    pubkey: str
    condition: Literal["up", "down", "locked"]


class SimulatedNetworkView(Answer):
    """The network as it is now. `id` is another one after each start: jobs end with their network."""

    id: str
    height: int
    nodes: tuple[SimulatedNodeView, ...]
    htlcs: tuple[SimulatedHtlc, ...] = Field(description="all that wait, the one that expires first in front")
    adds_up: bool = Field(description="whether no channel made or lost a msat; false is a defect")
