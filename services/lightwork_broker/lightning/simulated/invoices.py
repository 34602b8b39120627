"""An invoice on a simulated node: its states, and which HTLC it takes. Nothing here awaits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, assert_never

from lightwork_broker.lightning.errors import (
    AlreadySettled,
    InvoiceCanceled,
    InvoiceStillOpen,
    Refused,
)
from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.channels import Htlc
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MSAT_PER_BTC, Msat

# What LND 0.21.3 takes, heard from a running one.
MIN_FINAL_CLTV: Final = 24
MAX_FINAL_CLTV: Final = 65_535
DEFAULT_FINAL_CLTV: Final = 80
DEFAULT_EXPIRY_SECONDS: Final = 86_400
MAX_EXPIRY_SECONDS: Final = 31_536_000
MAX_MEMO_BYTES: Final = 639
MAX_VALUE_MSAT: Final = 100_000 * MSAT_PER_BTC

LAST_BLOCKS: Final = 19
"""An HTLC that expires sooner than this is not accepted by anybody (LND: lncfg, 16 + 3)."""


@dataclass(slots=True, eq=False, kw_only=True)
class Invoice:
    """One invoice of one node. `preimage` is None for a hold invoice until it is settled."""

    payment_hash: PaymentHash
    payment_secret: str
    payment_request: str
    value_msat: int
    expires_at: float
    final_cltv: int
    add_index: int
    preimage: Preimage | None
    held: bool
    memo: str = ""
    state: InvoiceState = InvoiceState.OPEN
    accepted_msat: int = 0
    htlcs: list[Htlc] = field(default_factory=list[Htlc])
    accepted: list[Htlc] = field(default_factory=list[Htlc])
    """All that were ever accepted; `htlcs` are those that wait."""

    def refuses(self, htlc: Htlc, *, payment_secret: str, height: int, now: float) -> bool:
        """Say whether the HTLC goes back; the payer hears "incorrect payment details" whatever the reason.

        As in LND: the invoice is not open any more or has expired, the secret is another one, the amount is too
        low, or too few blocks are left.
        """
        return (
            self.state is not InvoiceState.OPEN
            or now >= self.expires_at
            or payment_secret != self.payment_secret
            or htlc.amount_msat < self.value_msat
            or htlc.expiry_height < height + self.final_cltv
            or htlc.expiry_height < height + LAST_BLOCKS
        )

    def accept(self, htlc: Htlc) -> None:
        self.htlcs.append(htlc)
        self.accepted.append(htlc)
        self.accepted_msat = htlc.amount_msat
        self.state = InvoiceState.ACCEPTED

    def may_settle(self) -> bool:
        """Return whether there is anything left to do to settle.

        Raises: InvoiceStillOpen, InvoiceCanceled.
        """
        match self.state:
            case InvoiceState.SETTLED:
                return False
            case InvoiceState.OPEN:
                raise InvoiceStillOpen("nobody has paid this invoice in full yet")
            case InvoiceState.CANCELED:
                raise InvoiceCanceled("this invoice is cancelled")
            case InvoiceState.ACCEPTED:
                return True
            case _:
                assert_never(self.state)

    def may_cancel(self) -> bool:
        """Return whether there is anything left to do to cancel.

        Raises: AlreadySettled.
        """
        if self.state is InvoiceState.SETTLED:
            raise AlreadySettled("this invoice is settled")
        return self.state is not InvoiceState.CANCELED

    def settle(self, preimage: Preimage) -> list[Htlc]:
        """Take the money; return the HTLCs that the preimage ends."""
        self.state, self.preimage = InvoiceState.SETTLED, preimage
        return self._let_go()

    def cancel(self) -> list[Htlc]:
        """Give the money back; return the HTLCs that fail."""
        self.state, self.accepted_msat = InvoiceState.CANCELED, 0
        return self._let_go()

    def _let_go(self) -> list[Htlc]:
        going, self.htlcs = self.htlcs, []
        return going

    def is_due(self, *, now: float, height: int, hold_expiry_delta: int) -> bool:
        """Say whether the node cancels by itself: an open one by the clock, an accepted one by the blocks."""
        if self.state is InvoiceState.OPEN:
            return now >= self.expires_at
        lowest = self.min_expiry_height
        return lowest is not None and height + hold_expiry_delta >= lowest

    @property
    def min_expiry_height(self) -> int | None:
        return min((htlc.expiry_height for htlc in self.htlcs), default=None)

    def snapshot(self) -> HoldInvoice:
        """Return the invoice as the port shows it."""
        return HoldInvoice(
            payment_hash=self.payment_hash,
            state=self.state,
            value_msat=Msat(self.value_msat),
            accepted_msat=Msat(self.accepted_msat),
            min_expiry_height=self.min_expiry_height,
            payment_request=self.payment_request,
            htlc_count=1 if self.accepted_msat else 0,
            add_index=self.add_index,
            memo=self.memo,
        )


def check_terms(*, value_msat: int, expiry_seconds: int, final_cltv: int, memo: str) -> None:
    """Check what an invoice is asked to say.

    Raises:
        Refused: LND would not take these values.
    """
    if value_msat < 0:
        raise Refused("an amount cannot be negative")
    if value_msat > MAX_VALUE_MSAT:
        raise Refused(f"the amount is too large, at most {MAX_VALUE_MSAT} msat")
    if expiry_seconds > MAX_EXPIRY_SECONDS:
        raise Refused(f"an expiry of {expiry_seconds} s is greater than {MAX_EXPIRY_SECONDS} s")
    if not MIN_FINAL_CLTV <= final_cltv <= MAX_FINAL_CLTV:
        raise Refused(f"a CLTV delta of {final_cltv} blocks is not from {MIN_FINAL_CLTV} to {MAX_FINAL_CLTV}")
    if len(memo.encode()) > MAX_MEMO_BYTES:
        raise Refused(f"the memo is too large, at most {MAX_MEMO_BYTES} bytes")
