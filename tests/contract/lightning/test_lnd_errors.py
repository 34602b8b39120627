"""Each row of the tables of LND's errors, said by a real LND."""

from __future__ import annotations

import importlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from contract.lightning.lnd_wallet_life import WalletLife, error_of, live
from contract.lightning.world_lnd import LndWorld, settings
from contract.lightning.worlds import hold, pay, secret, strangers_invoice

from lightwork_broker.lightning.lnd import LndNode
from lightwork_broker.lightning.lnd_connection import LndConnection, LndSettings
from lightwork_broker.lightning.lnd_errors import ERRORS, REFUSALS, ErrorRow, RefusalRow, translate
from lightwork_broker.lightning.lnd_stubs import RequestName, request
from lightwork_broker.lightning.ports import PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import Network as BitcoinNetwork
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_regtest.network import Network

pytestmark = pytest.mark.regtest

YEAR_SECONDS = 366 * 24 * 3600


@dataclass
class Scene:
    """The nodes to provoke: ports of all three, bare connections to two, and a fresh LND's life."""

    world: LndWorld
    network: Network
    folder: Path
    broker: LndConnection
    provider: LndConnection
    life: WalletLife


@pytest.fixture(scope="module")
async def scene(network: Network, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("lnd")
    made = Scene(
        world=LndWorld(network),
        network=network,
        folder=tmp_path_factory.mktemp("macaroons"),
        broker=LndConnection(settings(network, "broker")),
        provider=LndConnection(settings(network, "provider")),
        life=await live(network, folder),
    )
    yield made
    await made.broker.close()
    await made.provider.close()
    await made.world.close()


async def add_hold(connection: LndConnection, **changes: object) -> grpc.aio.AioRpcError:
    fields: dict[str, object] = {
        "hash": bytes.fromhex(secret().payment_hash),
        "value_msat": 1_000,
        "expiry": 600,
    }
    message = request(RequestName.ADD_HOLD, **(fields | changes))
    return await error_of(connection.raw_call(lambda stubs: stubs.invoices.AddHoldInvoice, message))


async def settle(connection: LndConnection, preimage: Preimage) -> grpc.aio.AioRpcError:
    message = request(RequestName.SETTLE, preimage=preimage.reveal())
    return await error_of(connection.raw_call(lambda stubs: stubs.invoices.SettleInvoice, message))


async def cancel(connection: LndConnection, payment_hash: PaymentHash) -> grpc.aio.AioRpcError:
    message = request(RequestName.CANCEL, payment_hash=bytes.fromhex(payment_hash))
    return await error_of(connection.raw_call(lambda stubs: stubs.invoices.CancelInvoice, message))


async def get_info(scene: Scene, macaroon: bytes) -> grpc.aio.AioRpcError:
    file = scene.folder / "tried.macaroon"
    file.write_bytes(macaroon)
    reached = settings(scene.network, "broker")
    connection = LndConnection(LndSettings(address=reached.address, tls_cert=reached.tls_cert, macaroon=file))
    try:
        return await error_of(
            connection.raw_call(lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO))
        )
    finally:
        await connection.close()


async def hash_taken(scene: Scene) -> grpc.aio.AioRpcError:
    preimage = secret()
    await hold(scene.world.broker, preimage)
    return await add_hold(scene.broker, hash=bytes.fromhex(preimage.payment_hash))


async def settle_open(scene: Scene) -> grpc.aio.AioRpcError:
    preimage = secret()
    await hold(scene.world.broker, preimage)
    return await settle(scene.broker, preimage)


async def settle_cancelled(scene: Scene) -> grpc.aio.AioRpcError:
    preimage = secret()
    await hold(scene.world.broker, preimage)
    await scene.world.broker.cancel(preimage.payment_hash)
    return await settle(scene.broker, preimage)


async def cancel_settled(scene: Scene) -> grpc.aio.AioRpcError:
    made = await scene.world.provider.add_invoice(
        value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40
    )
    await pay(scene.world.broker, made.payment_request, made.payment_hash)
    return await cancel(scene.provider, made.payment_hash)


async def lookup_unknown(scene: Scene) -> grpc.aio.AioRpcError:
    message = request(RequestName.LOOKUP, payment_hash=bytes.fromhex(secret().payment_hash))
    return await error_of(scene.broker.raw_call(lambda stubs: stubs.invoices.LookupInvoiceV2, message))


async def not_ours_to_call(scene: Scene) -> grpc.aio.AioRpcError:
    node = scene.network.node("buyer")
    connection = LndConnection(
        LndSettings(address=node.grpc_address, tls_cert=node.tls_cert, macaroon=node.role_macaroon)
    )
    try:
        return await add_hold(connection)
    finally:
        await connection.close()


async def forged(scene: Scene) -> grpc.aio.AioRpcError:
    macaroon = bytearray(scene.network.node("broker").role_macaroon.read_bytes())
    macaroon[-1] ^= 1
    return await get_info(scene, bytes(macaroon))


async def revoked(scene: Scene) -> grpc.aio.AioRpcError:
    messages = importlib.import_module("lndgrpc.compiled.lightning_pb2")
    stubs = importlib.import_module("lndgrpc.compiled.lightning_pb2_grpc")
    node = scene.network.node("broker")
    metadata = (("macaroon", node.admin_macaroon.read_bytes().hex()),)
    credentials = grpc.ssl_channel_credentials(node.tls_cert.read_bytes())
    async with grpc.aio.secure_channel(node.grpc_address, credentials) as channel:
        lightning = stubs.LightningStub(channel)
        permission = messages.MacaroonPermission(entity="info", action="read")
        baked = await lightning.BakeMacaroon(
            messages.BakeMacaroonRequest(permissions=[permission], root_key_id=777), metadata=metadata
        )
        await lightning.DeleteMacaroonID(messages.DeleteMacaroonIDRequest(root_key_id=777), metadata=metadata)
    return await get_info(scene, bytes.fromhex(baked.macaroon))


async def closed_by_us(scene: Scene) -> grpc.aio.AioRpcError:
    connection = LndConnection(settings(scene.network, "broker"))
    await connection.close()
    return await add_hold(connection)


def in_life(state: str) -> Callable[[Scene], Awaitable[grpc.aio.AioRpcError]]:
    async def said(scene: Scene) -> grpc.aio.AioRpcError:
        return scene.life.said[state]

    return said


PROVOKED: dict[tuple[str, str], Callable[[Scene], Awaitable[grpc.aio.AioRpcError]]] = {
    ("UNKNOWN", "invoice with payment hash already exists"): hash_taken,
    ("UNKNOWN", "invoice still open"): settle_open,
    ("UNKNOWN", "invoice already canceled"): settle_cancelled,
    ("UNKNOWN", "invoice already settled"): cancel_settled,
    ("UNKNOWN", "unable to locate invoice"): lambda scene: cancel(scene.broker, secret().payment_hash),
    ("UNKNOWN", "there are no existing invoices"): in_life("no invoices"),
    ("NOT_FOUND", "unable to locate invoice"): lookup_unknown,
    ("UNKNOWN", "CLTV delta of "): lambda scene: add_hold(scene.broker, cltv_expiry=3),
    ("UNKNOWN", "memo too large"): lambda scene: add_hold(scene.broker, memo="m" * 4096),
    ("UNKNOWN", "data length too big"): lambda scene: add_hold(scene.broker, memo="m" * 800),
    ("UNKNOWN", "greater than max expiry"): lambda scene: add_hold(scene.broker, expiry=YEAR_SECONDS),
    ("UNKNOWN", "is too large, max is"): lambda scene: add_hold(scene.broker, value_msat=10**17),
    ("UNKNOWN", "amount cannot be negative"): lambda scene: add_hold(scene.broker, value_msat=-1),
    ("UNKNOWN", "permission denied"): not_ours_to_call,
    ("UNKNOWN", "verification failed"): forged,
    ("UNKNOWN", "cannot get macaroon: root key with id"): revoked,
    ("UNKNOWN", "wallet not created"): in_life("no wallet"),
    ("UNKNOWN", "wallet locked"): in_life("locked"),
    ("UNKNOWN", "in the process of starting"): in_life("starting"),
    ("UNAVAILABLE", ""): in_life("gone"),
    ("DEADLINE_EXCEEDED", ""): in_life("stopped"),
    ("CANCELLED", "we closed the connection"): closed_by_us,
}


def key(row: ErrorRow) -> tuple[str, str]:
    return row.code.name, row.text


def test_every_row_of_the_table_is_provoked() -> None:
    assert {key(row) for row in ERRORS} == set(PROVOKED)
    assert {row.text for row in REFUSALS} == set(UNPAYABLE)


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: "-".join(key(row)))
async def test_lnd_says_it_and_it_becomes_ours(scene: Scene, row: ErrorRow) -> None:
    error = await PROVOKED[key(row)](scene)
    text = error.details() or ""
    matching = [each for each in ERRORS if each.code is error.code() and each.text in text]
    assert matching[:1] == [row], f"LND says {error.code()} {text}"
    assert type(translate(error)) is row.becomes


async def own_invoice(scene: Scene) -> tuple[str, PaymentHash]:
    made = await scene.world.broker.add_invoice(
        value_msat=Msat(1_000), expiry_seconds=600, memo="", final_cltv=40
    )
    return made.payment_request, made.payment_hash


async def misspelt(scene: Scene) -> tuple[str, PaymentHash]:
    text, payment_hash = await own_invoice(scene)
    return text[:-1] + ("q" if text[-1] != "q" else "p"), payment_hash


def stranger(**changes: object) -> Callable[[Scene], Awaitable[tuple[str, PaymentHash]]]:
    async def made(scene: Scene) -> tuple[str, PaymentHash]:
        del scene
        preimage = secret()
        return strangers_invoice(preimage=preimage, **changes), preimage.payment_hash

    return made


@dataclass(frozen=True)
class Unpayable:
    invoice: Callable[[Scene], Awaitable[tuple[str, PaymentHash]]]
    cltv_limit: int = 1000


UNPAYABLE = {
    "invoice expired": Unpayable(stranger(timestamp=int(time.time()) - 100_000)),
    "self-payments not allowed": Unpayable(own_invoice),
    "invoice not for current active network": Unpayable(stranger(network=BitcoinNetwork.MAINNET)),
    "checksum failed": Unpayable(misspelt),
    "amount must be specified when paying a zero amount invoice": Unpayable(stranger(amount_msat=None)),
    "cltv limit ": Unpayable(stranger(), cltv_limit=20),
    "total time lock of ": Unpayable(stranger(), cltv_limit=1_000_000),
}


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: row.text)
async def test_lnd_refuses_to_pay_it_and_nothing_is_sent(scene: Scene, row: RefusalRow) -> None:
    case = UNPAYABLE[row.text]
    text, payment_hash = await case.invoice(scene)
    message = request(RequestName.SEND, payment_request=text, cltv_limit=case.cltv_limit, timeout_seconds=5)
    answers = scene.broker.stream(lambda stubs: stubs.router.SendPaymentV2, message)
    error = await error_of(anext(answers))
    assert row.text in (error.details() or "")
    assert error.code() is grpc.StatusCode.UNKNOWN
    outcome = await pay(scene.world.broker, text, payment_hash, cltv_limit=case.cltv_limit)
    assert (outcome.status, outcome.failure) == (PayoutStatus.FAILED, row.failure)
    tracked = await scene.world.broker.track(payment_hash)
    assert tracked.failure is PayoutFailure.NEVER_SENT


async def test_a_node_that_is_not_there_leaves_a_payment_unknown(scene: Scene) -> None:
    reached = settings(scene.network, "broker")
    nowhere = LndNode(
        LndSettings(address="127.0.0.1:1", tls_cert=reached.tls_cert, macaroon=reached.macaroon)
    )
    preimage = secret()
    outcome = await pay(nowhere, strangers_invoice(preimage=preimage), preimage.payment_hash)
    assert (outcome.status, outcome.failure) == (PayoutStatus.UNKNOWN, None)
    assert (await nowhere.wait(preimage.payment_hash, 0.6)).status is PayoutStatus.UNKNOWN
    await nowhere.close()
