"""The narrow views of a Lightning node that the broker is written against; one more is in `closures`.

Amounts are msat, times are seconds, time locks are blocks. Every method may raise the errors of
`lightning.errors`; `LightningUnavailable` says nothing about whether the call took effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from lightwork_broker.lightning.closures import Closures
from lightwork_broker.lightning.preimage import Preimage as Preimage
from lightwork_contracts.bolt11 import RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

NodeId = str
"""A Lightning node's compressed public key, 66 hex characters (not a BIP340 `Pubkey`)."""

DEFAULT_HOLD_EXPIRY_DELTA = 18
"""Blocks before the lowest HTLC expiry at which LND 0.21 cancels an ACCEPTED invoice by default."""


class InvoiceState(StrEnum):
    """LND's names for the life of an invoice. Only SETTLED and CANCELED are final."""

    OPEN = "OPEN"
    ACCEPTED = "ACCEPTED"
    SETTLED = "SETTLED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether the invoice can never change again."""
        return self in (InvoiceState.SETTLED, InvoiceState.CANCELED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldInvoice:
    """One look at a hold invoice on our node.

    `accepted_msat` is the sum of the HTLCs that wait or were settled (it may exceed `value_msat`),
    `min_expiry_height` the lowest expiry of the HTLCs that wait now, None when none does.
    """

    payment_hash: PaymentHash
    state: InvoiceState
    value_msat: Msat
    accepted_msat: Msat
    min_expiry_height: int | None
    payment_request: str
    htlc_count: int
    add_index: int
    memo: str = ""


class PayoutStatus(StrEnum):
    """What is known about an outgoing payment. Only SUCCEEDED and FAILED are final."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    IN_FLIGHT = "in_flight"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the money can no longer move, either way."""
        return self in (PayoutStatus.SUCCEEDED, PayoutStatus.FAILED)


class PayoutFailure(StrEnum):
    """Why a payment FAILED."""

    TIMEOUT = "timeout"
    NO_ROUTE = "no_route"
    ERROR = "error"
    INCORRECT_PAYMENT_DETAILS = "incorrect_payment_details"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    CANCELED = "canceled"
    INVOICE_EXPIRED = "invoice_expired"
    NEVER_SENT = "never_sent"
    REFUSED = "refused"

    @property
    def is_permanent(self) -> bool:
        """Whether paying the same invoice again cannot help."""
        return self in (PayoutFailure.INCORRECT_PAYMENT_DETAILS, PayoutFailure.INVOICE_EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """What the node says about one outgoing payment.

    `preimage` and `fee_msat` are set exactly when the status is SUCCEEDED, and the preimage is
    checked against the hash. FAILED with `never_sent` means that the node knows no such payment: a
    look-up can overtake a send by milliseconds, so release funds on it only after a grace time.
    """

    status: PayoutStatus
    payment_hash: PaymentHash
    preimage: Preimage | None = None
    fee_msat: Msat | None = None
    failure: PayoutFailure | None = None

    def __post_init__(self) -> None:
        succeeded = self.status is PayoutStatus.SUCCEEDED
        if succeeded != (self.preimage is not None) or succeeded != (self.fee_msat is not None):
            raise ValueError("a payout has a preimage and a fee exactly when it succeeded")
        if self.preimage is not None and not self.preimage.matches(self.payment_hash):
            raise ValueError("the preimage does not open the payment hash")
        if self.status is PayoutStatus.FAILED and self.failure is None:
            raise ValueError("a failed payout says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPayment:
    """One outgoing payment of the node that succeeded or is under way, whoever asked for it. Amounts in msat."""

    payment_hash: PaymentHash
    amount_msat: Msat
    fee_msat: Msat


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEstimate:
    """What a payment would cost by the graph as the node knows it now; no probe was sent.

    `time_lock_blocks` counts from the current height to the expiry of the first HTLC, with the
    final CLTV of the payee in it.
    """

    fee_msat: Msat
    time_lock_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedInvoice:
    """A plain invoice that the node has just made; the node keeps the preimage."""

    payment_request: str
    payment_hash: PaymentHash


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSummary:
    """Who the node is and how far it has come. `hold_expiry_delta` is None when we may not read it."""

    pubkey: NodeId
    alias: str
    network: str
    block_height: int
    synced_to_chain: bool
    synced_to_graph: bool
    version: str
    hold_expiry_delta: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSlots:
    """How many HTLCs wait in one channel for us, of how much, and how many can (BOLT 2: max_accepted_htlcs).

    `active` is whether HTLCs can be added now. LND tells the amount of each HTLC in whole satoshis, rounded down;
    each counts as the most that it can be.
    """

    active: bool
    incoming: int
    most: int
    peer: NodeId
    incoming_msat: Msat


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingHtlc:
    """One HTLC that waits for us in an open channel with `peer`, whatever it is for. The amount is as above."""

    peer: NodeId
    payment_hash: PaymentHash
    amount_msat: Msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What we may do on the node, in the node's own names for its calls.

    `missing` is what a broker cannot do without, `needless` what it does not need and could do harm with.
    `forgets_htlcs` says that the node can be asked what became of single HTLCs, but keeps no record of them.
    """

    missing: tuple[str, ...] = ()
    needless: tuple[str, ...] = ()
    forgets_htlcs: bool = False


class HoldInvoices(Protocol):
    """Invoices whose money waits in HTLCs until we settle or cancel."""

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        """Make a hold invoice and return its payment request; the same call again returns the same one.

        Raises:
            HashInUse: the hash already carries an invoice of another amount or memo, or one that is final.
            Refused: the node does not take these values.
        """
        ...

    async def settle(self, preimage: Preimage) -> None:
        """Take the money of the invoice that `preimage` opens; settled already is success.

        Raises: InvoiceStillOpen, InvoiceCanceled, InvoiceNotFound.
        """
        ...

    async def cancel(self, payment_hash: PaymentHash) -> None:
        """Give the money back; cancelled already is success.

        Raises: AlreadySettled, InvoiceNotFound.
        """
        ...

    async def lookup(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        """Return the invoice as it is now, or None when the node has none under this hash."""
        ...

    async def pending_holds(self) -> tuple[HoldInvoice, ...]:
        """Return every hold invoice of the node that is OPEN or ACCEPTED; plain invoices are none."""
        ...

    def watch(self, payment_hash: PaymentHash) -> AsyncIterator[HoldInvoice]:
        """Yield the invoice as it is, then at each change of state, and end at a final state.

        A lost connection raises LightningUnavailable: coming back is the caller's job.

        Raises: InvoiceNotFound.
        """
        ...


class Payouts(Protocol):
    """Outgoing payments, one per payment hash for ever."""

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        """Pay `invoice` and return its outcome; an error on the way is UNKNOWN, not an exception.

        `cltv_limit` is the most blocks that the whole route may lock, final CLTV included. Within
        `timeout_seconds` the node tries routes; a payee that holds the HTLC outlasts that, and the
        outcome is then IN_FLIGHT. A hash that is being paid or was paid is not paid again: its
        outcome is returned. Cancelling the call does not stop the payment.

        Raises:
            PermissionMissing: this call was not heard; an earlier one may have been.
            Refused: the invoice is for another hash; a defect of the caller, nothing was sent.
        """
        ...

    async def track(self, payment_hash: PaymentHash) -> Payout:
        """Take one look at the payment: any status, FAILED/`never_sent` when the node knows none.

        An unreachable node is UNKNOWN, not an exception; PermissionMissing is one.
        """
        ...

    async def wait(self, payment_hash: PaymentHash, timeout: float) -> Payout:
        """Follow the payment until it is final; after `timeout` seconds return what is known."""
        ...

    async def sent_since(self, since: float) -> tuple[SentPayment, ...]:
        """Return every payment that the node began at or after `since` (Unix seconds) and that has not failed."""
        ...

    async def estimate_fee(
        self,
        *,
        invoice_destination: NodeId,
        amount_msat: Msat,
        final_cltv: int = 80,
        cltv_limit: int | None = None,
        route_hints: tuple[RouteHint, ...] = (),
    ) -> RouteEstimate | None:
        """Return cost and time lock of the best route in the graph, or None when there is none.

        No probe is sent, so an estimate is no promise.
        """
        ...


class Invoices(Protocol):
    """Plain invoices, of which the node itself knows the preimage."""

    async def add_invoice(
        self, *, value_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        """Make an invoice; `final_cltv` in blocks, at least 24 on LND 0.21."""
        ...

    async def lookup_invoice(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        """Return any invoice of the node as it is now, or None when there is none under this hash."""
        ...


class NodeInfo(Protocol):
    """What the node says about itself and the chain."""

    async def summary(self) -> NodeSummary:
        """Return identity, network and sync state."""
        ...

    async def allowance(self) -> Allowance:
        """Find out what we may do, without doing it: no invoice is made and no money moves."""
        ...

    async def local_balance_msat(self) -> Msat:
        """Return what the node owns in its channels, so that waiting HTLCs do not disturb it.

        Counts our settled side of every open channel, our unsettled outgoing HTLCs, and the commit
        fee of the channels that we opened and therefore pay for.
        """
        ...

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        """Return how full each open channel of the node is; a look may be a second old."""
        ...

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        """Return every HTLC that waits for us in the open channels of the node, as they are now."""
        ...

    def blocks(self) -> AsyncIterator[int]:
        """Yield the height now, then each new one. A lost connection raises LightningUnavailable."""
        ...


class LightningNode(HoldInvoices, Payouts, Invoices, NodeInfo, Closures, Protocol):
    """All views of one node, and its end."""

    async def close(self) -> None:
        """Close the connection; nothing on the node changes."""
        ...
