"""What the SDK asks of a wallet, and the words for what became of a payment."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat


class PaymentOutcome(StrEnum):
    """Four values, because not knowing is neither success nor failure."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"

    @property
    def terminal(self) -> bool:
        """True when the node will never change its mind."""
        return self in (PaymentOutcome.SUCCEEDED, PaymentOutcome.FAILED)


@dataclass(frozen=True, slots=True)
class CreatedInvoice:
    """An invoice of one's own node."""

    invoice: str
    payment_hash: PaymentHash


@dataclass(frozen=True, slots=True)
class Payment:
    """What the node says of one payment. The preimage, 64 hex characters, is there only after success."""

    payment_hash: PaymentHash
    outcome: PaymentOutcome
    fee_msat: Msat | None = None
    reason: str | None = None
    preimage: str | None = field(default=None, repr=False)


class Wallet(Protocol):
    """A Lightning node or wallet: it makes invoices for a provider and pays them for a buyer."""

    async def create_invoice(
        self, *, amount_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        """Make an invoice of exactly `amount_msat`, payable for `expiry_seconds`.

        Raises:
            WalletUnreachable, WalletRefused: there is no invoice.
        """
        ...

    async def pay(
        self, invoice: str, *, payment_hash: PaymentHash, max_fee_msat: Msat, max_cltv: int | None = None
    ) -> Payment:
        """Pay, and wait until the payment is settled or has failed: with a hold invoice, until the release.

        Returns UNKNOWN when the node was lost sight of: follow up with `track`, never with a second `pay`.

        Raises:
            WalletUnreachable: no connection could be made, so nothing was sent.
        """
        ...

    async def track(self, payment_hash: PaymentHash) -> Payment:
        """Wait until the payment is terminal. UNKNOWN when the node cannot be asked or knows of none."""
        ...

    async def lookup(self, payment_hash: PaymentHash) -> Payment:
        """Return how the payment stands now, without waiting."""
        ...

    async def close(self) -> None:
        """Give back the connections."""
        ...
