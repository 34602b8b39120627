"""LND's errors in our words: one table, by gRPC code and, where LND gives only text, by text.

Most of LND's errors arrive with code UNKNOWN, so their text is what there is. An error that no row
knows is `LightningUnavailable`: whether it took effect is unknown, and unknown is never refused.
Each row has a test that makes a real LND say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from lightwork_broker.lightning.errors import (
    AlreadySettled,
    HashInUse,
    InvoiceCanceled,
    InvoiceNotFound,
    InvoiceStillOpen,
    LightningError,
    LightningUnavailable,
    PermissionMissing,
    Refused,
)
from lightwork_broker.lightning.ports import PayoutFailure

NO_RECORD: Final = "store-final-htlc-resolutions"
"""The setting that LND names, with the code UNAVAILABLE, when it keeps no record of single HTLCs."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error of LND that has this code and holds this text becomes `becomes`."""

    becomes: type[LightningError]
    text: str = ""
    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN


ERRORS: Final = (
    # the invoice
    ErrorRow(HashInUse, "invoice with payment hash already exists"),
    ErrorRow(InvoiceStillOpen, "invoice still open"),
    ErrorRow(InvoiceCanceled, "invoice already canceled"),
    ErrorRow(AlreadySettled, "invoice already settled"),
    ErrorRow(InvoiceNotFound, "unable to locate invoice"),
    ErrorRow(InvoiceNotFound, "there are no existing invoices"),
    ErrorRow(InvoiceNotFound, "unable to locate invoice", grpc.StatusCode.NOT_FOUND),
    # values that LND does not take
    ErrorRow(Refused, "CLTV delta of "),
    ErrorRow(Refused, "memo too large"),
    ErrorRow(Refused, "data length too big"),
    ErrorRow(Refused, "greater than max expiry"),
    ErrorRow(Refused, "is too large, max is"),
    ErrorRow(Refused, "amount cannot be negative"),
    # who we are
    ErrorRow(PermissionMissing, "permission denied"),
    ErrorRow(PermissionMissing, "verification failed"),
    # only this: while it shuts down LND cannot get any macaroon either, because their store is locked
    ErrorRow(PermissionMissing, "cannot get macaroon: root key with id"),
    # not there yet, or not any more
    ErrorRow(LightningUnavailable, "wallet not created"),
    ErrorRow(LightningUnavailable, "wallet locked"),
    ErrorRow(LightningUnavailable, "in the process of starting"),
    ErrorRow(LightningUnavailable, code=grpc.StatusCode.UNAVAILABLE),
    ErrorRow(LightningUnavailable, code=grpc.StatusCode.DEADLINE_EXCEEDED),
    ErrorRow(LightningUnavailable, "we closed the connection", grpc.StatusCode.CANCELLED),
)


@dataclass(frozen=True, slots=True)
class RefusalRow:
    """LND refuses to start a payment with this text, before it has stored anything about it."""

    text: str
    failure: PayoutFailure


REFUSALS: Final = (
    RefusalRow("invoice expired", PayoutFailure.INVOICE_EXPIRED),
    RefusalRow("self-payments not allowed", PayoutFailure.REFUSED),
    RefusalRow("invoice not for current active network", PayoutFailure.REFUSED),
    RefusalRow("checksum failed", PayoutFailure.REFUSED),
    RefusalRow("amount must be specified when paying a zero amount invoice", PayoutFailure.REFUSED),
    RefusalRow("cltv limit ", PayoutFailure.REFUSED),
    RefusalRow("total time lock of ", PayoutFailure.REFUSED),
)

NO_ROUTE_TEXTS: Final = ("unable to find a path", "insufficient local balance")
"""What QueryRoutes says (code UNKNOWN) when the graph holds no route."""

_LONG_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_INVOICE = re.compile(r"\bln[a-z0-9]{20,}", re.IGNORECASE)


def translate(error: grpc.aio.AioRpcError) -> LightningError:
    """Return our error for one of LND's, without anything that might be a secret."""
    code, text = error.code(), error.details() or ""
    for row in ERRORS:
        if code is row.code and row.text in text:
            return row.becomes(safe_text(code, text))
    return LightningUnavailable(f"LND gave an answer that we do not know: {safe_text(code, text)}")


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Say whether LND has not heard the call, or whether nobody knows: down, starting, locked, or no answer."""
    code, text = error.code(), error.details() or ""
    row = next((row for row in ERRORS if code is row.code and row.text in text), None)
    return row is not None and row.becomes is LightningUnavailable


def keeps_no_record(error: grpc.aio.AioRpcError) -> bool:
    """Say whether LND refuses to tell what became of an HTLC because it keeps no record of single ones."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and NO_RECORD in (error.details() or "")


def refusal(error: grpc.aio.AioRpcError) -> PayoutFailure | None:
    """Return why LND would not start a payment, or None when the error proves nothing."""
    text = error.details() or ""
    if error.code() is not grpc.StatusCode.UNKNOWN:
        return None
    return next((row.failure for row in REFUSALS if row.text in text), None)


def is_no_route(error: grpc.aio.AioRpcError) -> bool:
    """Say whether LND answers that its graph holds no route."""
    text = error.details() or ""
    return error.code() is grpc.StatusCode.UNKNOWN and any(known in text for known in NO_ROUTE_TEXTS)


def safe_text(code: grpc.StatusCode, text: str) -> str:
    """Return code and text for people, long hex (a preimage? a macaroon?) and invoices taken out."""
    shown = _INVOICE.sub("<invoice>", _LONG_HEX.sub("<hex>", text))
    return f"{code.name}: {shown[:300]}"
