"""The ports NodeInfo and Invoices."""

from __future__ import annotations

import asyncio

import pytest
from contract.lightning.worlds import PATIENCE_SECONDS, LightningWorld, hold, in_state, paying, secret, until

from lightwork_broker.lightning.ports import InvoiceState
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.money import Msat


async def test_a_node_says_who_it_is_and_that_it_is_ready(lightning: LightningWorld) -> None:
    broker, buyer = await lightning.broker.summary(), await lightning.buyer.summary()
    assert (broker.network, broker.synced_to_chain) == ("regtest", True)
    assert broker.pubkey != buyer.pubkey
    assert broker.block_height > 0
    assert broker.version
    assert broker.hold_expiry_delta == 18


async def test_an_invoice_is_made_as_asked(lightning: LightningWorld) -> None:
    made = await lightning.provider.add_invoice(
        value_msat=Msat(2_500), expiry_seconds=120, memo="two and a half", final_cltv=30
    )
    read = read_invoice(made.payment_request)
    assert (read.payment_hash, read.amount_msat, read.expiry_seconds) == (made.payment_hash, 2_500, 120)
    assert (read.min_final_cltv, read.description) == (30, "two and a half")
    found = await lightning.provider.lookup_invoice(made.payment_hash)
    assert found is not None
    assert found.state is InvoiceState.OPEN
    assert await lightning.broker.lookup_invoice(made.payment_hash) is None


@pytest.mark.parametrize("sat", [1, 300, 20_000], ids=["dust", "near dust", "with an output"])
async def test_htlcs_that_wait_do_not_disturb_anybodys_balance(lightning: LightningWorld, sat: int) -> None:
    nodes = (lightning.buyer, lightning.broker, lightning.provider)
    await lightning.quiet()
    before = [await node.local_balance_msat() for node in nodes]
    preimage = secret()
    text = await lightning.provider.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(sat * 1000 + 567),
        expiry_seconds=600,
        cltv_blocks=80,
        memo="",
    )
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(lightning.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
        assert [await node.local_balance_msat() for node in nodes] == before
        await lightning.provider.cancel(preimage.payment_hash)
    await lightning.quiet()
    assert [await node.local_balance_msat() for node in nodes] == before


async def test_an_htlc_that_waits_for_us_takes_a_slot_of_one_channel_until_it_goes_back(
    lightning: LightningWorld,
) -> None:
    await lightning.quiet()
    before = await lightning.broker.channel_slots()
    assert len(before) == 2
    assert all(channel.active and channel.most == 483 for channel in before)
    assert sum(channel.incoming for channel in before) == 0
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash):
        await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)

        async def seen() -> bool:
            return sorted(channel.incoming for channel in await lightning.broker.channel_slots()) == [0, 1]

        await until(seen)
        # What we offer to others takes none of the slots of what comes in.
        assert [channel.incoming for channel in await lightning.buyer.channel_slots()] == [0]
        await lightning.broker.cancel(preimage.payment_hash)
    await lightning.quiet()

    async def free() -> bool:
        return sum(channel.incoming for channel in await lightning.broker.channel_slots()) == 0

    await until(free)


async def test_a_payment_that_waits_for_us_shows_the_peer_that_it_came_over_until_it_goes_back(
    lightning: LightningWorld,
) -> None:
    await lightning.quiet()
    assert await lightning.broker.waiting_htlcs() == ()
    buyer = (await lightning.buyer.summary()).pubkey
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash):
        held = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        # Not a look that may be of before: what is accepted is there.
        (waiting,) = await lightning.broker.waiting_htlcs()
        assert (waiting.peer, waiting.payment_hash) == (buyer, preimage.payment_hash)
        # LND tells whole satoshis; what counts is never less than what waits.
        assert held.accepted_msat <= waiting.amount_msat < held.accepted_msat + 1_000

        async def counted() -> bool:
            of_buyer = [one for one in await lightning.broker.channel_slots() if one.peer == buyer]
            return sum(one.incoming_msat for one in of_buyer) == waiting.amount_msat

        await until(counted)
        # What we offer to others is not at their mercy in this sense.
        assert await lightning.buyer.waiting_htlcs() == ()
        await lightning.broker.cancel(preimage.payment_hash)
    await lightning.quiet()
    assert await lightning.broker.waiting_htlcs() == ()


async def test_each_new_block_is_told(lightning: LightningWorld) -> None:
    height = (await lightning.broker.summary()).block_height
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for now in lightning.broker.blocks():
            seen.append(now)
            if now == height:
                await lightning.mine(1)
            if now > height:
                break
    assert seen == [height, height + 1]


async def test_a_block_does_not_disturb_a_hold(lightning: LightningWorld) -> None:
    preimage = secret()
    text = await hold(lightning.broker, preimage)
    async with paying(lightning.buyer, text, preimage.payment_hash):
        first = await in_state(lightning.broker, preimage.payment_hash, InvoiceState.ACCEPTED)
        await lightning.mine(1)
        assert await lightning.broker.lookup(preimage.payment_hash) == first
        await lightning.broker.cancel(preimage.payment_hash)
