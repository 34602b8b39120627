"""What a simulated node knows. It outlives the connections to the node, and its restarts."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from coincurve import PrivateKey

from lightwork_broker.lightning.ports import (
    DEFAULT_HOLD_EXPIRY_DELTA,
    InvoiceState,
    NodeId,
    Payout,
    PayoutFailure,
    PayoutStatus,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.invoices import Invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


class Condition(StrEnum):
    UP = "up"
    DOWN = "down"
    LOCKED = "locked"


@dataclass(slots=True, eq=False, kw_only=True)
class Payment:
    """The last attempt to pay one hash."""

    payment_hash: PaymentHash
    began_at: float
    amount_msat: int = 0
    fee_msat: int = 0
    status: PayoutStatus = PayoutStatus.IN_FLIGHT
    preimage: Preimage | None = None
    failure: PayoutFailure | None = None

    def outcome(self) -> Payout:
        succeeded = self.status is PayoutStatus.SUCCEEDED
        return Payout(
            status=self.status,
            payment_hash=self.payment_hash,
            preimage=self.preimage,
            fee_msat=Msat(self.fee_msat) if succeeded else None,
            failure=self.failure,
        )


class Waiters:
    """Those who wait for a change of something, by its name. `changed` wakes them once."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)

    @contextmanager
    def on(self, topic: str) -> Generator[asyncio.Future[None]]:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[topic].add(waiter)
        try:
            yield waiter
        finally:
            self._waiting[topic].discard(waiter)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def changed(self, topic: str) -> None:
        for waiter in self._waiting.get(topic, ()):
            if not waiter.done():
                waiter.set_result(None)

    def everything_changed(self) -> None:
        for topic in self._waiting:
            self.changed(topic)


@dataclass(slots=True, eq=False, kw_only=True)
class NodeState:
    """One node: its key, its invoices and payments by hash, and whether it serves.

    `session` counts how often it went away: a stream that began in another session has ended.
    """

    name: str
    private_key: bytes = field(repr=False)
    pubkey: NodeId
    hold_expiry_delta: int = DEFAULT_HOLD_EXPIRY_DELTA
    synced: bool = True
    condition: Condition = Condition.UP
    session: int = 0
    invoices: dict[PaymentHash, Invoice] = field(default_factory=dict[PaymentHash, Invoice])
    pending: dict[PaymentHash, Invoice] = field(default_factory=dict[PaymentHash, Invoice])
    payments: dict[PaymentHash, Payment] = field(default_factory=dict[PaymentHash, Payment])
    waiters: Waiters = field(default_factory=Waiters)
    draws: int = 0

    @property
    def serves(self) -> bool:
        return self.condition is Condition.UP

    def draw(self) -> bytes:
        """Return 32 bytes that only this node knows: the next of a row that its key decides."""
        self.draws += 1
        return hashlib.sha256(self.private_key + self.draws.to_bytes(8, "big")).digest()

    def find(self, payment_hash: PaymentHash, *, now: float) -> Invoice | None:
        """Return the invoice as it is now: an open one that has expired is cancelled by being looked at."""
        invoice = self.invoices.get(payment_hash)
        if invoice is not None and invoice.state is InvoiceState.OPEN and now >= invoice.expires_at:
            invoice.cancel()
            self.moved(invoice)
        return invoice

    def add(self, invoice: Invoice) -> None:
        self.invoices[invoice.payment_hash] = invoice
        self.pending[invoice.payment_hash] = invoice

    def moved(self, invoice: Invoice) -> None:
        """Tell those who watch the invoice that its state is another one."""
        if invoice.state.is_final:
            self.pending.pop(invoice.payment_hash, None)
        self.waiters.changed(invoice.payment_hash)

    def payout(self, payment_hash: PaymentHash) -> Payout:
        """Return what became of the payment: FAILED/`never_sent` when there is none."""
        payment = self.payments.get(payment_hash)
        if payment is not None:
            return payment.outcome()
        return Payout(status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=PayoutFailure.NEVER_SENT)


def new_node(name: str, *, seed: bytes) -> NodeState:
    """Return a node whose key follows from its name and the seed of its network."""
    drawn = hashlib.sha256(b"lightwork simulated node" + seed + name.encode()).digest()
    number = int.from_bytes(drawn, "big") % (CURVE_ORDER - 1) + 1
    key = number.to_bytes(32, "big")
    return NodeState(name=name, private_key=key, pubkey=PrivateKey(key).public_key.format().hex())
