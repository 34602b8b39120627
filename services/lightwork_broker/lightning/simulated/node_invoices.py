"""The ports `HoldInvoices` and `Invoices` on a simulated node."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from lightwork_broker.lightning.errors import HashInUse, InvoiceNotFound
from lightwork_broker.lightning.ports import CreatedInvoice, HoldInvoice, InvoiceState
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.connection import Connection
from lightwork_broker.lightning.simulated.invoices import (
    DEFAULT_EXPIRY_SECONDS,
    DEFAULT_FINAL_CLTV,
    Invoice,
    check_terms,
)
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_broker.lightning.simulated.timing import woken
from lightwork_contracts.bolt11 import write_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

FEATURES = frozenset({8, 14})
"""BOLT 9: variable onion and payment secret, both required. Payments in parts are not simulated."""


class SimulatedInvoices:
    """Invoices of one node, signed with its key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        def effect(node: NodeState) -> str:
            known = node.find(payment_hash, now=self._connection.board.clock.now())
            if known is None:
                return self._add(
                    node,
                    payment_hash=payment_hash,
                    preimage=None,
                    value_msat=value_msat,
                    expiry_seconds=expiry_seconds,
                    final_cltv=cltv_blocks,
                    memo=memo,
                ).payment_request
            same = (known.value_msat, known.memo) == (value_msat, memo)
            if not known.held or known.state.is_final or not same:
                raise HashInUse("the node has another invoice under this payment hash")
            return known.payment_request

        return await self._connection.call("add_hold", payment_hash, effect)

    async def settle(self, preimage: Preimage) -> None:
        def effect(node: NodeState) -> None:
            invoice = self._known(node, preimage.payment_hash)
            if invoice.may_settle():
                self._connection.board.settle(node, invoice, preimage)

        await self._connection.call("settle", preimage.payment_hash, effect)

    async def cancel(self, payment_hash: PaymentHash) -> None:
        def effect(node: NodeState) -> None:
            invoice = self._known(node, payment_hash)
            if invoice.may_cancel():
                self._connection.board.cancel(node, invoice)

        await self._connection.call("cancel", payment_hash, effect)

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        def effect(node: NodeState) -> HoldInvoice | None:
            invoice = node.find(payment_hash, now=self._connection.board.clock.now())
            return None if invoice is None else invoice.snapshot()

        return await self._connection.call("lookup", payment_hash, effect)

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        def effect(node: NodeState) -> tuple[HoldInvoice, ...]:
            now = self._connection.board.clock.now()
            for payment_hash in list(node.pending):
                node.find(payment_hash, now=now)
            return tuple(invoice.snapshot() for invoice in node.pending.values() if invoice.held)

        return await self._connection.call("pending_holds", None, effect)

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        return await self.lookup(payment_hash)

    async def watch(self, payment_hash: PaymentHash) -> AsyncGenerator[HoldInvoice, None]:
        clock = self._connection.board.clock
        session = await self._connection.call("watch", payment_hash, lambda node: node.session)
        last: InvoiceState | None = None
        while True:
            node = self._connection.serving(session=session)
            with node.waiters.on(payment_hash) as waiter:
                invoice = self._known(node, payment_hash)
                if invoice.state is last:
                    # An open invoice changes by the clock too, and no call tells of that.
                    is_open = last is InvoiceState.OPEN
                    seconds = invoice.expires_at - clock.now() if is_open else None
                    await woken(clock, waiter, seconds=seconds)
                    continue
            last = invoice.state
            yield invoice.snapshot()
            if last.is_final:
                return

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        def effect(node: NodeState) -> CreatedInvoice:
            preimage = Preimage(node.draw())
            invoice = self._add(
                node,
                payment_hash=preimage.payment_hash,
                preimage=preimage,
                value_msat=value_msat,
                expiry_seconds=expiry_seconds,
                final_cltv=final_cltv,
                memo=memo,
            )
            return CreatedInvoice(payment_request=invoice.payment_request, payment_hash=invoice.payment_hash)

        return await self._connection.call("add_invoice", None, effect)

    def _known(self, node: NodeState, payment_hash: PaymentHash) -> Invoice:
        invoice = node.find(payment_hash, now=self._connection.board.clock.now())
        if invoice is None:
            raise InvoiceNotFound("the node has no invoice under this payment hash")
        return invoice

    def _add(
        self,
        node: NodeState,
        *,
        payment_hash: PaymentHash,
        preimage: Preimage | None,
        value_msat: Msat,
        expiry_seconds: int,
        final_cltv: int,
        memo: str,
    ) -> Invoice:
        board = self._connection.board
        expiry = expiry_seconds if expiry_seconds > 0 else DEFAULT_EXPIRY_SECONDS
        cltv = final_cltv or DEFAULT_FINAL_CLTV
        check_terms(value_msat=value_msat, expiry_seconds=expiry, final_cltv=cltv, memo=memo)
        payment_secret = node.draw().hex()
        made_at = int(board.clock.now())
        invoice = Invoice(
            payment_hash=payment_hash,
            payment_secret=payment_secret,
            payment_request=write_invoice(
                network=board.network,
                amount_msat=value_msat or None,
                timestamp=made_at,
                payment_hash=payment_hash,
                payment_secret=payment_secret,
                private_key=node.private_key,
                description=memo,
                expiry_seconds=expiry,
                min_final_cltv=cltv,
                features=FEATURES,
            ),
            value_msat=value_msat,
            expires_at=made_at + expiry,
            final_cltv=cltv,
            add_index=len(node.invoices) + 1,
            preimage=preimage,
            held=preimage is None,
            memo=memo,
        )
        node.add(invoice)
        return invoice
