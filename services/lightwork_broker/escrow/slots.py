"""How many more HTLCs the broker's channels can hold. Pure: no I/O, no clock, no random, no await.

A channel takes 483 HTLCs each way (BOLT 2), and a job that waits holds at least one of them. Whoever fills them all
keeps everybody else from being paid over that channel.
"""

from __future__ import annotations

from collections.abc import Iterable

from lightwork_broker.lightning.ports import ChannelSlots


def have_room(channels: Iterable[ChannelSlots], *, most: int, promised: int) -> bool:
    """Tell whether another payment may come in, with at most `most` held in each channel and `promised` on their way.

    Which channel a buyer's payment comes over is for the buyer's node to say, so all of them count together. Where
    none is active there is nothing to fill.
    """
    active = [channel for channel in channels if channel.active]
    free = sum(max(0, min(most, channel.most) - channel.incoming) for channel in active)
    return not active or free > promised
