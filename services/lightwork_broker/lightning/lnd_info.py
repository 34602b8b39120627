"""What LND says about itself: identity, height, and what it owns in channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_stubs import (
    Channel,
    ChannelBalanceReply,
    ChannelHtlc,
    RequestName,
    request,
)
from lightwork_broker.lightning.ports import ChannelSlots, NodeSummary, WaitingHtlc
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MSAT_PER_SAT, Msat

BALANCE_READS: Final = 20
"""How often to look until nothing moved between two reads."""

HTLC_WEIGHT: Final = 172
"""Weight units of one HTLC output (BOLT 3)."""

COMMITMENT_WEIGHTS: Final = {1: 724, 2: 724, 3: 1124, 4: 1124, 5: 968}
"""Weight units of a commitment without HTLCs by lnrpc.CommitmentType (BOLT 3; LND: input/size.go)."""

ANCHOR_SATS: Final = {3: 660, 4: 660, 5: 660}
"""Both anchors by lnrpc.CommitmentType, paid by the opener (BOLT 3)."""


class LndInfo:
    """The port `NodeInfo` on one LND."""

    def __init__(self, connection: LndConnection) -> None:
        self._connection = connection
        self._hold_expiry_delta: int | None = None
        self._debug_refused = False
        self._known: tuple[float, NodeSummary] | None = None
        self._slots: tuple[float, tuple[ChannelSlots, ...]] | None = None

    async def summary(self) -> NodeSummary:
        now = asyncio.get_running_loop().time()
        if self._known is None or now - self._known[0] >= self._connection.settings.summary_seconds:
            self._known = (now, await self._summary())
        return self._known[1]

    async def _summary(self) -> NodeSummary:
        info = await self._connection.call(
            lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO)
        )
        return NodeSummary(
            pubkey=info.identity_pubkey,
            alias=info.alias,
            network=info.chains[0].network if info.chains else "",
            block_height=info.block_height,
            synced_to_chain=info.synced_to_chain,
            synced_to_graph=info.synced_to_graph,
            version=info.version,
            hold_expiry_delta=await self._read_hold_expiry_delta(),
        )

    async def _read_hold_expiry_delta(self) -> int | None:
        """Read one number of LND's running configuration; the rest, which holds passwords, is dropped."""
        if self._hold_expiry_delta is None and not self._debug_refused:
            try:
                reply = await self._connection.call(
                    lambda stubs: stubs.debug_info, request(RequestName.GET_INFO)
                )
            except PermissionMissing:
                self._debug_refused = True
            else:
                value = reply.config.get("invoices.holdexpirydelta", "")
                self._hold_expiry_delta = int(value) if value.isdecimal() else None
        return self._hold_expiry_delta

    async def local_balance_msat(self) -> Msat:
        before = await self._balances()
        for _ in range(BALANCE_READS):
            channels = await self._connection.call(
                lambda stubs: stubs.lightning.ListChannels, request(RequestName.LIST_CHANNELS)
            )
            after = await self._balances()
            if after == before:
                fees = sum(commit_fee_sats(channel) for channel in channels.channels if channel.initiator)
                return Msat(before[0] + fees * MSAT_PER_SAT)
            before = after
        raise LightningUnavailable("the channels did not rest long enough to read a balance")

    async def _balances(self) -> tuple[int, int, int]:
        """Return what is ours, and what waits on both sides, in msat."""
        reply: ChannelBalanceReply = await self._connection.call(
            lambda stubs: stubs.lightning.ChannelBalance, request(RequestName.CHANNEL_BALANCE)
        )
        incoming, outgoing = reply.unsettled_local_balance.msat, reply.unsettled_remote_balance.msat
        # LND counts an HTLC on the side that it goes to: our outgoing ones are "remote", and ours until
        # the other end shows the preimage.
        return reply.local_balance.msat + outgoing, incoming, outgoing

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        now = asyncio.get_running_loop().time()
        if self._slots is None or now - self._slots[0] >= self._connection.settings.summary_seconds:
            reply = await self._connection.call(
                lambda stubs: stubs.lightning.ListChannels, request(RequestName.LIST_CHANNELS)
            )
            self._slots = (now, tuple(slots_of(channel) for channel in reply.channels))
        return self._slots[1]

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        reply = await self._connection.call(
            lambda stubs: stubs.lightning.ListChannels, request(RequestName.LIST_CHANNELS)
        )
        return tuple(
            WaitingHtlc(
                peer=channel.remote_pubkey,
                payment_hash=PaymentHash(htlc.hash_lock.hex()),
                amount_msat=most_msat(htlc),
            )
            for channel in reply.channels
            for htlc in channel.pending_htlcs
            if htlc.incoming
        )

    async def blocks(self) -> AsyncGenerator[int, None]:
        last: int | None = None
        while True:
            info = await self._connection.call(
                lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO)
            )
            if info.block_height != last:
                last = info.block_height
                yield last
            await asyncio.sleep(self._connection.settings.block_poll_seconds)


def commit_fee_sats(channel: Channel) -> int:
    """Return the fee that the opener pays for the commitment, in satoshis.

    LND's `commit_fee` is what the outputs leave over: HTLCs too small for an output and fractions of a
    satoshi count as fee there, though nobody has paid them. So the fee is computed as BOLT 3 does, with
    the number of HTLC outputs that comes nearest to what LND shows.
    """
    base = COMMITMENT_WEIGHTS.get(channel.commitment_type)
    if base is None:
        return channel.commit_fee
    waiting = sum(htlc.amount for htlc in channel.pending_htlcs)
    left_over = channel.capacity - channel.local_balance - channel.remote_balance - waiting
    observed = left_over - ANCHOR_SATS.get(channel.commitment_type, 0)
    candidates = [
        channel.fee_per_kw * (base + HTLC_WEIGHT * outputs) // 1000
        for outputs in range(len(channel.pending_htlcs) + 1)
    ]
    return min(candidates, key=lambda fee: abs(fee - observed))


def slots_of(channel: Channel) -> ChannelSlots:
    """Return how full a channel is. LND counts a limit for whoever offers: theirs is that of what comes in."""
    return ChannelSlots(
        active=channel.active,
        incoming=sum(htlc.incoming for htlc in channel.pending_htlcs),
        most=channel.remote_constraints.max_accepted_htlcs,
        peer=channel.remote_pubkey,
        incoming_msat=Msat(sum(most_msat(htlc) for htlc in channel.pending_htlcs if htlc.incoming)),
    )


def most_msat(htlc: ChannelHtlc) -> Msat:
    """Return the most that an HTLC can be of: LND tells whole satoshis, rounded down."""
    return Msat((htlc.amount + 1) * MSAT_PER_SAT - 1)
