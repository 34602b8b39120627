"""Books that do not hold are noticed, payouts stop, people are told, and they go on when it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from databases import Look
from e2e_waiting import until
from integration.test_credit_market import seller

from lightwork import Agent, Market, sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.errors import BrokerProblem
from lightwork.profile import Profile
from lightwork.runner import Runner
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.app import Rooms, create_app
from lightwork_broker.escrow import store
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import JobId
from lightwork_contracts.signed.keys import SecretKey

ORIGIN = "http://127.0.0.1:8402"


@dataclass
class World:
    rooms: Rooms
    wallets: SimulatedWallets
    market: Market
    provider: SimulatedWallet
    client: httpx2.AsyncClient
    path: Path
    go: asyncio.Event
    """What the task `slow` waits for."""

    async def forge(self, sql: str) -> None:
        """Write past the broker and the database's own guards, as a wrong hand or a broken disk would."""
        # In a thread: the broker, on this loop, may have a transaction open.
        await asyncio.to_thread(self._forge, sql)

    def _forge(self, sql: str) -> None:
        look = Look(str(self.path))
        for table in ("escrow", "withdrawal"):
            look.unguard(table)
        look.change(sql)
        look.close()

    async def health(self) -> tuple[int, str]:
        answer = await self.client.get(f"{ORIGIN}/v1/health")
        return answer.status_code, str(answer.json().get("detail"))


def _slow(go: asyncio.Event) -> Agent:
    agent = Agent("slow")

    @agent.task(price=sats(10))
    async def slow(text: str) -> str:
        """Return the text when it is time."""
        await go.wait()
        return text

    return agent


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[World]:
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"watchdog"))
    settings = BrokerSettings(data_dir=folder, sweep_seconds=0.2, watchdog_seconds=3_600)
    application = create_app(settings, wallets.hub)
    application.include_router(simulated_router(wallets))
    transport = httpx2.ASGITransport(app=application)
    key = SecretKey.generate(bytes([7]) * 32)
    async with application.router.lifespan_context(application):
        broker = Broker(BrokerConnection(ORIGIN, key=key, transport=transport))
        provider = SimulatedWallet(ORIGIN, "provider", transport=transport)
        buyer = SimulatedWallet(ORIGIN, "buyer", transport=transport)
        go = asyncio.Event()
        runner = Runner(
            [seller(), _slow(go)], broker=broker, key=key, wallet=provider, tell=lambda report: None
        )
        selling = asyncio.create_task(runner.run())
        profile = Profile(name="buyer", broker=ORIGIN, key_file=folder / "buyer.key")
        market = Market(ORIGIN, wallet=buyer, profile=profile, transport=transport)
        client = httpx2.AsyncClient(transport=transport)
        try:
            await asyncio.wait_for(runner.ready.wait(), 30)
            rooms = application.state.rooms
            yield World(rooms, wallets, market, provider, client, folder / "broker.sqlite", go)
        finally:
            await market.close()
            runner.stop()
            runner.stop()
            await selling
            for connection in (broker, buyer, provider):
                await connection.close()
            await client.aclose()


async def _hire(world: World) -> None:
    assert await world.market.hire("echo", text="hi", max_price=sats(20)) == "hi"
    await until(lambda: _is_settled(world), what="the broker's books are closed")


async def _is_settled(world: World) -> bool:
    async with world.rooms.database.read() as tx:
        return (await store.count(tx)).unfinished == 0


async def test_sound_books_pass_every_look(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        for _ in range(2):
            await _hire(world)
            assert await world.rooms.watchdog.look() == ()
        assert (await world.health())[0] == 200


FORGERIES = {
    "an entry alone": "INSERT INTO ledger_entry (transaction_id, account, amount_msat) VALUES (1, 'x', 5)",
    "another routing fee": "UPDATE escrow SET routing_paid_msat = routing_paid_msat + 1 WHERE state = 'settled'",
    "another amount": "UPDATE escrow SET accepted_msat = accepted_msat + 1 WHERE state = 'settled'",
    "a payout that never was": "UPDATE escrow SET state = 'canceled' WHERE state = 'settled'",
    "a withdrawal that never was": (
        "INSERT INTO withdrawal (id, agent, status, payment_hash, invoice, amount_msat, max_fee_msat, "
        "fee_paid_msat, preimage, created_at, updated_at) VALUES ('wdr_1', 'a', 'paid', "
        f"'{'ab' * 32}', 'x', 5, 0, 0, '{'cd' * 32}', 1, strftime('%s', 'now'))"
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
async def test_what_does_not_hold_stops_payouts_and_says_so(tmp_path: Path, forgery: str) -> None:
    async with running(tmp_path) as world:
        await _hire(world)
        before = await world.provider.balance_msat()
        hiring = asyncio.create_task(world.market.hire("slow", text="hi", max_price=sats(20)))
        await until(lambda: _is_in(world, EscrowState.ACCEPTED), what="the buyer has paid")
        await world.forge(forgery)
        breaches = await world.rooms.watchdog.look()
        assert breaches != ()
        code, detail = await world.health()
        assert code == 503
        assert "payouts are stopped" in detail
        # Nothing is taken on.
        with pytest.raises(BrokerProblem) as caught:
            await world.market.hire("echo", text="hi", max_price=sats(20))
        assert caught.value.code == "payouts_stopped"
        # Nothing is paid out, and nothing is lost: the buyer's money waits.
        world.go.set()
        await until(lambda: _is_in(world, EscrowState.RELEASING), what="the payout is due")
        (job,) = await _releasing(world)
        assert (await world.rooms.escrows.drive(job)).state is EscrowState.RELEASING, "it is held back"
        assert await world.provider.balance_msat() == before
        world.rooms.gate.open()
        assert await asyncio.wait_for(hiring, 60) == "hi"


async def _is_in(world: World, state: EscrowState) -> bool:
    async with world.rooms.database.read() as tx:
        return bool(await store.unfinished(tx, state))


async def _releasing(world: World) -> list[JobId]:
    async with world.rooms.database.read() as tx:
        return await store.unfinished(tx, EscrowState.RELEASING)


async def test_payouts_go_on_by_themselves_when_the_books_hold_again(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await _hire(world)
        await world.forge("UPDATE escrow SET accepted_msat = accepted_msat + 1")
        assert await world.rooms.watchdog.look() != ()
        assert world.rooms.gate.is_closed
        await world.forge("UPDATE escrow SET accepted_msat = accepted_msat - 1")
        assert await world.rooms.watchdog.look() == ()
        assert not world.rooms.gate.is_closed
        await _hire(world)


async def test_a_node_that_gives_no_answer_is_no_breach_and_opens_no_gate(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await _hire(world)
        world.wallets.network.stop("broker")
        assert await world.rooms.watchdog.look() == ()
        assert not world.rooms.gate.is_closed
        world.wallets.network.start("broker")
        await world.forge("UPDATE escrow SET accepted_msat = accepted_msat + 1")
        assert await world.rooms.watchdog.look() != ()
        world.wallets.network.stop("broker")
        await world.rooms.watchdog.look()
        assert world.rooms.gate.is_closed
        world.wallets.network.start("broker")
