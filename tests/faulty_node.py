"""A Lightning node in memory that fails on demand, for tests of what moves money.

It keeps LND's rules where money depends on them: real hashes and preimages, hold invoices that the node gives
back by itself near their expiry, one payment per hash. Faults strike single calls: an answer that is lost
before or after the effect, a call that stays on the wire, and a crash of the broker that made the call.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from secret_search.search import SEARCH, Kind

from lightwork_broker.lightning.closures import HtlcEnd, IncomingHtlc
from lightwork_broker.lightning.errors import (
    AlreadySettled,
    HashInUse,
    InvoiceCanceled,
    InvoiceNotFound,
    InvoiceStillOpen,
    Refused,
)
from lightwork_broker.lightning.ports import (
    Allowance,
    HoldInvoice,
    InvoiceState,
    Payout,
    PayoutFailure,
    PayoutStatus,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

OWN_NODE = "02" + "11" * 32
PEER = "02" + "55" * 32
"""The one peer that every payment comes over."""
FORWARDED = PaymentHash("0f" * 32)
"""The hash of what the node forwards for others."""
HOLD_EXPIRY_DELTA = 18
SHARD_SECONDS = 120
"""How long LND keeps the parts of a payment that is not complete."""
WIRE_SECONDS = 30
"""How long a call can stay on the wire: by then keepalive has ended its connection."""
ROUTE_BLOCKS = 40
"""Blocks that the only route to any provider takes, besides the final CLTV."""


class Crash(BaseException):
    """The broker that made the call is dead; nothing in it may go on."""


class Fault(StrEnum):
    LOST_BEFORE = "lost before the effect"
    LOST_AFTER = "lost after the effect"
    SLOW_BEFORE = "on the wire before the effect"
    SLOW_AFTER = "on the wire after the effect"
    CRASH_BEFORE = "crash before the effect"
    CRASH_AFTER = "crash after the effect"
    NO_PERMISSION = "not allowed"


class Seconds(Protocol):
    def now(self) -> float: ...


@dataclass(slots=True)
class Htlc:
    amount_msat: int
    expiry_height: int
    at: float


@dataclass(slots=True)
class Hold:
    payment_hash: PaymentHash
    value_msat: int
    expires_at: float
    cltv_blocks: int
    memo: str = ""
    state: InvoiceState = InvoiceState.OPEN
    htlcs: list[Htlc] = field(default_factory=list[Htlc])
    waiters: list[asyncio.Future[None]] = field(default_factory=list["asyncio.Future[None]"])

    @property
    def amount_msat(self) -> int:
        return sum(htlc.amount_msat for htlc in self.htlcs)

    @property
    def min_expiry(self) -> int | None:
        waiting = self.state in (InvoiceState.OPEN, InvoiceState.ACCEPTED)
        return min((htlc.expiry_height for htlc in self.htlcs), default=None) if waiting else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an attempt to pay: a fee, a failure, or neither while it is stuck."""

    fee_msat: int | None = None
    failure: PayoutFailure | None = None


@dataclass(slots=True)
class Payment:
    payment_hash: PaymentHash
    price_msat: int
    fee_limit_msat: int
    expiry_height: int
    status: PayoutStatus = PayoutStatus.IN_FLIGHT
    failure: PayoutFailure | None = None
    fee_msat: int = 0


@dataclass(slots=True)
class Letter:
    """One call, or the answer to one, that is on the wire."""

    name: str
    payment_hash: PaymentHash | None
    sent_at: float
    deliver: Callable[[], None]
    drop: Callable[[], None]
    before: bool


class Observer(Protocol):
    """Who checks each call at the moment at which it is made, and again when it takes effect."""

    def called(self, name: str, payment_hash: PaymentHash | None, **facts: int) -> None: ...

    def happened(self, name: str, payment_hash: PaymentHash | None) -> None: ...


class FaultyNode:
    """The node and the people around it; each broker talks to it through a `Port` of its own."""

    def __init__(self, clock: Seconds, *, height: int = 1_000) -> None:
        self.clock = clock
        self.height = height
        self.slots_taken = 0
        self.forwarded_msat = 0
        self.holds: dict[PaymentHash, Hold] = {}
        self.payments: dict[PaymentHash, Payment] = {}
        self.preimages: dict[PaymentHash, Preimage] = {}
        self.outcomes: dict[PaymentHash, list[Outcome]] = {}
        self.balances = {"buyer": 0, "broker": 0, "provider": 0, "routers": 0}
        self.charged: dict[PaymentHash, int] = {}
        self.paid_out: dict[PaymentHash, int] = {}
        self.successes: dict[PaymentHash, int] = {}
        self.ever_accepted: dict[PaymentHash, int] = {}
        self.given_back: set[PaymentHash] = set()
        self.strays: set[PaymentHash] = set()  # whose money went the other way than the node says
        self.ends: dict[PaymentHash, HtlcEnd] = {}
        self.seen: dict[PaymentHash, list[HoldInvoice]] = {}
        self.wire: list[Letter] = []
        self.faults: list[tuple[str | None, Fault]] = []
        self.down = False
        self.streaming = True
        self.heeds_fee_limits = True
        self.observer: Observer | None = None
        self.allowance = Allowance()
        self.denied: set[str] = set()

    # --- the world outside ------------------------------------------------------------------------------

    def provider_hash(self, seed: str) -> PaymentHash:
        """Return the hash of a fresh preimage that only the provider's wallet knows."""
        preimage = Preimage(hashlib.sha256(seed.encode()).digest())
        self.preimages[preimage.payment_hash] = preimage
        SEARCH.add(Kind.PREIMAGE, preimage.reveal())
        return preimage.payment_hash

    def buyer_pays(self, payment_hash: PaymentHash, amount_msat: int) -> bool:
        """Let the buyer send one HTLC; False if the node turns it away."""
        hold = self.holds.get(payment_hash)
        if hold is None or hold.state is not InvoiceState.OPEN or self.clock.now() >= hold.expires_at:
            return False
        hold.htlcs.append(Htlc(amount_msat, self.height + hold.cltv_blocks, self.clock.now()))
        if hold.amount_msat >= hold.value_msat:
            self.ever_accepted[payment_hash] = hold.amount_msat
            self._to(hold, InvoiceState.ACCEPTED)
        return True

    def resolve(self, payment_hash: PaymentHash, outcome: Outcome) -> bool:
        """End a payment that is in flight."""
        payment = self.payments.get(payment_hash)
        if payment is None or payment.status is not PayoutStatus.IN_FLIGHT:
            return False
        if outcome.failure is not None:
            payment.status, payment.failure = PayoutStatus.FAILED, outcome.failure
        elif outcome.fee_msat is not None:
            payment.status = PayoutStatus.SUCCEEDED
            payment.fee_msat = outcome.fee_msat
            if self.heeds_fee_limits:
                payment.fee_msat = min(outcome.fee_msat, payment.fee_limit_msat)
            self.successes[payment_hash] = self.successes.get(payment_hash, 0) + 1
            self.paid_out[payment_hash] = self.paid_out.get(payment_hash, 0) + payment.price_msat
            self.balances["broker"] -= payment.price_msat + payment.fee_msat
            self.balances["provider"] += payment.price_msat
            self.balances["routers"] += payment.fee_msat
        return True

    def mine(self) -> None:
        """Add one block: payments whose HTLC has expired fail, held invoices near theirs go back."""
        self.height += 1
        for payment in self.payments.values():
            if payment.status is PayoutStatus.IN_FLIGHT and self.height >= payment.expiry_height:
                self.resolve(payment.payment_hash, Outcome(failure=PayoutFailure.TIMEOUT))
        for hold in self.holds.values():
            near = hold.min_expiry is not None and self.height + HOLD_EXPIRY_DELTA >= hold.min_expiry
            if hold.state is InvoiceState.ACCEPTED and near:
                self.given_back.add(hold.payment_hash)
                self._to(hold, InvoiceState.CANCELED)

    def time_passes(self) -> None:
        """Apply what depends on the clock: open invoices expire, parts go back, old calls leave the wire."""
        now = self.clock.now()
        for hold in self.holds.values():
            if hold.state is InvoiceState.OPEN:
                hold.htlcs = [htlc for htlc in hold.htlcs if now - htlc.at < SHARD_SECONDS]
                if now >= hold.expires_at:
                    self._to(hold, InvoiceState.CANCELED)
        for letter in [letter for letter in self.wire if now - letter.sent_at >= WIRE_SECONDS]:
            self.wire.remove(letter)
            letter.drop()

    def pays_on_the_wire(self, payment_hash: PaymentHash) -> bool:
        """Tell whether a payment that has not begun may still begin."""
        return any(
            letter.name == "pay" and letter.before and letter.payment_hash == payment_hash
            for letter in self.wire
        )

    def take_fault(self, name: str) -> Fault | None:
        for index, (wanted, fault) in enumerate(self.faults):
            if wanted in (None, name):
                del self.faults[index]
                return fault
        return None

    def end_streams(self) -> None:
        """Cut every stream of invoice states."""
        self.streaming = False
        for hold in self.holds.values():
            self._wake(hold)

    # --- what calls do ----------------------------------------------------------------------------------

    def add_hold(
        self, payment_hash: PaymentHash, value_msat: int, seconds: int, cltv_blocks: int, memo: str
    ) -> str:
        known = self.holds.get(payment_hash)
        if known is not None:
            if known.state.is_final or (known.value_msat, known.memo) != (value_msat, memo):
                raise HashInUse("the node has another invoice under this payment hash")
            return f"lnbcrt1{payment_hash}"
        expires_at = self.clock.now() + seconds
        self.holds[payment_hash] = Hold(payment_hash, value_msat, expires_at, cltv_blocks, memo)
        self._remember(self.holds[payment_hash])
        return f"lnbcrt1{payment_hash}"

    def settle(self, preimage: Preimage) -> None:
        hold = self.holds.get(preimage.payment_hash)
        if hold is None:
            raise InvoiceNotFound("the node has no invoice for this preimage")
        match hold.state:
            case InvoiceState.SETTLED:
                return
            case InvoiceState.OPEN:
                raise InvoiceStillOpen("nobody has paid this invoice in full yet")
            case InvoiceState.CANCELED:
                raise InvoiceCanceled("this invoice is cancelled")
            case InvoiceState.ACCEPTED:
                self.charged[hold.payment_hash] = hold.amount_msat
                self.balances["buyer"] -= hold.amount_msat
                self.balances["broker"] += hold.amount_msat
                self._to(hold, InvoiceState.SETTLED)

    def cancel(self, payment_hash: PaymentHash) -> None:
        hold = self.holds.get(payment_hash)
        if hold is None:
            raise InvoiceNotFound("the node has no invoice under this payment hash")
        if hold.state is InvoiceState.SETTLED:
            raise AlreadySettled("this invoice is settled")
        if hold.state is not InvoiceState.CANCELED:
            self._to(hold, InvoiceState.CANCELED)

    def pay(self, invoice: str, payment_hash: PaymentHash, fee_limit_msat: int, cltv_limit: int) -> Payout:
        terms = read_invoice(invoice)
        if terms.payment_hash != payment_hash or terms.amount_msat is None:
            raise Refused("the invoice is for another payment hash; nothing was sent")
        known = self.payments.get(payment_hash)
        if self.clock.now() >= terms.expires_at:
            expired = Payout(
                status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=PayoutFailure.INVOICE_EXPIRED
            )
            return self.track(payment_hash) if known is not None else expired
        if known is None or known.status is PayoutStatus.FAILED:
            self.payments[payment_hash] = Payment(
                payment_hash, terms.amount_msat, fee_limit_msat, self.height + cltv_limit
            )
            queue = self.outcomes.get(payment_hash)
            outcome = queue.pop(0) if queue else Outcome(fee_msat=fee_limit_msat // 2)
            too_dear = self.heeds_fee_limits and (outcome.fee_msat or 0) > fee_limit_msat
            if cltv_limit < terms.min_final_cltv or too_dear:
                outcome = Outcome(failure=PayoutFailure.NO_ROUTE)
            self.resolve(payment_hash, outcome)
        return self.track(payment_hash)

    def track(self, payment_hash: PaymentHash) -> Payout:
        payment = self.payments.get(payment_hash)
        if payment is None:
            return Payout(
                status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=PayoutFailure.NEVER_SENT
            )
        succeeded = payment.status is PayoutStatus.SUCCEEDED
        return Payout(
            status=payment.status,
            payment_hash=payment_hash,
            preimage=self.preimages[payment_hash] if succeeded else None,
            fee_msat=Msat(payment.fee_msat) if succeeded else None,
            failure=payment.failure,
        )

    def look(self, payment_hash: PaymentHash) -> HoldInvoice | None:
        hold = self.holds.get(payment_hash)
        return None if hold is None else self._snapshot(hold)

    def pending(self) -> tuple[HoldInvoice, ...]:
        return tuple(self._snapshot(hold) for hold in self.holds.values() if not hold.state.is_final)

    def waiting(self) -> tuple[WaitingHtlc, ...]:
        """Return what waits in the channels with the peer: for the brokers, and forwarded for others."""
        found = [
            WaitingHtlc(peer=PEER, payment_hash=hold.payment_hash, amount_msat=Msat(htlc.amount_msat))
            for hold in self.holds.values()
            if not hold.state.is_final
            for htlc in hold.htlcs
        ]
        if self.forwarded_msat:
            found.append(
                WaitingHtlc(peer=PEER, payment_hash=FORWARDED, amount_msat=Msat(self.forwarded_msat))
            )
        return tuple(found)

    def incoming(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        """Return what became of the HTLCs of an invoice: those of one that is settled are ours."""
        hold = self.holds.get(payment_hash)
        if hold is None:
            return ()
        settled = hold.state is InvoiceState.SETTLED
        end = HtlcEnd.WAITING
        if hold.state.is_final:
            end = HtlcEnd.TAKEN if settled is not (payment_hash in self.strays) else HtlcEnd.RETURNED
        end = self.ends.get(payment_hash, end)
        return tuple(
            IncomingHtlc(channel=1, amount_msat=Msat(htlc.amount_msat), is_settled=settled, end=end)
            for htlc in hold.htlcs
        )

    def _snapshot(self, hold: Hold) -> HoldInvoice:
        held = hold.state is not InvoiceState.CANCELED
        return HoldInvoice(
            payment_hash=hold.payment_hash,
            state=hold.state,
            value_msat=Msat(hold.value_msat),
            accepted_msat=Msat(hold.amount_msat if held else 0),
            min_expiry_height=hold.min_expiry,
            payment_request=f"lnbcrt1{hold.payment_hash}",
            htlc_count=len(hold.htlcs) if held else 0,
            add_index=1,
            memo=hold.memo,
        )

    def _to(self, hold: Hold, state: InvoiceState) -> None:
        hold.state = state
        self._remember(hold)
        self._wake(hold)

    def _remember(self, hold: Hold) -> None:
        self.seen.setdefault(hold.payment_hash, []).append(self._snapshot(hold))

    @staticmethod
    def _wake(hold: Hold) -> None:
        for waiter in hold.waiters:
            if not waiter.done():
                waiter.set_result(None)
        hold.waiters.clear()
