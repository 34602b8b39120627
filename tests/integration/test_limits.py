"""What one buyer, one key or one address may take of a broker, and what is left for the others."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx2
import pytest
from e2e_waiting import until
from integration.test_credit_market import ORIGIN, World, seller

from lightwork import sats
from lightwork.broker import Broker
from lightwork.connection import BrokerConnection
from lightwork.errors import BrokerProblem
from lightwork.profile import Profile
from lightwork.simulated_wallet import SimulatedWallet
from lightwork_broker.app import create_app
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.ids import JobId
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.jobs import Hire
from lightwork_contracts.wire.market import RequestQuote


@asynccontextmanager
async def limited(folder: Path, **limits: int) -> AsyncGenerator[World]:
    wallets = SimulatedWallets(SimulatedNetwork(seed=b"limits"))
    settings = BrokerSettings.model_validate({"data_dir": folder, "sweep_seconds": 0.2, **limits})
    application = create_app(settings, wallets.hub)
    application.include_router(simulated_router(wallets))
    transport = httpx2.ASGITransport(app=application, client=("192.0.2.1", 1))
    async with application.router.lifespan_context(application):
        world = World(
            rooms=application.state.rooms,
            transport=transport,
            profile=Profile(name="buyer", broker=ORIGIN, key_file=folder / "buyer.key"),
            buyer=SimulatedWallet(ORIGIN, "buyer", transport=transport),
            provider=SecretKey.generate(bytes([9]) * 32),
            runners=[],
        )
        wallet = SimulatedWallet(ORIGIN, "provider", transport=transport)
        try:
            await world.sell(key=world.provider, wallet=wallet)
            yield world
        finally:
            for runner, running, broker in world.runners:
                runner.stop()
                runner.stop()
                await asyncio.wait({running})
                await broker.close()
            await world.buyer.close()
            await wallet.close()


def _buyer(world: World, number: int, *, attempts: int = 1) -> Broker:
    key = SecretKey.generate(bytes([number]) * 32)
    return Broker(BrokerConnection(ORIGIN, key=key, transport=world.transport, attempts=attempts))


async def _hire(buyer: Broker, text: str) -> str:
    request = RequestQuote(task="echo", input={"text": text}, max_price_msat=sats(20))
    return (await buyer.hire(Hire(request=request), idempotency_key=f"the key of {text}")).id


async def test_a_buyer_that_pays_nothing_takes_only_its_own_share_of_jobs(tmp_path: Path) -> None:
    assert seller().tasks
    async with limited(tmp_path, open_jobs_of_buyer=2, open_jobs=3) as world:
        greedy, other, third = (_buyer(world, number) for number in (1, 2, 3))
        first = await _hire(greedy, "one")
        await _hire(greedy, "two")
        with pytest.raises(BrokerProblem, match="you have 2 jobs") as caught:
            await _hire(greedy, "three")
        assert caught.value.code == "too_many_jobs"
        await _hire(other, "four")
        with pytest.raises(BrokerProblem, match="this broker has 3 jobs"):
            await _hire(third, "five")
        # What is called off makes room again.
        await greedy.cancel(first)  # type: ignore[arg-type]
        await _hire(third, "six")
        for buyer in (greedy, other, third):
            await buyer.close()


async def test_a_node_whose_channels_are_full_promises_no_job_until_one_of_them_has_room_again(
    tmp_path: Path,
) -> None:
    # Two wallets have a channel each, and each may hold one payment.
    async with limited(tmp_path, held_htlcs_of_channel=1) as world:
        await world.buyer.balance_msat()
        buyer = _buyer(world, 1)
        first = await _hire(buyer, "one")
        await _hire(buyer, "two")
        with pytest.raises(BrokerProblem, match="hold as many payments as they can") as caught:
            await _hire(buyer, "three")
        assert caught.value.code == "too_many_jobs"
        await buyer.cancel(first)  # type: ignore[arg-type]
        await _hire(buyer, "four")
        await buyer.close()


async def test_a_key_that_asks_too_much_is_told_to_slow_down_and_others_are_served(tmp_path: Path) -> None:
    async with limited(tmp_path, requests_per_second_of_key=5) as world:
        loud, quiet = _buyer(world, 1), _buyer(world, 2)
        answers = await asyncio.gather(*(loud.jobs() for _ in range(40)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert refused != []
        assert {error.code for error in refused if isinstance(error, BrokerProblem)} == {"overloaded"}
        assert (await quiet.jobs()).jobs == ()
        for buyer in (loud, quiet):
            await buyer.close()


async def test_a_key_that_waits_in_too_many_requests_is_refused_one_more_until_some_have_ended(
    tmp_path: Path,
) -> None:
    async with limited(tmp_path, requests_at_once_of_key=3) as world:
        patient, other = _buyer(world, 1), _buyer(world, 2)
        job = await _hire(patient, "one")
        waiting = [
            asyncio.create_task(patient.my_job(JobId(job), wait_seconds=30, after_event=1_000))
            for _ in range(3)
        ]

        async def all_wait() -> bool:
            try:
                await patient.jobs()
            except BrokerProblem as error:
                return error.code == "overloaded"
            return False

        await until(all_wait, what="every place of the key is taken")
        assert (await other.jobs()).jobs == ()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

        async def served() -> bool:
            return not await all_wait()

        await until(served, what="the key is served again")
        for buyer in (patient, other):
            await buyer.close()


async def test_an_address_that_floods_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    async with limited(tmp_path, requests_per_second_of_address=20) as world:
        async with httpx2.AsyncClient(transport=world.transport) as client:
            answers = [await client.post(f"{ORIGIN}/v1/jobs", content=b"junk") for _ in range(120)]
            codes = {answer.status_code for answer in answers}
            assert codes == {401, 429}
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert refused.json()["code"] == "overloaded"
            assert refused.headers["retry-after"] == "1"
        elsewhere = httpx2.ASGITransport(app=world.transport.app, client=("192.0.2.2", 1))
        async with httpx2.AsyncClient(transport=elsewhere) as client:
            assert (await client.get(f"{ORIGIN}/v1/info")).status_code == 200


class _LaterClock:
    """The time in two hours."""

    def now(self) -> float:
        return time.time() + 7_200


async def test_a_running_broker_forgets_what_nobody_hired_on_and_keeps_the_job(tmp_path: Path) -> None:
    async with limited(tmp_path) as world:
        buyer = _buyer(world, 1)
        await _hire(buyer, "hired")
        asked = RequestQuote(task="echo", input={"text": "only asked"}, max_price_msat=sats(20))
        await buyer.quote(asked, idempotency_key="only asked")
        await buyer.close()
    settings = BrokerSettings.model_validate({"data_dir": tmp_path, "network": "simulated"})
    node = SimulatedWallets(SimulatedNetwork(seed=b"limits")).hub
    application = create_app(settings, node, clock=_LaterClock())

    def inputs() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "broker.sqlite")) as look:
            return [row[0] for row in look.execute("SELECT input FROM quote")]

    assert len(inputs()) == 2
    async with application.router.lifespan_context(application):

        async def forgotten() -> bool:
            return inputs() == ['{"text":"hired"}']

        await until(forgotten, what="the quote without a job is gone")
