"""What a broker's macaroon must allow, what it need not, and what a broker says at its start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import e2e_recording_broker
import e2e_shop
import pytest
import pytest_asyncio
from e2e_broker import BrokerProcess
from e2e_provider import HandBuyer
from e2e_waiting import until
from e2e_world import World
from pydantic import BaseModel, ConfigDict

from lightwork import PaymentOutcome
from lightwork_broker.escrow.reconcile import RecoveryFailed, require_permissions
from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.lnd import LndNode, LndSettings
from lightwork_broker.lightning.permissions import NEEDED, PERMISSIONS, WISHED, bake_command
from lightwork_broker.lightning.ports import Allowance
from lightwork_contracts.status import JobStatus
from lightwork_regtest import Network
from lightwork_regtest.macaroons import BROKER, Role

pytestmark = pytest.mark.regtest


OF_WHO_OWES = frozenset({"/lnrpc.Lightning/ListPayments"})
"""What only a broker that owes agents something asks, at its start; test_lnd_connection makes this call."""

OF_CLOSED_CHANNELS = frozenset({"/lnrpc.Lightning/LookupHtlcResolution"})
"""What is asked only when a channel was closed; the brokers of test_closed_channels have no other macaroon for it."""

OF_THE_CHAIN = OF_CLOSED_CHANNELS | {"/lnrpc.Lightning/ClosedChannels", "/lnrpc.Lightning/PendingChannels"}


class Anything(BaseModel):
    """Whatever LND answers."""

    model_config = ConfigDict(extra="allow")


def bake(network: Network, file: Path, *, uris: tuple[str, ...]) -> LndSettings:
    """Return how to reach the broker's node with a new macaroon for these calls."""
    node = network.node("broker")
    node.bake(Role(root_key_id=777, uris=uris), file)
    return LndSettings(address=node.grpc_address, tls_cert=node.tls_cert, macaroon=file)


@pytest_asyncio.fixture(loop_scope="session")
async def recorded(network: Network, tmp_path: Path) -> AsyncGenerator[tuple[World, Path]]:
    """A broker whose calls to its node are noted, and the file of the notes."""
    launcher = (sys.executable, e2e_recording_broker.__file__)
    settings = {"watchdog_seconds": 0.5}
    broker = BrokerProcess(network, folder=tmp_path, command=launcher, settings=settings)
    calls = tmp_path / "calls"
    broker.env |= {e2e_recording_broker.CALLS: str(calls), e2e_recording_broker.PLAN: str(tmp_path / "plan")}
    await broker.start()
    world = World(network, broker)
    try:
        async with world.runner([e2e_shop.agent]):
            yield world, calls
    finally:
        await world.close()
        await broker.stop()


async def test_a_broker_makes_all_the_calls_that_it_may_make_and_no_others(
    recorded: tuple[World, Path],
) -> None:
    world, calls = recorded
    known_at_start = calls.read_text().splitlines()
    # What is asked only to find out whether it may be, at the start, is no need of it.
    await asyncio.to_thread(calls.write_text, "")
    buyer = HandBuyer(world)
    async with world.money.moves() as moved:
        kept = await buyer.hire_task("echo", "kept", key="kept-and-noted")
        paid = await buyer.pay(kept)
        await buyer.until(kept.id, JobStatus.SETTLED)
        moved.sold(kept.quote)
        returned = await buyer.hire_task("failing", "returned", key="returned-and-noted")
        back = await buyer.pay(returned)
        await buyer.until(returned.id, JobStatus.REFUNDED)
    assert (paid.outcome, back.outcome) == (PaymentOutcome.SUCCEEDED, PaymentOutcome.FAILED)
    assert set(BROKER.uris) == set(PERMISSIONS)

    async def all_made() -> bool:
        # The running configuration is asked for once, by the first look at the node.
        made = set(calls.read_text().splitlines()) | (set(WISHED) & set(known_at_start)) | OF_WHO_OWES
        made |= OF_CLOSED_CHANNELS
        assert made <= set(PERMISSIONS), f"not allowed for: {made - set(PERMISSIONS)}"
        return made == set(PERMISSIONS)

    await until(all_made, what="each call that the macaroon allows is made")


@pytest.mark.parametrize("missing", NEEDED)
async def test_a_macaroon_without_any_one_call_is_refused_and_the_call_is_named(
    network: Network, tmp_path: Path, missing: str
) -> None:
    others = tuple(uri for uri in PERMISSIONS if uri != missing)
    node = LndNode(bake(network, tmp_path / "short.macaroon", uris=others))
    try:
        assert await node.allowance() == Allowance(missing=(missing,))
        with pytest.raises(RecoveryFailed) as refused:
            await require_permissions(node)
    finally:
        await node.close()
    assert f"call {missing}:" in str(refused.value)
    assert bake_command() in str(refused.value)
    assert f"uri:{missing}" in bake_command()


@pytest.mark.parametrize("missing", ["/routerrpc.Router/SendPaymentV2", "/lnrpc.Lightning/GetInfo"])
async def test_a_broker_that_may_not_pay_or_ask_does_not_start_and_says_what_helps(
    network: Network, tmp_path: Path, missing: str
) -> None:
    file = tmp_path / "short.macaroon"
    bake(network, file, uris=tuple(uri for uri in PERMISSIONS if uri != missing))
    broker = BrokerProcess(network, folder=tmp_path, settings={"lnd_macaroon": str(file)})
    broker.spawn()
    assert await broker.wait_gone() == 5
    assert f"does not let the broker call {missing}:" in broker.log_text()
    assert "lncli bakemacaroon --save_to broker.macaroon uri:/" in broker.log_text()


async def test_the_brokers_own_macaroon_allows_what_is_needed_and_the_admins_is_warned_of(
    network: Network, tmp_path: Path
) -> None:
    node = LndNode(bake(network, tmp_path / "own.macaroon", uris=BROKER.uris))
    assert await node.allowance() == Allowance()
    await node.close()
    admin = network.node("broker").admin_macaroon
    broker = BrokerProcess(network, folder=tmp_path, settings={"lnd_macaroon": str(admin)})
    await broker.start()
    await broker.stop()
    assert "macaroon_too_powerful" in broker.log_text()
    assert "BakeMacaroon" in broker.log_text()
    assert "lncli bakemacaroon" in broker.log_text()


async def test_a_macaroon_that_may_not_ask_of_the_chain_is_enough_and_the_audit_says_what_it_does_not_know(
    network: Network, tmp_path: Path
) -> None:
    file = tmp_path / "older.macaroon"
    bake(network, file, uris=tuple(uri for uri in PERMISSIONS if uri not in OF_THE_CHAIN))
    settings = {"lnd_macaroon": str(file), "watchdog_seconds": 0.2}
    broker = BrokerProcess(network, folder=tmp_path, settings=settings)
    await broker.start()
    audited = await broker.command("audit", "--node")

    async def said() -> bool:
        return "watchdog.chain_not_compared" in broker.log_text()

    await until(said, what="the watchdog says that it cannot compare with the chain")
    await broker.stop()
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "not known: no permission" in audited.stdout
    assert "payouts.stopped" not in broker.log_text()


async def test_a_node_that_is_away_has_not_refused_anything(network: Network, tmp_path: Path) -> None:
    settings = bake(network, tmp_path / "own.macaroon", uris=BROKER.uris)
    node = LndNode(LndSettings(address="127.0.0.1:9", tls_cert=settings.tls_cert, macaroon=settings.macaroon))
    with pytest.raises(LightningUnavailable):
        await node.allowance()
    await node.close()


async def test_asking_what_is_allowed_makes_nothing_and_moves_nothing(
    network: Network, tmp_path: Path
) -> None:
    own = network.node("broker")
    node = LndNode(bake(network, tmp_path / "own.macaroon", uris=BROKER.uris))

    def there() -> tuple[int, Anything, Anything]:
        payments = own.rest.get("/v1/payments", Anything, params={"include_incomplete": True})
        return own.wealth_msat(), own.rest.get("/v1/invoices", Anything), payments

    before = await asyncio.to_thread(there)
    await node.allowance()
    assert await asyncio.to_thread(there) == before
    await node.close()


async def test_what_a_macaroon_does_not_allow_to_ask_of_an_htlc_is_told_to_a_better_one(
    recorded: tuple[World, Path], network: Network, tmp_path: Path
) -> None:
    world, _ = recorded
    buyer = HandBuyer(world)
    async with world.money.moves() as moved:
        job = await buyer.hire_task("echo", "told later", key="told-later")
        assert (await buyer.pay(job)).outcome is PaymentOutcome.SUCCEEDED
        await buyer.until(job.id, JobStatus.SETTLED)
        moved.sold(job.quote)
    older = tuple(uri for uri in PERMISSIONS if uri not in OF_CLOSED_CHANNELS)
    nodes = [
        LndNode(bake(network, tmp_path / name, uris=uris))
        for name, uris in (("older.macaroon", older), ("own.macaroon", PERMISSIONS))
    ]

    async def ends() -> list[HtlcEnd]:
        asked = [await node.incoming_htlcs(job.quote.payment_hash) for node in nodes]
        return [htlc.end for htlcs in asked for htlc in htlcs]

    async def told() -> bool:
        return await ends() == [HtlcEnd.UNASKED, HtlcEnd.TAKEN]

    try:
        await until(told, what="LND has recorded the end of the HTLC")
    finally:
        for node in nodes:
            await node.close()
