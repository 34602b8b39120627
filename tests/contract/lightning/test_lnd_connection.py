"""The connection to a real LND: its files, its permissions, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import logging
import os
import socket
import traceback
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest
from contract.lightning.world_lnd import LndWorld, settings
from contract.lightning.worlds import hold, in_state, pay, paying, secret

from lightwork_broker.lightning.conclusion import GRACE_SECONDS, STALE_SECONDS
from lightwork_broker.lightning.errors import (
    InvoiceCanceled,
    InvoiceStillOpen,
    LightningError,
    LightningUnavailable,
    PermissionMissing,
)
from lightwork_broker.lightning.lnd import LndNode
from lightwork_broker.lightning.permissions import PERMISSIONS
from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.money import Msat
from lightwork_regtest.network import Network

pytestmark = pytest.mark.regtest


@pytest.fixture(scope="module")
async def world(network: Network) -> AsyncIterator[LndWorld]:
    made = LndWorld(network)
    yield made
    await made.close()


async def bake(network: Network, uris: Sequence[str], file: Path) -> Path:
    """Write a macaroon of the broker's node for exactly these calls."""
    messages = importlib.import_module("lndgrpc.compiled.lightning_pb2")
    stubs = importlib.import_module("lndgrpc.compiled.lightning_pb2_grpc")
    node = network.node("broker")
    credentials = grpc.ssl_channel_credentials(node.tls_cert.read_bytes())
    permissions = [messages.MacaroonPermission(entity="uri", action=uri) for uri in uris]
    async with grpc.aio.secure_channel(node.grpc_address, credentials) as channel:
        baked = await stubs.LightningStub(channel).BakeMacaroon(
            messages.BakeMacaroonRequest(permissions=permissions),
            metadata=(("macaroon", node.admin_macaroon.read_bytes().hex()),),
        )
    await asyncio.to_thread(file.write_bytes, bytes.fromhex(baked.macaroon))
    return file


async def test_the_calls_that_we_name_are_all_that_a_broker_needs(
    network: Network, world: LndWorld, tmp_path: Path
) -> None:
    macaroon = await bake(network, PERMISSIONS, tmp_path / "broker.macaroon")
    broker = LndNode(dataclasses.replace(settings(network, "broker"), macaroon=macaroon))
    assert (await broker.summary()).hold_expiry_delta == 18
    provider = (await world.provider.summary()).pubkey
    assert await broker.estimate_fee(invoice_destination=provider, amount_msat=Msat(1_000)) is not None
    made = await world.provider.add_invoice(
        value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40
    )
    assert (await pay(broker, made.payment_request, made.payment_hash)).status is PayoutStatus.SUCCEEDED
    assert (await broker.track(made.payment_hash)).status is PayoutStatus.SUCCEEDED
    kept, returned = secret(), secret()
    text = await hold(broker, kept)
    async with paying(world.buyer, text, kept.payment_hash):
        await in_state(broker, kept.payment_hash, InvoiceState.ACCEPTED)
        await broker.settle(kept)
    assert [now.state async for now in broker.watch(kept.payment_hash)] == [InvoiceState.SETTLED]
    await hold(broker, returned)
    await broker.cancel(returned.payment_hash)
    with pytest.raises(PermissionMissing):
        await broker.add_invoice(value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40)
    assert await broker.local_balance_msat() > 0
    assert len(await broker.channel_slots()) == 2
    assert isinstance(await broker.pending_holds(), tuple)
    assert made.payment_hash in {one.payment_hash for one in await broker.sent_since(0)}
    await broker.close()


async def test_without_leave_to_read_the_configuration_the_expiry_delta_is_unknown(
    network: Network, tmp_path: Path
) -> None:
    macaroon = await bake(network, ["/lnrpc.Lightning/GetInfo"], tmp_path / "info.macaroon")
    node = LndNode(dataclasses.replace(settings(network, "broker"), macaroon=macaroon))
    assert (await node.summary()).hold_expiry_delta is None
    await node.close()


async def test_a_payment_that_lnd_may_not_make_for_us_raises(
    network: Network, world: LndWorld, tmp_path: Path
) -> None:
    macaroon = await bake(network, ["/lnrpc.Lightning/GetInfo"], tmp_path / "info.macaroon")
    node = LndNode(dataclasses.replace(settings(network, "broker"), macaroon=macaroon))
    made = await world.provider.add_invoice(
        value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40
    )
    with pytest.raises(PermissionMissing):
        await pay(node, made.payment_request, made.payment_hash)
    with pytest.raises(PermissionMissing):
        await node.track(made.payment_hash)
    with pytest.raises(PermissionMissing):
        await node.wait(made.payment_hash, 5)
    await node.close()


async def test_a_macaroon_that_is_replaced_on_disk_is_taken_up(
    network: Network, world: LndWorld, tmp_path: Path
) -> None:
    macaroon = await bake(network, ["/lnrpc.Lightning/ListChannels"], tmp_path / "changing.macaroon")
    node = LndNode(dataclasses.replace(settings(network, "broker"), macaroon=macaroon))
    with pytest.raises(PermissionMissing):
        await node.summary()
    await bake(network, ["/lnrpc.Lightning/GetInfo"], macaroon)
    await node.summary()
    await bake(network, ["/routerrpc.Router/SendPaymentV2"], macaroon)
    made = await world.provider.add_invoice(
        value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40
    )
    assert (await pay(node, made.payment_request, made.payment_hash)).status is PayoutStatus.SUCCEEDED
    await node.close()


async def test_a_certificate_that_is_replaced_on_disk_is_taken_up(network: Network, tmp_path: Path) -> None:
    reached = settings(network, "broker")
    cert = tmp_path / "tls.cert"
    cert.write_bytes(network.node("buyer").tls_cert.read_bytes())
    node = LndNode(dataclasses.replace(reached, tls_cert=cert))
    with pytest.raises(LightningUnavailable):
        await node.summary()
    cert.write_bytes(reached.tls_cert.read_bytes())
    assert (await node.summary()).network == "regtest"
    await node.close()


async def test_the_name_in_the_certificate_may_differ_from_the_address(network: Network) -> None:
    reached = settings(network, "broker")
    named = LndNode(dataclasses.replace(reached, tls_name="localhost"))
    assert (await named.summary()).network == "regtest"
    await named.close()
    misnamed = LndNode(dataclasses.replace(reached, tls_name="node.example"))
    with pytest.raises(LightningUnavailable):
        await misnamed.summary()
    await misnamed.close()


@pytest.mark.parametrize("missing", ["tls_cert", "macaroon"])
async def test_a_file_that_is_not_there_is_named(network: Network, tmp_path: Path, missing: str) -> None:
    nowhere = tmp_path / "nothing"
    with pytest.raises(LightningUnavailable, match="nothing"):
        LndNode(dataclasses.replace(settings(network, "broker"), **{missing: nowhere}))


def _kernel_gives_up_after_ms(port: int) -> set[int]:
    """Return the TCP_USER_TIMEOUT of each of our connections to a port of this machine."""
    found: set[int] = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family is not socket.AF_UNIX and one.getpeername()[1] == port:
                    found.add(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        except OSError:
            continue  # no socket, or not connected
    return found


async def test_the_kernel_is_told_to_give_up_what_a_broker_has_sent_long_before_its_payment_is(
    network: Network,
) -> None:
    # Linux ends a connection whose bytes are not acknowledged for so long, also one whose process is gone
    # (tcp(7), TCP_USER_TIMEOUT), so a call of before cannot arrive after it.
    node = LndNode(settings(network, "broker"))
    await node.summary()
    given_up = _kernel_gives_up_after_ms(int(network.node("broker").grpc_address.rpartition(":")[2]))
    await node.close()
    assert given_up
    assert all(0 < after <= (GRACE_SECONDS - STALE_SECONDS) * 1_000 / 2 for after in given_up)


async def test_a_closed_node_is_unavailable(network: Network) -> None:
    node = LndNode(settings(network, "broker"))
    await node.summary()
    await node.close()
    with pytest.raises(LightningUnavailable):
        await node.summary()


async def test_closing_the_node_ends_its_streams_with_an_error_and_cancels_nobody(
    network: Network, world: LndWorld
) -> None:
    node = LndNode(settings(network, "broker"))
    preimage = secret()
    text = await hold(world.provider, preimage)
    await hold(node, unpaid := secret())
    watching = asyncio.create_task(stay_watching(node, unpaid))
    payment = asyncio.create_task(pay(node, text, preimage.payment_hash))
    await in_state(world.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
    await node.close()
    with pytest.raises(LightningUnavailable):
        await watching
    assert (await payment).status is PayoutStatus.UNKNOWN
    await world.provider.cancel(preimage.payment_hash)


async def stay_watching(node: LndNode, preimage: Preimage) -> None:
    """Watch an invoice that stays as it is."""
    async for now in node.watch(preimage.payment_hash):
        assert now.state is InvoiceState.OPEN


async def test_an_lnd_that_shuts_down_in_order_leaves_unknown_and_not_failed(
    network: Network, world: LndWorld
) -> None:
    preimage, unpaid = secret(), secret()
    text = await hold(world.provider, preimage)
    await hold(world.broker, unpaid)
    watching = asyncio.create_task(stay_watching(world.broker, unpaid))
    payment = asyncio.create_task(pay(world.broker, text, preimage.payment_hash))
    await in_state(world.provider, preimage.payment_hash, InvoiceState.ACCEPTED)
    waiting = asyncio.create_task(world.broker.wait(preimage.payment_hash, 60))
    await asyncio.to_thread(network.stop_node, "broker")
    assert (await payment).status is PayoutStatus.UNKNOWN
    with pytest.raises(LightningUnavailable):
        await watching
    await world.start_broker()
    await world.provider.settle(preimage)
    assert (await waiting).preimage == preimage
    await world.quiet()


async def test_no_secret_reaches_a_log_an_error_or_a_repr(
    network: Network, world: LndWorld, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    kept, opened, gone = secret(), secret(), secret()
    text = await hold(world.broker, kept)
    async with paying(world.buyer, text, kept.payment_hash) as payment:
        await in_state(world.broker, kept.payment_hash, InvoiceState.ACCEPTED)
        await world.broker.settle(kept)
    shown += [repr(payment.result()), str(payment.result())]
    await hold(world.broker, opened)
    await hold(world.broker, gone)
    await world.broker.cancel(gone.payment_hash)
    for preimage, kind in ((opened, InvoiceStillOpen), (gone, InvoiceCanceled)):
        with pytest.raises(kind) as refused:
            await world.broker.settle(preimage)
        shown += traceback.format_exception(refused.value)
    reached = settings(network, "broker")
    wrong = LndNode(dataclasses.replace(reached, macaroon=network.node("buyer").admin_macaroon))
    with pytest.raises(LightningError) as denied:
        await wrong.summary()
    await wrong.close()
    shown += [*traceback.format_exception(denied.value), repr(denied.value), repr(wrong), repr(reached)]
    shown += [repr(vars(wrong)), repr(world.broker), caplog.text, *capfd.readouterr()]
    macaroons = [reached.macaroon.read_bytes(), network.node("buyer").admin_macaroon.read_bytes()]
    secrets = [preimage.hex() for preimage in (kept, opened, gone)] + [each.hex() for each in macaroons]
    seen = "\n".join(shown)
    assert "InvoiceStillOpen" in seen
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not any(each in seen or each.upper() in seen for each in secrets)
    assert not any(repr(preimage.reveal()) in seen for preimage in (kept, opened, gone))


async def test_lnd_is_never_asked_to_settle_what_it_would_log(network: Network, world: LndWorld) -> None:
    opened, gone = secret(), secret()
    await hold(world.broker, opened)
    await hold(world.broker, gone)
    await world.broker.cancel(gone.payment_hash)
    for preimage in (opened, gone, secret()):
        with pytest.raises(LightningError):
            await world.broker.settle(preimage)
        log = network.node("broker").description.log.read_text(errors="replace")
        assert "LTND" in log
        assert preimage.hex() not in log
