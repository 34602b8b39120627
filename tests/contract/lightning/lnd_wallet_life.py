"""A fresh LND of our own, taken through the states in which it cannot serve yet, to hear what it says in each."""

from __future__ import annotations

import asyncio
import importlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
from contract.lightning.worlds import secret

from lightwork_broker.lightning.lnd_connection import LndConnection, LndSettings
from lightwork_broker.lightning.lnd_stubs import RequestName, request
from lightwork_regtest.network import Network

PASSWORD = b"only for this test"
PATIENCE_SECONDS = 60.0


@dataclass
class WalletLife:
    """What LND said, by the state that it was in."""

    said: dict[str, grpc.aio.AioRpcError] = field(default_factory=dict)


async def live(network: Network, folder: Path) -> WalletLife:
    """Start LND, make its wallet, stop it, start it locked; return what it said on the way."""
    life = WalletLife()
    macaroon = folder / "given.macaroon"
    macaroon.write_bytes(b"none yet")
    address = f"127.0.0.1:{_free_port()}"
    async with _running(network, folder, address) as process:
        life.said["no wallet"] = await _first_error(folder, address, macaroon, "wallet not created")
        macaroon.write_bytes(await _make_wallet(folder, address))
        life.said["starting"] = await _first_error(folder, address, macaroon, "in the process of starting")
        connection = _connect(folder, address, macaroon)
        await _answering(connection)
        life.said["no invoices"] = await error_of(
            connection.raw_call(
                lambda stubs: stubs.invoices.LookupInvoiceV2,
                request(RequestName.LOOKUP, payment_hash=bytes.fromhex(secret().payment_hash)),
            )
        )
        process.send_signal(signal.SIGSTOP)
        life.said["stopped"] = await error_of(
            connection.raw_call(
                lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO), seconds=0.5
            )
        )
        process.send_signal(signal.SIGCONT)
        await connection.close()
    async with _running(network, folder, address):
        life.said["locked"] = await _first_error(folder, address, macaroon, "wallet locked")
    life.said["gone"] = await _first_error(folder, address, macaroon, "")
    return life


async def error_of(call: object) -> grpc.aio.AioRpcError:
    """Return the error that a call must end in."""
    try:
        await call  # type: ignore[misc]  # any awaitable
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("LND did not refuse")


def _connect(folder: Path, address: str, macaroon: Path) -> LndConnection:
    return LndConnection(LndSettings(address=address, tls_cert=folder / "tls.cert", macaroon=macaroon))


async def _first_error(folder: Path, address: str, macaroon: Path, text: str) -> grpc.aio.AioRpcError:
    """Ask until LND answers with an error that holds `text`."""
    end = time.monotonic() + PATIENCE_SECONDS
    heard: set[str] = set()
    while not (folder / "tls.cert").exists():
        assert time.monotonic() < end, "LND made no certificate"
        await asyncio.sleep(0.02)
    connection = _connect(folder, address, macaroon)
    try:
        while time.monotonic() < end:
            try:
                await connection.raw_call(
                    lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO)
                )
            except grpc.aio.AioRpcError as error:
                if text in (error.details() or ""):
                    return error
                heard.add(error.details() or "")
            await asyncio.sleep(0.002)
    finally:
        await connection.close()
    raise AssertionError(f"LND never said {text!r} but {heard}")


async def _answering(connection: LndConnection) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await connection.raw_call(lambda stubs: stubs.lightning.GetInfo, request(RequestName.GET_INFO))
        except grpc.aio.AioRpcError:
            assert time.monotonic() < end, "LND did not come up"
            await asyncio.sleep(0.1)
        else:
            return


async def _make_wallet(folder: Path, address: str) -> bytes:
    messages = importlib.import_module("lndgrpc.compiled.walletunlocker_pb2")
    stubs = importlib.import_module("lndgrpc.compiled.walletunlocker_pb2_grpc")
    credentials = grpc.ssl_channel_credentials((folder / "tls.cert").read_bytes())
    async with grpc.aio.secure_channel(address, credentials) as channel:
        unlocker = stubs.WalletUnlockerStub(channel)
        seed = await unlocker.GenSeed(messages.GenSeedRequest())
        made = await unlocker.InitWallet(
            messages.InitWalletRequest(
                wallet_password=PASSWORD, cipher_seed_mnemonic=seed.cipher_seed_mnemonic
            )
        )
    return bytes(made.admin_macaroon)


@asynccontextmanager
async def _running(network: Network, folder: Path, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    chain = network.description.bitcoind
    config = folder / "lnd.conf"
    settings = {
        "rpclisten": address,
        "restlisten": f"127.0.0.1:{_free_port()}",
        "nolisten": "true",
        "nobootstrap": "true",
        "logging.file.disable": "true",
        "bitcoin.regtest": "true",
        "bitcoin.node": "bitcoind",
        "bitcoind.rpchost": f"127.0.0.1:{chain.rpc_port}",
        "bitcoind.rpcuser": chain.rpc_user,
        "bitcoind.rpcpass": chain.rpc_password,
        "bitcoind.zmqpubrawblock": f"tcp://127.0.0.1:{chain.zmq_block_port}",
        "bitcoind.zmqpubrawtx": f"tcp://127.0.0.1:{chain.zmq_tx_port}",
    }
    lines = "".join(f"{key}={value}\n" for key, value in settings.items())
    config.write_text(f"[Application Options]\n{lines}")
    config.chmod(0o600)
    program = str(network.description.programs["lnd"].path)
    with (folder / "lnd.out").open("ab") as out:
        process = await asyncio.create_subprocess_exec(program, f"--lnddir={folder}", stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
