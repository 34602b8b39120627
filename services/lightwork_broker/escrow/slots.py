"""How much more the broker's channels can hold, in HTLCs and in money. Pure: no I/O, no clock, no random, no await.

A channel takes 483 HTLCs each way (BOLT 2), and a job that waits holds at least one of them. Whoever fills them all
keeps everybody else from being paid over that channel. And what waits in the channels with one peer is what that
peer can bear upon: by a hole in the node, or by being away while time locks run out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lightwork_broker.lightning.ports import ChannelSlots, NodeId, WaitingHtlc
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

UNPAID_SECONDS = 60.0
"""How long a place is kept for who was promised one and has not paid.

Keys cost nothing: with many of them one who pays for nothing could keep every place for good.
"""


def have_room(channels: Iterable[ChannelSlots], *, most: int, promised: int) -> bool:
    """Tell whether another payment may come in, with at most `most` held in each channel and `promised` on their way.

    Which channel a buyer's payment comes over is for the buyer's node to say, so all of them count together. Where
    none is active there is nothing to fill.
    """
    active = [channel for channel in channels if channel.active]
    free = sum(max(0, min(most, channel.most) - channel.incoming) for channel in active)
    return not active or free > promised


def have_room_for(channels: Iterable[ChannelSlots], *, most_msat: Msat, amount_msat: int) -> bool:
    """Tell whether `amount_msat` more may wait at one peer at least, with at most `most_msat` at each.

    Only what waits counts: what was promised costs nobody anything, and whoever asks for many promises would keep
    all others out. Without an active channel nobody can pay now, and there is nothing to keep free.
    """
    waiting: Counter[NodeId] = Counter()
    active: set[NodeId] = set()
    for channel in channels:
        waiting[channel.peer] += channel.incoming_msat
        if channel.active:
            active.add(channel.peer)
    return not active or any(waiting[peer] + amount_msat <= most_msat for peer in active)


def is_too_much(waiting: Iterable[WaitingHtlc], payment_hash: PaymentHash, *, most_msat: Msat) -> bool:
    """Tell whether a payment that has come must go back: a peer that it came over has more than `most_msat` waiting.

    So what was let in last was let in with all that waited then, and the sum was not above the cap. A payment that
    no open channel shows is too much as well: its channel is being closed.
    """
    of_peer: Counter[NodeId] = Counter()
    came_over: set[NodeId] = set()
    for htlc in waiting:
        of_peer[htlc.peer] += htlc.amount_msat
        if htlc.payment_hash == payment_hash:
            came_over.add(htlc.peer)
    return not came_over or any(of_peer[peer] > most_msat for peer in came_over)
