"""BOLT11 invoices: strict reading, and writing for wallets and nodes of our own."""

from __future__ import annotations

from lightwork_contracts.bolt11.invoice import Hop, Invoice, Network, RouteHint
from lightwork_contracts.bolt11.reading import read_invoice
from lightwork_contracts.bolt11.writing import write_invoice
from lightwork_contracts.errors import InvoiceCode, InvoiceError

__all__ = [
    "Hop",
    "Invoice",
    "InvoiceCode",
    "InvoiceError",
    "Network",
    "RouteHint",
    "read_invoice",
    "write_invoice",
]
