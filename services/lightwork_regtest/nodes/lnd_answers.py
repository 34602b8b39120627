"""The parts of LND's answers that a regtest network reads; LND writes 64-bit numbers as strings."""

from __future__ import annotations

import base64

from pydantic import BaseModel, Field


class Empty(BaseModel):
    """An answer of which nothing is read."""


class Info(BaseModel):
    """GetInfo."""

    identity_pubkey: str
    block_height: int = 0
    synced_to_chain: bool = False
    synced_to_graph: bool = False
    num_active_channels: int = 0
    num_peers: int = 0
    version: str = ""


class HtlcAnswer(BaseModel):
    """One pending HTLC of a channel."""

    incoming: bool = False
    amount: int = 0
    hash_lock: str = ""
    expiration_height: int = 0

    def payment_hash(self) -> str:
        """Return the hash in hex."""
        return base64.b64decode(self.hash_lock).hex()


class Constraints(BaseModel):
    """What one side asks of the commitments that it holds."""

    dust_limit_sat: int = 354


_ANCHOR_COMMITMENT_WEIGHT = 1_124
_HTLC_WEIGHT = 172
_ANCHORS_SAT = 2 * 330


class Channel(BaseModel):
    """One open channel; amounts in satoshis."""

    active: bool = False
    remote_pubkey: str
    channel_point: str
    chan_id: str = ""
    capacity: int = 0
    local_balance: int = 0
    remote_balance: int = 0
    fee_per_kw: int = 0
    initiator: bool = False
    local_constraints: Constraints = Constraints()
    pending_htlcs: list[HtlcAnswer] = Field(default_factory=list[HtlcAnswer])

    def initiator_costs_sat(self) -> int:
        """Return what the opener's balance carries for our commitment: its fee and the two anchors.

        BOLT 3, fee calculation with option_anchors. LND's own `commit_fee` is of no use here: it also counts
        rounding and every HTLC below the dust limit.
        """
        outputs = sum(htlc.amount >= self.local_constraints.dust_limit_sat for htlc in self.pending_htlcs)
        weight = _ANCHOR_COMMITMENT_WEIGHT + _HTLC_WEIGHT * outputs
        return self.fee_per_kw * weight // 1_000 + _ANCHORS_SAT


class Channels(BaseModel):
    """ListChannels."""

    channels: list[Channel] = Field(default_factory=list[Channel])


class PendingChannel(BaseModel):
    """A channel that waits for its confirmations."""

    remote_node_pub: str


class PendingOpen(BaseModel):
    """The wrapper of a channel that is being opened."""

    channel: PendingChannel


class PendingChannels(BaseModel):
    """PendingChannels."""

    pending_open_channels: list[PendingOpen] = Field(default_factory=list[PendingOpen])


class Amount(BaseModel):
    """An amount in both units."""

    sat: int = 0
    msat: int = 0


class ChannelBalance(BaseModel):
    """ChannelBalance: settled, and in flight towards us (local) and away from us (remote)."""

    local_balance: Amount = Amount()
    remote_balance: Amount = Amount()
    unsettled_local_balance: Amount = Amount()
    unsettled_remote_balance: Amount = Amount()


class WalletBalance(BaseModel):
    """WalletBalance, in satoshis."""

    confirmed_balance: int = 0
    unconfirmed_balance: int = 0
    locked_balance: int = 0


class Address(BaseModel):
    """NewAddress."""

    address: str


class Baked(BaseModel):
    """BakeMacaroon: the macaroon in hex."""

    macaroon: str = Field(repr=False)


class Edge(BaseModel):
    """A channel in the graph; a policy is None until its side has announced it."""

    chan_point: str
    node1_policy: Empty | None = None
    node2_policy: Empty | None = None


class Graph(BaseModel):
    """DescribeGraph."""

    edges: list[Edge] = Field(default_factory=list[Edge])


class Invoice(BaseModel):
    """AddInvoice."""

    payment_request: str


class Payment(BaseModel):
    """A payment's last state."""

    status: str
    failure_reason: str = ""


class PaymentUpdate(BaseModel):
    """One message of SendPaymentV2."""

    result: Payment
