"""What a broker and the process of the simulated network say to each other: one body per call of the ports.

Values are not checked here: whether a node takes them is the node's to say, as with LND.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

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
from lightwork_broker.lightning.ports import HoldInvoice, NodeId, Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.base import Answer, Wire

CAUSES: Final[dict[str, type[LightningError]]] = {
    "unavailable": LightningUnavailable,
    "permission_missing": PermissionMissing,
    "hash_in_use": HashInUse,
    "invoice_not_found": InvoiceNotFound,
    "invoice_still_open": InvoiceStillOpen,
    "invoice_canceled": InvoiceCanceled,
    "already_settled": AlreadySettled,
    "refused": Refused,
}
"""Every error of the ports, by its name on the wire."""

UNAVAILABLE: Final = "unavailable"
CHANGED, BLOCK, ENDED = "changed", "block", "ended"
"""The events of the two streams; `ended` carries the error that a stream ended with."""


class AddHold(Wire):
    payment_hash: PaymentHash
    value_msat: Msat
    expiry_seconds: int
    cltv_blocks: int
    memo: str


class AddInvoice(Wire):
    value_msat: Msat
    expiry_seconds: int
    memo: str
    final_cltv: int


class Settle(Wire):
    preimage: str = Field(repr=False)


class AboutHash(Wire):
    """The body of `cancel`, `lookup`, `track`, `lookup_invoice` and `incoming_htlcs`."""

    payment_hash: PaymentHash


class Pay(Wire):
    invoice: str
    payment_hash: PaymentHash
    fee_limit_msat: Msat
    cltv_limit: int
    timeout_seconds: int


class Wait(Wire):
    payment_hash: PaymentHash
    seconds: float = Field(ge=0, le=30)


class SentSince(Wire):
    since: float


class EstimateFee(Wire):
    invoice_destination: NodeId
    amount_msat: Msat
    final_cltv: int
    cltv_limit: int | None
    route_hints: tuple[RouteHint, ...]


class PaymentRequest(Answer):
    payment_request: str


class Found(Answer):
    """An invoice, or none."""

    invoice: HoldInvoice | None


class Balance(Answer):
    balance_msat: Msat


class PayoutView(Answer):
    """A `Payout` whose preimage is text, as it must be to travel."""

    status: PayoutStatus
    payment_hash: PaymentHash
    preimage: str | None = Field(default=None, repr=False)
    fee_msat: Msat | None = None
    failure: PayoutFailure | None = None

    @classmethod
    def of(cls, payout: Payout) -> PayoutView:
        return cls(
            status=payout.status,
            payment_hash=payout.payment_hash,
            preimage=None if payout.preimage is None else payout.preimage.hex(),
            fee_msat=payout.fee_msat,
            failure=payout.failure,
        )

    def payout(self) -> Payout:
        """Return it as the port shows it.

        Raises: ValueError when it contradicts itself, as a preimage that does not open the hash does.
        """
        return Payout(
            status=self.status,
            payment_hash=self.payment_hash,
            preimage=None if self.preimage is None else Preimage.from_hex(self.preimage),
            fee_msat=self.fee_msat,
            failure=self.failure,
        )


class Complaint(Answer):
    """An error of the ports on its way: its name in `CAUSES`, and its words."""

    cause: str
    detail: str

    @classmethod
    def of(cls, error: LightningError) -> Complaint:
        cause = next(name for name, known in CAUSES.items() if isinstance(error, known))
        return cls(cause=cause, detail=error.detail)

    def error(self) -> LightningError:
        """Return the error; one that we do not know says nothing about the call's effect."""
        return CAUSES.get(self.cause, LightningUnavailable)(self.detail)
