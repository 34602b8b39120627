"""How much room the broker's channels have for payments that wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwork_broker.escrow.slots import have_room
from lightwork_broker.lightning.ports import ChannelSlots


def _channel(*, incoming: int, most: int = 483, active: bool = True) -> ChannelSlots:
    return ChannelSlots(active=active, incoming=incoming, most=most)


@pytest.mark.parametrize(
    ("channels", "room"),
    [
        ([_channel(incoming=3)], 397),
        ([_channel(incoming=3, most=30)], 27),
        ([_channel(incoming=3), _channel(incoming=399)], 398),
        ([_channel(incoming=450), _channel(incoming=399)], 1),
        ([_channel(incoming=399), _channel(incoming=0, active=False)], 1),
    ],
    ids=["one", "the channel's own limit", "two", "fuller than its limit", "one is away"],
)
def test_there_is_room_for_as_many_as_the_active_channels_may_still_hold(
    channels: list[ChannelSlots], room: int
) -> None:
    assert have_room(channels, most=400, promised=room - 1)
    assert not have_room(channels, most=400, promised=room)


def test_without_an_active_channel_nothing_is_full() -> None:
    assert have_room([], most=400, promised=7)
    assert have_room([_channel(incoming=400, active=False)], most=400, promised=7)


filled = st.builds(_channel, incoming=st.integers(0, 483), most=st.integers(0, 483))


@given(found=st.lists(filled, min_size=1), most=st.integers(1, 483))
def test_more_than_every_channel_together_could_hold_is_never_promised(
    found: list[ChannelSlots], most: int
) -> None:
    assert not have_room(found, most=most, promised=most * len(found))
