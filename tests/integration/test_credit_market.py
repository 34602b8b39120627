"""Credit mode through the whole market: asked for on both sides, owed to the msat, and bounded."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from e2e_waiting import until

from lightwork import Agent, CheckFailed, JobFailed, Market, TaskFailed, sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.errors import BrokerProblem, CheckCode, ProviderUnavailable
from lightwork.profile import Profile
from lightwork.reports import Report
from lightwork.runner import Runner
from lightwork.simulated_wallet import SimulatedWallet
from lightwork.verification import Asked, TrustedBroker, check_quote
from lightwork_broker.app import Rooms, create_app
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import balance_account
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.modes import TRUST, PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.keys import SecretKey

ORIGIN = "http://127.0.0.1:8402"
PRICE = sats(10)
TOTAL = 10_000 + 1_000 + 100
"""Price, base fee and 1 %: nothing is routed to the provider."""


def seller() -> Agent:
    agent = Agent("tester")

    @agent.task(price=PRICE)
    async def echo(text: str) -> str:
        """Return the text unchanged."""
        return text

    @agent.task(price=PRICE)
    async def refuse(text: str) -> str:
        """Never do it."""
        raise TaskFailed("no")

    return agent


@dataclass
class World:
    rooms: Rooms
    transport: httpx2.ASGITransport
    profile: Profile
    buyer: SimulatedWallet
    provider: SecretKey
    runners: list[tuple[Runner, asyncio.Task[None], Broker]]

    @asynccontextmanager
    async def market(self, *, allow_credit: bool = True) -> AsyncGenerator[Market]:
        opened = Market(
            ORIGIN,
            key=SecretKey.generate(secrets.token_bytes(32)),
            wallet=self.buyer,
            profile=self.profile,
            transport=self.transport,
            allow_credit=allow_credit,
        )
        async with opened:
            yield opened

    async def sell(self, *, key: SecretKey, wallet: SimulatedWallet | None) -> None:
        broker = Broker(BrokerConnection(ORIGIN, key=key, transport=self.transport))
        runner = Runner([seller()], broker=broker, key=key, wallet=wallet, tell=_say_nothing)
        running = asyncio.create_task(runner.run())
        self.runners.append((runner, running, broker))
        ready = asyncio.create_task(runner.ready.wait())
        await asyncio.wait({running, ready}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if running.done():
            running.result()

    async def until_owed(self, amount_msat: int) -> None:
        """Wait for it: the buyer's wallet knows of the settlement before the broker's database does."""

        async def owed() -> bool:
            return await self.owed() == amount_msat

        await until(owed, what=f"{amount_msat} msat are owed")

    async def owed(self) -> int:
        async with self.rooms.database.read() as tx:
            return -await ledger.balance(tx, balance_account(self.provider.public))


@asynccontextmanager
async def credit_market(folder: Path, *, ceiling: Msat = sats(50_000)) -> AsyncGenerator[World]:
    """A broker, an agent without a wallet, and a buyer, in this process."""
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"credit"))
    settings = BrokerSettings(data_dir=folder, sweep_seconds=0.2, credit_ceiling_msat=ceiling)
    application = create_app(settings, wallets.hub)
    application.include_router(simulated_router(wallets))
    transport = httpx2.ASGITransport(app=application)
    async with application.router.lifespan_context(application):
        world = World(
            rooms=application.state.rooms,
            transport=transport,
            profile=Profile(name="buyer", broker=ORIGIN, key_file=folder / "buyer.key"),
            buyer=SimulatedWallet(ORIGIN, "buyer", transport=transport),
            provider=SecretKey.generate(secrets.token_bytes(32)),
            runners=[],
        )
        try:
            await world.sell(key=world.provider, wallet=None)
            yield world
        finally:
            for runner, running, broker in world.runners:
                runner.stop()
                runner.stop()
                await asyncio.wait({running})
                await broker.close()
            await world.buyer.close()
    wallets.network.check()


def _say_nothing(report: Report) -> None:
    del report


async def test_a_hire_on_credit_charges_price_and_fee_and_owes_the_price(tmp_path: Path) -> None:
    async with credit_market(tmp_path) as world, world.market() as market:
        before = await world.buyer.balance_msat()
        assert await market.hire("echo", text="hi", max_price=sats(20)) == "hi"
        assert await world.buyer.balance_msat() - before == -TOTAL
        await world.until_owed(PRICE)


async def test_a_failing_task_on_credit_gives_all_the_money_back_and_owes_nothing(tmp_path: Path) -> None:
    async with credit_market(tmp_path) as world, world.market() as market:
        before = await world.buyer.balance_msat()
        with pytest.raises(JobFailed):
            await market.hire("refuse", text="hi", max_price=sats(20))
        assert await world.buyer.balance_msat() == before
        assert await world.owed() == 0


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_buyer_that_did_not_allow_credit_is_told_who_could_cheat_and_pays_nothing(
    tmp_path: Path, *, by_name: bool
) -> None:
    async with credit_market(tmp_path) as world, world.market(allow_credit=False) as market:
        before = await world.buyer.balance_msat()
        (listing,) = await market.search("echo")
        assert listing.content.mode is PaymentMode.CREDIT
        assert listing.who_could_cheat == TRUST[PaymentMode.CREDIT].who_could_cheat
        with pytest.raises(BrokerProblem) as caught:
            await market.hire("echo" if by_name else listing, text="hi", max_price=sats(20))
        assert caught.value.code == "mode_not_allowed"
        assert "could cheat: the broker" in (caught.value.hint or "")
        assert await world.buyer.balance_msat() == before


async def test_a_broker_that_quotes_credit_to_a_buyer_who_did_not_allow_it_is_caught(tmp_path: Path) -> None:
    async with credit_market(tmp_path) as world, world.market() as market:
        info = await market.info()
        quote = await market.quote("echo", text="hi", max_price=sats(20))
        assert (quote.mode, quote.routing_msat) == (PaymentMode.CREDIT, 0)
        assert quote.who_could_cheat == TRUST[PaymentMode.CREDIT].who_could_cheat
        buyer = (await world.rooms.quotes.get(quote.id)).buyer
        trusted = TrustedBroker(pubkey=info.pubkey, node=info.node, network=info.network)
        asked = Asked(buyer=buyer, input_hash=input_hash({"text": "hi"}), max_price=sats(20))
        with pytest.raises(CheckFailed) as caught:
            check_quote(quote, asked=asked, broker=trusted, now=info.now)
        assert caught.value.check is CheckCode.MODE


async def test_a_name_finds_the_provider_with_a_wallet_although_one_on_credit_is_cheaper(
    tmp_path: Path,
) -> None:
    async with credit_market(tmp_path) as world:
        other = SecretKey.generate(secrets.token_bytes(32))
        wallet = SimulatedWallet(ORIGIN, "provider", transport=world.transport)
        await world.sell(key=other, wallet=wallet)
        async with world.market(allow_credit=False) as market:
            assert await market.hire("echo", text="hi", max_price=sats(20)) == "hi"
        assert await world.owed() == 0
        await wallet.close()


async def test_what_is_owed_never_goes_above_the_ceiling_and_the_refusal_says_what_to_do(
    tmp_path: Path,
) -> None:
    async with credit_market(tmp_path, ceiling=sats(25)) as world, world.market() as market:
        for _ in range(2):
            await market.hire("echo", text="hi", max_price=sats(20))
        with pytest.raises(ProviderUnavailable) as caught:
            await market.hire("echo", text="hi", max_price=sats(20))
        assert "must withdraw first" in caught.value.message
        await world.until_owed(2 * PRICE)


async def test_ten_buyers_at_once_cannot_bring_what_is_owed_above_the_ceiling(tmp_path: Path) -> None:
    async with credit_market(tmp_path, ceiling=sats(35)) as world, world.market() as market:
        outcomes = await asyncio.gather(
            *(market.hire("echo", text=str(number), max_price=sats(20)) for number in range(10)),
            return_exceptions=True,
        )
        done = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert len(done) == 3
        await world.until_owed(3 * PRICE)


async def test_a_broker_without_credit_refuses_such_a_listing(tmp_path: Path) -> None:
    with pytest.raises(BrokerProblem, match="offers no credit mode"):
        async with credit_market(tmp_path, ceiling=sats(0)):
            raise AssertionError("it was listed")


async def test_after_the_listing_changes_its_mode_a_quote_of_the_new_one_is_used(tmp_path: Path) -> None:
    async with credit_market(tmp_path) as world, world.market() as market:
        runner, running, broker = world.runners.pop()
        runner.stop()
        await running
        await broker.close()
        wallet = SimulatedWallet(ORIGIN, "provider", transport=world.transport)
        before = await wallet.balance_msat()
        await world.sell(key=world.provider, wallet=wallet)

        async def in_escrow() -> bool:
            return (await market.search("echo"))[0].content.mode is PaymentMode.ESCROW

        await until(in_escrow, what="the listing is in escrow mode")
        assert await market.hire("echo", text="hi", max_price=sats(20)) == "hi"
        assert await wallet.balance_msat() - before == PRICE
        assert await world.owed() == 0
        await wallet.close()
