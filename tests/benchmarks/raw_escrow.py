"""The peer of the benchmark: the same wrapped escrow as a job's, done raw: no HTTP API, no database, no checks.

One program drives all three nodes over gRPC, one channel each: the provider's AddInvoice, the broker's
AddHoldInvoice with its hash, the buyer's SendPaymentV2, ACCEPTED from SubscribeSingleInvoice, the broker's
SendPaymentV2 with the preimage as its answer, SettleInvoice, the buyer's payment SUCCEEDED.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass

from lightwork.lnd_wallet import LndWallet
from lightwork.wallet import PaymentOutcome
from lightwork_broker.lightning.lnd_connection import LndConnection, LndSettings
from lightwork_broker.lightning.lnd_stubs import (
    InvoiceStateNumber,
    Payment,
    PaymentStatusNumber,
    RequestName,
    request,
)
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_regtest import Network
from lightwork_regtest.nodes.lnd import LightningNode


@dataclass(frozen=True, slots=True)
class RawTerms:
    """What a raw escrow moves, taken from a real quote, so that both sides move the same. Msat and blocks."""

    price_msat: Msat
    total_msat: Msat
    routing_msat: Msat
    hold_cltv: int
    invoice_seconds: int = 7_200
    final_cltv: int = 80
    payer_fee_msat: int = 5_000
    payer_cltv: int = 1_000


@dataclass(frozen=True, slots=True)
class RawMarks:
    """When each step of one raw escrow was done, in seconds of the monotonic clock."""

    begun: float
    invoiced: float
    held: float
    accepted: float
    paid_on: float
    settled: float
    ended: float


class RawFailed(RuntimeError):
    """A raw escrow did not end in SUCCEEDED: nothing may be measured."""


def _settings(node: LightningNode) -> LndSettings:
    return LndSettings(address=node.grpc_address, tls_cert=node.tls_cert, macaroon=node.admin_macaroon)


class RawEscrow:
    """Runs raw escrows on the network. Make it inside the running event loop."""

    def __init__(self, network: Network, terms: RawTerms) -> None:
        self._buyer = LndConnection(_settings(network.node("buyer")))
        self._broker = LndConnection(_settings(network.node("broker")))
        self._provider = LndConnection(_settings(network.node("provider")))
        self._terms = terms

    async def close(self) -> None:
        for connection in (self._buyer, self._broker, self._provider):
            await connection.close()

    async def run(self) -> RawMarks:
        """Run one escrow to its end.

        Raises:
            RawFailed: a payment failed.
        """
        terms = self._terms
        begun = time.monotonic()
        invoice, payment_hash = await self._invoice()
        invoiced = time.monotonic()
        hold = await self._broker.call(
            lambda stubs: stubs.invoices.AddHoldInvoice,
            request(
                RequestName.ADD_HOLD,
                hash=payment_hash,
                value_msat=terms.total_msat,
                expiry=600,
                cltv_expiry=terms.hold_cltv,
                memo="raw escrow",
            ),
        )
        held = time.monotonic()
        paying = asyncio.create_task(self._pay(hold.payment_request, payment_hash))
        await self._accepted(payment_hash)
        accepted = time.monotonic()
        preimage = await _send(
            self._broker,
            invoice,
            fee_limit_msat=terms.routing_msat,
            cltv_limit=terms.final_cltv + 60,
        )
        paid_on = time.monotonic()
        await self._broker.call(
            lambda stubs: stubs.invoices.SettleInvoice, request(RequestName.SETTLE, preimage=preimage)
        )
        settled = time.monotonic()
        await paying
        return RawMarks(begun, invoiced, held, accepted, paid_on, settled, time.monotonic())

    async def _invoice(self) -> tuple[str, bytes]:
        made = await self._provider.call(
            lambda stubs: stubs.lightning.AddInvoice,
            request(
                RequestName.ADD_INVOICE,
                value_msat=self._terms.price_msat,
                expiry=self._terms.invoice_seconds,
                memo="raw escrow",
                cltv_expiry=self._terms.final_cltv,
            ),
        )
        return made.payment_request, made.r_hash

    async def _pay(self, invoice: str, payment_hash: bytes) -> None:
        del payment_hash
        terms = self._terms
        await _send(
            self._buyer, invoice, fee_limit_msat=Msat(terms.payer_fee_msat), cltv_limit=terms.payer_cltv
        )

    async def _accepted(self, payment_hash: bytes) -> None:
        message = request(RequestName.SUBSCRIBE, r_hash=payment_hash)
        states = self._broker.stream(lambda stubs: stubs.invoices.SubscribeSingleInvoice, message)
        async with aclosing(states):
            async for found in states:
                if found.state == InvoiceStateNumber.ACCEPTED:
                    return
        raise RawFailed("the hold invoice was never accepted")


class WalletEscrow(RawEscrow):
    """The same, with the provider's and the buyer's calls made by the SDK's wallet (LND's REST interface)."""

    def __init__(self, network: Network, terms: RawTerms) -> None:
        super().__init__(network, terms)
        self._payer = _wallet(network.node("buyer"))
        self._payee = _wallet(network.node("provider"))

    async def close(self) -> None:
        await super().close()
        await self._payer.close()
        await self._payee.close()

    async def _invoice(self) -> tuple[str, bytes]:
        made = await self._payee.create_invoice(
            amount_msat=self._terms.price_msat,
            expiry_seconds=self._terms.invoice_seconds,
            memo="raw escrow",
            final_cltv=self._terms.final_cltv,
        )
        return made.invoice, bytes.fromhex(made.payment_hash)

    async def _pay(self, invoice: str, payment_hash: bytes) -> None:
        payment = await self._payer.pay(
            invoice,
            payment_hash=PaymentHash(payment_hash.hex()),
            max_fee_msat=Msat(self._terms.payer_fee_msat),
            max_cltv=self._terms.payer_cltv,
        )
        if payment.outcome is not PaymentOutcome.SUCCEEDED:
            raise RawFailed(f"the buyer's payment ended {payment.outcome}: {payment.reason}")


def _wallet(node: LightningNode) -> LndWallet:
    return LndWallet.from_files(url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.admin_macaroon)


async def _send(connection: LndConnection, invoice: str, *, fee_limit_msat: Msat, cltv_limit: int) -> bytes:
    """Pay with SendPaymentV2 and return the preimage."""
    message = request(
        RequestName.SEND,
        payment_request=invoice,
        timeout_seconds=60,
        fee_limit_msat=fee_limit_msat,
        cltv_limit=cltv_limit,
        max_parts=16,
        no_inflight_updates=True,
    )
    updates = connection.stream(lambda stubs: stubs.router.SendPaymentV2, message, seconds=90)
    last: Payment | None = None
    async with aclosing(updates):
        async for last in updates:
            if last.status == PaymentStatusNumber.SUCCEEDED:
                return bytes.fromhex(last.payment_preimage)
            if last.status == PaymentStatusNumber.FAILED:
                break
    raise RawFailed(f"a payment failed: reason {None if last is None else last.failure_reason}")
