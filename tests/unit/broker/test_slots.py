"""How much room the broker's channels have for payments that wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwork_broker.escrow.slots import have_room, have_room_for, is_too_much
from lightwork_broker.lightning.ports import ChannelSlots, WaitingHtlc
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat


def _channel(*, incoming: int, most: int = 483, active: bool = True) -> ChannelSlots:
    return ChannelSlots(active=active, incoming=incoming, most=most, peer="peer", incoming_msat=Msat(0))


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


OURS, OTHERS = PaymentHash("aa" * 32), [PaymentHash(f"{number:064x}") for number in range(3)]


def _waits(peer: str, payment_hash: PaymentHash, amount: int) -> WaitingHtlc:
    return WaitingHtlc(peer=peer, payment_hash=payment_hash, amount_msat=Msat(amount))


@pytest.mark.parametrize(
    ("waiting", "too_much"),
    [
        ([_waits("a", OURS, 100)], False),
        ([_waits("a", OURS, 101)], True),
        ([_waits("a", OURS, 60), _waits("a", OURS, 41)], True),
        ([_waits("a", OURS, 60), _waits("b", OURS, 60)], False),
        ([_waits("a", OURS, 10), _waits("a", OTHERS[0], 91)], True),
        ([_waits("a", OURS, 10), _waits("b", OTHERS[0], 500)], False),
        ([_waits("a", OURS, 10), _waits("b", OURS, 10), _waits("b", OTHERS[0], 91)], True),
        ([_waits("a", OTHERS[0], 1)], True),
        ([], True),
    ],
    ids=[
        "the cap",
        "above",
        "in parts",
        "over two",
        "with others",
        "others elsewhere",
        "a part",
        "gone",
        "none",
    ],
)
def test_a_payment_goes_back_when_a_peer_that_it_came_over_has_more_than_the_cap(
    waiting: list[WaitingHtlc], too_much: bool
) -> None:
    assert is_too_much(waiting, OURS, most_msat=Msat(100)) is too_much


htlcs = st.builds(_waits, st.sampled_from("abc"), st.sampled_from([OURS, *OTHERS]), st.integers(1, 120))


@given(come=st.lists(htlcs, max_size=20), most=st.integers(1, 200))
def test_what_is_let_in_one_after_the_other_is_never_more_than_the_cap_at_any_peer(
    come: list[WaitingHtlc], most: int
) -> None:
    """Each payment is one HTLC here, under a hash of its own; one that is too much is gone before the next."""
    waiting: list[WaitingHtlc] = []
    for number, htlc in enumerate(come):
        payment_hash = PaymentHash(f"{number:064x}")
        waiting.append(_waits(htlc.peer, payment_hash, htlc.amount_msat))
        if is_too_much(waiting, payment_hash, most_msat=Msat(most)):
            gone = waiting.pop()
            there = sum(one.amount_msat for one in waiting if one.peer == gone.peer)
            assert there + gone.amount_msat > most
        for peer in "abc":
            assert sum(one.amount_msat for one in waiting if one.peer == peer) <= most


@given(come=st.lists(htlcs, min_size=1, max_size=20), most=st.integers(1, 200))
def test_of_those_that_come_at_the_same_moment_no_more_than_the_cap_is_let_in_at_any_peer(
    come: list[WaitingHtlc], most: int
) -> None:
    let_in = [htlc for htlc in come if not is_too_much(come, htlc.payment_hash, most_msat=Msat(most))]
    for peer in "abc":
        assert sum(htlc.amount_msat for htlc in let_in if htlc.peer == peer) <= most


def _peer(name: str, waiting: int, *, active: bool = True) -> ChannelSlots:
    return ChannelSlots(active=active, incoming=1, most=483, peer=name, incoming_msat=Msat(waiting))


@pytest.mark.parametrize(
    ("channels", "free"),
    [
        ([_peer("a", 0)], 100),
        ([_peer("a", 30), _peer("a", 30)], 40),
        ([_peer("a", 30), _peer("b", 60)], 70),
        ([_peer("a", 130), _peer("b", 60)], 40),
        ([_peer("a", 10, active=False), _peer("a", 20)], 70),
        ([_peer("a", 10, active=False), _peer("b", 20)], 80),
    ],
    ids=["empty", "two channels", "two peers", "fuller than the cap", "a channel is away", "a peer is away"],
)
def test_no_more_is_promised_than_may_still_wait_at_some_peer(
    channels: list[ChannelSlots], free: int
) -> None:
    assert have_room_for(channels, most_msat=Msat(100), amount_msat=free)
    assert not have_room_for(channels, most_msat=Msat(100), amount_msat=free + 1)


def test_with_nobody_to_pay_through_there_is_nothing_to_keep_free() -> None:
    assert have_room_for([_peer("a", 500, active=False)], most_msat=Msat(100), amount_msat=1)
