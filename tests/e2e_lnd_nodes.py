"""The stage on real LND nodes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

from e2e_stage import NODES, HangingHtlc

from lightwork import LndWallet
from lightwork_contracts.money import Msat
from lightwork_regtest import Network
from lightwork_regtest.nodes.lnd_answers import Empty


class LndNodes:
    """A running regtest network, and its nodes' files."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def broker_settings(self) -> Mapping[str, str]:
        node = self.network.node("broker")
        return {
            "lnd_address": node.grpc_address,
            "lnd_tls_cert": str(node.tls_cert),
            "lnd_macaroon": str(node.role_macaroon),
        }

    def wallet(self, name: str) -> LndWallet:
        node = self.network.node(name)
        return LndWallet.from_files(url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.role_macaroon)

    def wallet_environment(self, name: str) -> Mapping[str, str]:
        node = self.network.node(name)
        return {
            "LIGHTWORK_LND_REST": node.rest_url,
            "LIGHTWORK_LND_TLS_CERT": str(node.tls_cert),
            "LIGHTWORK_LND_MACAROON": str(node.role_macaroon),
        }

    def secrets(self) -> tuple[str, ...]:
        return (self.network.node("broker").role_macaroon.read_bytes().hex(),)

    async def wealth_msat(self, name: str) -> int:
        return await asyncio.to_thread(self.network.node(name).wealth_msat)

    async def htlcs(self) -> tuple[HangingHtlc, ...]:
        return await asyncio.to_thread(self._htlcs)

    def _htlcs(self) -> tuple[HangingHtlc, ...]:
        return tuple(
            HangingHtlc(name, htlc.payment_hash, htlc.incoming, htlc.expiry_height)
            for name in NODES
            for htlc in self.network.node(name).pending_htlcs()
        )

    async def height(self) -> int:
        return (await asyncio.to_thread(self.network.node("broker").info)).block_height

    async def mine(self, blocks: int, *, force: bool = False) -> None:
        await asyncio.to_thread(self.network.mine, blocks, force=force)

    async def kill_broker_node(self) -> None:
        await asyncio.to_thread(self.network.kill_node, "broker")

    async def start_broker_node(self) -> None:
        await asyncio.to_thread(self.network.start_node, "broker")

    async def invoice_of_broker_node(self, amount_msat: Msat) -> str:
        return await asyncio.to_thread(self.network.node("broker").add_invoice, amount_msat)

    async def give_back(self, payment_hash: str) -> None:
        number = base64.b64encode(bytes.fromhex(payment_hash)).decode()
        rest = self.network.node("broker").rest
        await asyncio.to_thread(rest.post, "/v2/invoices/cancel", Empty, {"payment_hash": number})
