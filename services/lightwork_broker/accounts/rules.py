"""Which invoices may be paid from a balance. Pure."""

from __future__ import annotations

from lightwork_broker.errors import InvoiceRefused
from lightwork_contracts.bolt11 import Invoice, InvoiceError, read_invoice
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.problems import ProblemCode

LEAST_SECONDS = 60
"""An invoice that expires sooner may do so before the node has found a route."""
CLTV_LIMIT = 1_008
"""The most blocks that a withdrawal's route may lock: a week. Only the agent's own money waits."""


def amount_of(text: str, *, network: str, own_node: str, now: int) -> tuple[Invoice, Msat]:
    """Return the invoice and its amount in msat.

    Raises:
        InvoiceRefused: with the code of the first rule that it breaks.
    """
    try:
        invoice = read_invoice(text)
    except InvoiceError as error:
        raise InvoiceRefused(
            f"the invoice cannot be read: {error}", invoice_code=ProblemCode.INVOICE_MALFORMED
        ) from error
    if invoice.network.value != network:
        raise InvoiceRefused(
            f"the invoice is for {invoice.network.value}, this broker is on {network}",
            invoice_code=ProblemCode.INVOICE_NETWORK,
        )
    if invoice.amount_msat is None:
        raise InvoiceRefused(
            "the invoice names no amount",
            invoice_code=ProblemCode.INVOICE_NO_AMOUNT,
            hint="make it with the amount that you want to withdraw",
        )
    if invoice.payee == own_node:
        raise InvoiceRefused(
            "the invoice is payable at the broker's own node, which cannot pay itself",
            invoice_code=ProblemCode.INVOICE_OWN_NODE,
            hint="use a wallet on another Lightning node",
        )
    if invoice.expires_at < now + LEAST_SECONDS:
        raise InvoiceRefused(
            "the invoice has expired, or does so within a minute",
            invoice_code=ProblemCode.INVOICE_EXPIRED,
            hint="make a fresh invoice",
        )
    return invoice, Msat(invoice.amount_msat)
