"""What a Lightning node can answer instead of what was asked for, one class per cause."""

from __future__ import annotations

from typing import ClassVar

from lightwork_broker.errors import BrokerError
from lightwork_contracts.wire.problems import ProblemCode


class LightningError(BrokerError):
    """Base of every error that crosses the Lightning ports. `code` is the problem shown outside.

    The text never holds a preimage, a macaroon or an invoice. For a payment none of these means
    FAILED: see `Payout`.
    """

    code: ClassVar[ProblemCode] = ProblemCode.INTERNAL


class LightningUnavailable(LightningError):
    """The node gave no answer: down, starting, locked, or too slow. The call may have had its effect."""

    code: ClassVar[ProblemCode] = ProblemCode.LIGHTNING_UNAVAILABLE


class PermissionMissing(LightningError):
    """The node refuses our macaroon for this call, and a fresh one from disk did not help."""

    code: ClassVar[ProblemCode] = ProblemCode.LIGHTNING_UNAVAILABLE


class HashInUse(LightningError):
    """The node already has another invoice (or one of another amount or memo) under this payment hash."""

    code: ClassVar[ProblemCode] = ProblemCode.INVOICE_HASH_USED


class InvoiceNotFound(LightningError):
    """The node has no invoice under this payment hash (never added, or garbage-collected)."""


class InvoiceStillOpen(LightningError):
    """The invoice cannot be settled: nobody has paid it in full yet."""


class InvoiceCanceled(LightningError):
    """The invoice cannot be settled: it is cancelled and its HTLCs have gone back."""


class AlreadySettled(LightningError):
    """The invoice cannot be cancelled: it is settled, the money is ours."""


class Refused(LightningError):
    """The node understood the call and refused it; nothing was done."""
