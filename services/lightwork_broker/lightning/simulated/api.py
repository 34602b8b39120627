"""The simulated network over HTTP, so that buyers and providers in other processes have wallets on it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from lightwork_broker.errors import NotFound, RequestInvalid, WrongStatus
from lightwork_broker.lightning.errors import Refused
from lightwork_broker.lightning.ports import Payout, PayoutStatus
from lightwork_broker.lightning.simulated.node import SimulatedNode
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import PaymentHashField
from lightwork_contracts.wire.simulated import (
    SIMULATED_PATH,
    CreateInvoice,
    MineBlocks,
    OpenWallet,
    PayInvoice,
    SimulatedChain,
    SimulatedInvoice,
    SimulatedPayment,
    WaitSeconds,
    WalletName,
    WalletView,
)

GLANCE_SECONDS = 0.5
"""How soon a waiting answer notices that the broker goes down."""


def simulated_router(wallets: SimulatedWallets) -> APIRouter:
    """Return the routes under `/simulated/v1`. They need no signature: all money here is play money."""
    router = APIRouter(prefix=SIMULATED_PATH, tags=["simulated network"])

    def wallet(name: str) -> SimulatedNode:
        node = wallets.find(name)
        if node is None:
            raise NotFound(f"there is no wallet {name!r}", hint=f"open it with POST {SIMULATED_PATH}/wallets")
        return node

    @router.post("/wallets", summary="Open a wallet, or find it again")
    async def open_wallet(body: OpenWallet) -> WalletView:
        """The same name again is the same wallet, and its balance stays what it is."""
        return await _view(body.name, wallets.open(body.name, balance_msat=body.balance_msat))

    @router.get("/wallets/{name}", summary="What a wallet owns")
    async def read_wallet(name: WalletName) -> WalletView:
        """Read it from the wallet's node, as it is now."""
        return await _view(name, wallet(name))

    @router.post("/invoices", summary="Make an invoice")
    async def create_invoice(body: CreateInvoice) -> SimulatedInvoice:
        """The wallet's node keeps the preimage until it is paid."""
        try:
            made = await wallet(body.wallet).add_invoice(
                value_msat=body.amount_msat,
                expiry_seconds=body.expiry_seconds,
                memo=body.memo,
                final_cltv=body.final_cltv,
            )
        except Refused as error:
            raise RequestInvalid(str(error)) from None
        return SimulatedInvoice(invoice=made.payment_request, payment_hash=made.payment_hash)

    @router.post("/payments", summary="Pay an invoice")
    async def pay(request: Request, body: PayInvoice) -> SimulatedPayment:
        """Answers at once when the payment is final, else after `wait_seconds` with how it stands."""
        node = wallet(body.wallet)
        try:
            begun = await node.begin(
                invoice=body.invoice,
                payment_hash=body.payment_hash,
                fee_limit_msat=body.max_fee_msat,
                cltv_limit=body.max_cltv or 0,
            )
        except Refused as error:
            raise RequestInvalid(str(error)) from None
        return _payment(await _end(request, node, begun.outcome, seconds=body.wait_seconds))

    @router.get("/payments/{payment_hash}", summary="How a payment stands")
    async def read_payment(
        request: Request,
        payment_hash: PaymentHashField,
        wallet_name: Annotated[WalletName, Query(alias="wallet")],
        wait_seconds: Annotated[WaitSeconds, Query()] = 0.0,
    ) -> SimulatedPayment:
        """`failed` with the reason `never_sent` when the wallet knows of no such payment."""
        node = wallet(wallet_name)
        return _payment(await _end(request, node, await node.track(payment_hash), seconds=wait_seconds))

    @router.get("/chain", summary="The height of the chain")
    async def read_chain() -> SimulatedChain:
        """The chain grows only when somebody mines."""
        return _chain(wallets)

    @router.post("/mine", summary="Add blocks")
    async def mine(body: MineBlocks) -> SimulatedChain:
        """Refused, without `force`, where a block would send a held payment back."""
        deadline = wallets.network.next_deadline()
        if not body.force and deadline is not None and wallets.network.height + body.blocks >= deadline:
            raise WrongStatus(f"at height {deadline} a held payment goes back", hint="ask again with force")
        wallets.network.mine(body.blocks)
        return _chain(wallets)

    return router


async def _view(name: str, node: SimulatedNode) -> WalletView:
    return WalletView(name=name, pubkey=node.pubkey, balance_msat=await node.local_balance_msat())


async def _end(request: Request, node: SimulatedNode, payout: Payout, *, seconds: float) -> Payout:
    """Wait until the payment is final, the time is over, or the broker goes down."""
    signals: Signals = request.app.state.signals
    left = seconds
    while left > 0 and payout.status is PayoutStatus.IN_FLIGHT and not signals.closing:
        payout = await node.wait(payout.payment_hash, min(left, GLANCE_SECONDS))
        left -= GLANCE_SECONDS
    return payout


def _payment(payout: Payout) -> SimulatedPayment:
    return SimulatedPayment(
        payment_hash=payout.payment_hash,
        outcome=payout.status.value,
        fee_msat=payout.fee_msat,
        reason=payout.failure,
        preimage=None if payout.preimage is None else payout.preimage.hex(),
    )


def _chain(wallets: SimulatedWallets) -> SimulatedChain:
    return SimulatedChain(height=wallets.network.height, next_deadline=wallets.network.next_deadline())
