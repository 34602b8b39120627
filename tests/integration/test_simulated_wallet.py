"""Wallets on a simulated network, reached over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from e2e_waiting import until

from lightwork import PaymentOutcome, sats
from lightwork.errors import ProfileInvalid, WalletRefused, WalletUnreachable
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.app import create_app
from lightwork_broker.lightning.ports import InvoiceState
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import Fault, PlannedFaults, SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.money import Msat

ORIGIN = "http://127.0.0.1:8402"
AMOUNT = sats(1_000)


@dataclass
class Scene:
    wallets: SimulatedWallets
    faults: PlannedFaults
    transport: httpx2.ASGITransport
    alice: SimulatedWallet
    bob: SimulatedWallet
    http: httpx2.AsyncClient

    async def invoice(self, wallet: SimulatedWallet) -> tuple[str, str]:
        made = await wallet.create_invoice(
            amount_msat=AMOUNT, expiry_seconds=600, memo="for the test", final_cltv=40
        )
        return made.invoice, made.payment_hash


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[Scene]:
    async with opened(tmp_path) as made:
        yield made


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Scene]:
    faults = PlannedFaults()
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"wallets", faults=faults))
    application = create_app(BrokerSettings(data_dir=folder), wallets.hub)
    application.include_router(simulated_router(wallets))
    transport = httpx2.ASGITransport(app=application)
    alice, bob = (SimulatedWallet(ORIGIN, name, transport=transport) for name in ("alice", "bob"))
    async with (
        application.router.lifespan_context(application),
        httpx2.AsyncClient(base_url=f"{ORIGIN}/simulated/v1", transport=transport) as http,
    ):
        yield Scene(wallets, faults, transport, alice, bob, http)
        await alice.close()
        await bob.close()
    wallets.network.check()


def preimage() -> Preimage:
    return Preimage(b"a secret of thirty-two bytes, no")


async def held(scene: Scene) -> str:
    """Return the request of a hold invoice on the broker's own node."""
    return await scene.wallets.hub.add_hold(
        payment_hash=preimage().payment_hash, value_msat=AMOUNT, expiry_seconds=600, cltv_blocks=80, memo=""
    )


async def accepted(scene: Scene) -> bool:
    found = await scene.wallets.hub.lookup(preimage().payment_hash)
    return found is not None and found.state is InvoiceState.ACCEPTED


async def test_a_wallet_is_there_at_its_first_use_with_money_to_spend_and_room_to_receive(
    scene: Scene,
) -> None:
    assert await scene.alice.balance_msat() == sats(5_000_000)
    text, payment_hash = await scene.invoice(scene.bob)
    read = read_invoice(text)
    assert (read.payment_hash, read.amount_msat, read.description) == (payment_hash, AMOUNT, "for the test")
    assert (read.expiry_seconds, read.min_final_cltv) == (600, 40)


async def test_paying_through_the_broker_costs_its_routing_fee_once(scene: Scene) -> None:
    before = [await wallet.balance_msat() for wallet in (scene.alice, scene.bob)]
    text, payment_hash = await scene.invoice(scene.bob)
    paid = await scene.alice.pay(text, payment_hash=payment_hash, max_fee_msat=Msat(1_001))
    again = await scene.alice.pay(text, payment_hash=payment_hash, max_fee_msat=Msat(1_001))
    assert (paid.outcome, paid.fee_msat) == (PaymentOutcome.SUCCEEDED, 1_001)
    assert paid.preimage is not None
    assert Preimage.from_hex(paid.preimage).matches(payment_hash)
    assert paid.preimage not in repr(paid)
    assert again == paid == await scene.alice.lookup(payment_hash) == await scene.alice.track(payment_hash)
    after = [await wallet.balance_msat() for wallet in (scene.alice, scene.bob)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [-(AMOUNT + 1_001), AMOUNT]


async def test_paying_a_hold_waits_for_its_release(scene: Scene) -> None:
    text = await held(scene)
    paying = asyncio.create_task(
        scene.alice.pay(text, payment_hash=preimage().payment_hash, max_fee_msat=Msat(0))
    )
    await until(lambda: accepted(scene), what="the hold is accepted")
    assert (await scene.alice.lookup(preimage().payment_hash)).outcome is PaymentOutcome.IN_FLIGHT
    assert not paying.done()
    await scene.wallets.hub.settle(preimage())
    paid = await asyncio.wait_for(paying, 60)
    assert (paid.outcome, paid.preimage) == (PaymentOutcome.SUCCEEDED, preimage().hex())


async def test_a_payment_that_fails_says_why_and_costs_nothing(scene: Scene) -> None:
    before = await scene.alice.balance_msat()
    text, payment_hash = await scene.invoice(scene.bob)
    poor = await scene.alice.pay(text, payment_hash=payment_hash, max_fee_msat=Msat(1_000))
    assert (poor.outcome, poor.reason) == (PaymentOutcome.FAILED, "no_route")
    late = await scene.alice.pay(text, payment_hash=payment_hash, max_fee_msat=Msat(2_000), max_cltv=60)
    assert (late.outcome, late.reason) == (PaymentOutcome.FAILED, "no_route")
    assert await scene.alice.balance_msat() == before


async def test_an_unknown_payment_is_unknown_and_not_failed(scene: Scene) -> None:
    for seen in (
        await scene.alice.lookup(preimage().payment_hash),
        await scene.alice.track(preimage().payment_hash),
    ):
        assert (seen.outcome, seen.preimage) == (PaymentOutcome.UNKNOWN, None)


@pytest.mark.parametrize("fault", [Fault.NODE_DOWN, Fault.UNKNOWN_OUTCOME])
async def test_a_wallet_that_gives_no_answer_leaves_the_payment_unknown(scene: Scene, fault: Fault) -> None:
    text, payment_hash = await scene.invoice(scene.bob)
    await scene.alice.balance_msat()
    scene.faults.plan(fault, method="pay")
    seen = await scene.alice.pay(text, payment_hash=payment_hash, max_fee_msat=Msat(2_000))
    assert seen.outcome is PaymentOutcome.UNKNOWN


async def test_a_broker_that_is_not_there_is_unreachable_and_its_payments_unknown() -> None:
    nobody = SimulatedWallet("http://127.0.0.1:1", "alice")
    with pytest.raises(WalletUnreachable):
        await nobody.balance_msat()
    with pytest.raises(WalletUnreachable):
        await nobody.create_invoice(amount_msat=AMOUNT, expiry_seconds=600, memo="", final_cltv=40)
    with pytest.raises(WalletUnreachable):
        await nobody.pay("lnbcrt1", payment_hash=preimage().payment_hash, max_fee_msat=Msat(0))
    assert (await nobody.track(preimage().payment_hash)).outcome is PaymentOutcome.UNKNOWN
    await nobody.close()


async def test_a_broker_without_a_simulated_network_refuses(tmp_path: Path) -> None:
    plain = create_app(BrokerSettings(data_dir=tmp_path), SimulatedNetwork.market().node("broker"))
    wallet = SimulatedWallet(ORIGIN, "alice", transport=httpx2.ASGITransport(app=plain))
    async with plain.router.lifespan_context(plain):
        with pytest.raises(WalletRefused):
            await wallet.balance_msat()
        with pytest.raises(WalletUnreachable):
            await wallet.pay("lnbcrt1", payment_hash=preimage().payment_hash, max_fee_msat=Msat(0))
    await wallet.close()


async def test_an_invoice_that_no_node_would_make_is_refused(scene: Scene) -> None:
    for memo, final_cltv in (("m" * 640, 40), ("é" * 320, 40), ("", 3)):
        with pytest.raises(WalletRefused):
            await scene.alice.create_invoice(
                amount_msat=AMOUNT, expiry_seconds=600, memo=memo, final_cltv=final_cltv
            )


@pytest.mark.parametrize("name", ["", "Alice", "../broker", "a" * 65])
def test_a_name_that_is_none_is_told_before_anything_is_sent(name: str) -> None:
    with pytest.raises(ProfileInvalid):
        SimulatedWallet(ORIGIN, name)


async def test_the_brokers_own_node_is_nobodys_wallet(scene: Scene) -> None:
    theirs = SimulatedWallet(ORIGIN, "broker", transport=scene.transport)
    await theirs.balance_msat()
    pubkey = (await scene.http.get("/wallets/broker")).json()["pubkey"]
    assert pubkey != scene.wallets.hub.pubkey
    await theirs.close()


async def test_a_wallet_opened_with_an_amount_owns_it_and_spends_all_but_the_reserve(scene: Scene) -> None:
    opened = await scene.http.post("/wallets", json={"name": "carol", "balance_msat": 50_000_000})
    assert opened.json()["balance_msat"] == 50_000_000
    again = await scene.http.post("/wallets", json={"name": "carol", "balance_msat": 70_000_000})
    assert again.json() == opened.json()
    carol = SimulatedWallet(ORIGIN, "carol", transport=scene.transport)
    outcomes: list[PaymentOutcome] = []
    for msat in (49_000_001, 49_000_000):
        request = await scene.wallets.hub.add_invoice(
            value_msat=Msat(msat), expiry_seconds=600, memo="", final_cltv=40
        )
        paid = await carol.pay(
            request.payment_request, payment_hash=request.payment_hash, max_fee_msat=Msat(0)
        )
        outcomes += [paid.outcome]
    assert outcomes == [PaymentOutcome.FAILED, PaymentOutcome.SUCCEEDED]
    assert await carol.balance_msat() == 1_000_000
    await carol.close()


async def test_mining_stops_before_it_sends_a_held_payment_back_unless_it_is_forced(scene: Scene) -> None:
    text = await held(scene)
    paying = asyncio.create_task(
        scene.alice.pay(text, payment_hash=preimage().payment_hash, max_fee_msat=Msat(0))
    )
    await until(lambda: accepted(scene), what="the hold is accepted")
    chain = (await scene.http.get("/chain")).json()
    left = chain["next_deadline"] - chain["height"]
    assert (await scene.http.post("/mine", json={"blocks": left})).status_code == 409
    mined = await scene.http.post("/mine", json={"blocks": left - 1})
    assert mined.json()["height"] == chain["next_deadline"] - 1
    assert not paying.done()
    assert (await scene.http.post("/mine", json={"blocks": 1, "force": True})).status_code == 200
    gone = await asyncio.wait_for(paying, 60)
    assert (gone.outcome, gone.reason) == (PaymentOutcome.FAILED, "incorrect_payment_details")


async def test_a_wallet_that_was_never_opened_is_not_found(scene: Scene) -> None:
    refused = await scene.http.get("/wallets/nobody")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
