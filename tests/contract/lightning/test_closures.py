"""The port Closures: what is told of how HTLCs ended, in their channel or on the chain, whatever their invoices say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from contract.lightning.closing_worlds import (
    ClosingWorld,
    LndClosing,
    RemoteClosing,
    SimulatedClosing,
    held,
    mined_until,
)
from contract.lightning.worlds import CLTV, in_state, pay, secret, until
from regtest_network import fresh_network
from simulated_process import SimulatedProcess

from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.money import Msat, sats

pytestmark = pytest.mark.timeout(600)
"""Real nodes take their time over each block, and there are many."""

SAT, DUST = 20_000, 100
REAL = pytest.mark.regtest


@pytest.fixture(params=["simulated", "simulated-remote", pytest.param("lnd", marks=REAL)])
async def closing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ClosingWorld]:
    folder = tmp_path_factory.mktemp("closing")
    match request.param:
        case "simulated":
            simulated = SimulatedClosing()
            yield simulated
            await simulated.close()
        case "simulated-remote":
            process = SimulatedProcess(folder)
            await process.start()
            for name in ("buyer", "provider"):
                await process.open_wallet(name, balance_msat=sats(8_000_000))
            remote = RemoteClosing(process)
            yield remote
            await remote.close()
            await process.stop()
        case _:
            with fresh_network(folder) as network:
                lnd = LndClosing(network)
                yield lnd
                await lnd.close()


async def ends(world: ClosingWorld, preimage: Preimage) -> set[HtlcEnd]:
    return {htlc.end for htlc in await world.broker.incoming_htlcs(preimage.payment_hash)}


async def all_over(world: ClosingWorld) -> bool:
    found = await world.broker.closures()
    return bool(found) and all(one.is_over for one in found)


async def two_wait(world: ClosingWorld) -> bool:
    """Whether both ends have taken all other HTLCs out of the channel."""
    return sum(channel.incoming for channel in await world.broker.channel_slots()) == 2


async def blocks_to(world: ClosingWorld, height: int) -> int:
    return height - (await world.buyer.summary()).block_height


async def test_what_became_of_an_htlc_is_told_while_its_channel_is_open(closing: ClosingWorld) -> None:
    preimage, _, paying = await held(closing, sat=SAT)
    given, _, gone = await held(closing, sat=DUST)
    assert await ends(closing, preimage) == await ends(closing, given) == {HtlcEnd.WAITING}
    await closing.broker.settle(preimage)
    await closing.broker.cancel(given.payment_hash)
    assert (await paying).status is PayoutStatus.SUCCEEDED
    assert (await gone).status is PayoutStatus.FAILED

    async def told() -> bool:
        both = (await ends(closing, preimage), await ends(closing, given))
        return both == ({HtlcEnd.TAKEN}, {HtlcEnd.RETURNED})

    await until(told)
    (htlc,) = await closing.broker.incoming_htlcs(preimage.payment_hash)
    assert (htlc.amount_msat, htlc.is_settled) == (SAT * 1_000, True)
    (htlc,) = await closing.broker.incoming_htlcs(given.payment_hash)
    assert (htlc.amount_msat, htlc.is_settled) == (DUST * 1_000, False)
    assert await closing.broker.closures() == ()
    assert await closing.broker.incoming_htlcs(secret().payment_hash) == ()


async def test_an_htlc_whose_payer_is_away_has_no_end_although_its_invoice_is_settled(
    closing: ClosingWorld,
) -> None:
    preimage, _, paying = await held(closing, sat=SAT)
    await closing.kill("buyer")
    await closing.broker.settle(preimage)
    await in_state(closing.broker, preimage.payment_hash, InvoiceState.SETTLED)
    (htlc,) = await closing.broker.incoming_htlcs(preimage.payment_hash)
    assert (htlc.is_settled, htlc.end) == (True, HtlcEnd.WAITING)
    await closing.start("buyer")

    async def told() -> bool:
        return await ends(closing, preimage) == {HtlcEnd.TAKEN}

    await until(told)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)


async def test_what_the_payer_took_back_on_the_chain_is_told_although_its_invoice_is_settled(
    closing: ClosingWorld,
) -> None:
    kept, _, paid = await held(closing, sat=SAT)
    lost, expiry, paying = await held(closing, sat=SAT)
    small, _, too = await held(closing, sat=DUST)
    await closing.broker.settle(kept)
    assert (await paid).status is PayoutStatus.SUCCEEDED
    await until(lambda: two_wait(closing))
    await closing.kill("buyer")
    for preimage in (lost, small):
        await closing.broker.settle(preimage)
        await in_state(closing.broker, preimage.payment_hash, InvoiceState.SETTLED)
    await closing.kill("broker")
    await closing.start("buyer")
    await closing.mine(await blocks_to(closing, expiry) + 1)

    async def failed() -> bool:
        return (await closing.buyer.track(lost.payment_hash)).status is PayoutStatus.FAILED

    await mined_until(closing, failed)
    await closing.start("broker")

    async def told() -> bool:
        return await ends(closing, lost) == await ends(closing, small) == {HtlcEnd.RETURNED}

    await mined_until(closing, told)
    found = await closing.broker.lookup(lost.payment_hash)
    assert found is not None
    assert found.state is InvoiceState.SETTLED
    (htlc,) = await closing.broker.incoming_htlcs(lost.payment_hash)
    assert htlc.is_settled
    assert htlc.amount_msat == SAT * 1_000
    # What was paid in the channel before it was closed stays paid.
    assert await ends(closing, kept) <= {HtlcEnd.TAKEN}
    await mined_until(closing, lambda: all_over(closing))
    (closure,) = await closing.broker.closures()
    assert (closure.channel, closure.taken_sat) == (htlc.channel, ())
    # The small one has no output on a real chain, and is told of all the same.
    assert closure.returned_sat in ((SAT,), (DUST, SAT))
    for task in (paying, too):
        task.cancel()


async def test_what_we_claimed_on_the_chain_is_told(closing: ClosingWorld) -> None:
    preimage, expiry, paying = await held(closing, sat=SAT)
    given, _, gone = await held(closing, sat=SAT)
    await closing.kill("buyer")
    await closing.broker.settle(preimage)
    await closing.broker.cancel(given.payment_hash)
    height = (await closing.broker.summary()).block_height
    await closing.mine(expiry - height - 16)

    async def told() -> bool:
        return await ends(closing, preimage) == {HtlcEnd.TAKEN}

    await mined_until(closing, told)
    (htlc,) = await closing.broker.incoming_htlcs(preimage.payment_hash)
    assert (htlc.amount_msat, htlc.is_settled) == (SAT * 1_000, True)
    await closing.start("buyer")

    async def over() -> bool:
        # The simulated channel lives on, and what was cancelled goes back in it, off the chain.
        return await all_over(closing) and await ends(closing, given) <= {HtlcEnd.RETURNED}

    await mined_until(closing, over)
    assert not any(htlc.is_settled for htlc in await closing.broker.incoming_htlcs(given.payment_hash))
    (closure,) = await closing.broker.closures()
    assert closure.taken_sat == (SAT,)
    assert closure.limbo_msat == 0
    for task in (paying, gone):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("closing", [pytest.param("lnd", marks=REAL)], indirect=True)
async def test_lnd_claims_nothing_on_the_chain_of_a_cancelled_invoice_although_a_payout_told_it_the_preimage(
    closing: ClosingWorld,
) -> None:
    """lnd #2811: funds came in on the chain, and the invoice was not settled."""
    preimage, expiry, paying = await held(closing, sat=SAT)
    text = await closing.provider.add_hold(
        payment_hash=preimage.payment_hash,
        value_msat=Msat(10_000_000),
        expiry_seconds=3_600,
        cltv_blocks=CLTV // 2,
        memo="",
    )
    payout = asyncio.create_task(pay(closing.broker, text, preimage.payment_hash))
    await in_state(closing.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
    await closing.provider.settle(preimage)
    assert (await payout).status is PayoutStatus.SUCCEEDED
    await closing.kill("buyer")
    await closing.broker.cancel(preimage.payment_hash)
    await closing.mine(expiry - (await closing.broker.summary()).block_height - 16)

    async def told() -> bool:
        return await ends(closing, preimage) == {HtlcEnd.RETURNED}

    await mined_until(closing, told)
    (htlc,) = await closing.broker.incoming_htlcs(preimage.payment_hash)
    assert (htlc.amount_msat, htlc.is_settled) == (SAT * 1_000, False)
    found = await closing.broker.lookup(preimage.payment_hash)
    assert found is not None
    assert found.state is InvoiceState.CANCELED
    paying.cancel()
