"""The terms on which a provider's invoice may be wrapped into a hold invoice. Pure.

The conditions W1 to W9 are those of wrapped hold invoices with late forward: the provider's payment hash is
put on the broker's own invoice, so every limit of the outer invoice must leave room for the inner one.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightwork_broker.errors import InvoiceRefused
from lightwork_broker.escrow.guardian import SPARE_BLOCKS
from lightwork_contracts.bolt11 import Invoice
from lightwork_contracts.money import Msat, ceil_share
from lightwork_contracts.wire.problems import ProblemCode

LND_HOLD_EXPIRY_DELTA = 18
"""Blocks before an accepted HTLC's expiry at which LND 0.21 cancels a hold invoice by itself."""

EXPIRY_BUFFER_SECONDS = 300
"""The outer invoice expires at least this long before the inner one (W4)."""

OUTLIVES_SECONDS = 30 * 86_400
"""An invoice may be payable for so long after the job, and no longer: wallets differ in what they can make."""

ROUTE_BLOCKS = 100
"""What the hops to a provider may add to an HTLC's lifetime, for the invoice's expiry."""

PAYABLE_FEATURES = frozenset({8, 9, 14, 15, 16, 17, 24, 25, 48, 49, 148, 149, 150, 151, 262, 263})
"""BOLT 9 feature bits of an invoice that a payout can honour (W2)."""

NO_CREDIT = Msat(0)
NO_LIMIT = Msat(0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator allows. Msat, seconds and blocks."""

    network: str
    own_node: str
    fee_base_msat: Msat
    fee_ppm: int
    min_price_msat: Msat
    max_price_msat: Msat
    routing_floor_msat: Msat
    routing_cap_ppm: int
    max_final_cltv: int
    max_hold_cltv: int
    guardian_margin_blocks: int
    pay_seconds: int
    forward_seconds: int
    seconds_per_block: int
    credit_ceiling_msat: Msat = NO_CREDIT
    held_htlcs_of_channel: int = 400
    mark: str = ""
    """What the memo of each hold invoice of this broker ends with, so that it finds them again on a shared node."""
    credit_ceiling_msat_of_all: Msat = NO_LIMIT
    held_msat_of_peer: Msat = NO_LIMIT


@dataclass(frozen=True, slots=True)
class Timers:
    """The one time budget of a job, from which every deadline is taken (seconds, then blocks)."""

    pay_seconds: int
    work_seconds: int
    review_seconds: int
    forward_seconds: int
    hold_cltv_blocks: int
    outgoing_cltv_blocks: int


@dataclass(frozen=True, slots=True)
class Price:
    """What the buyer pays, itemised. Msat."""

    price_msat: Msat
    fee_msat: Msat
    routing_msat: Msat

    @property
    def total_msat(self) -> Msat:
        return Msat(self.price_msat + self.fee_msat + self.routing_msat)


def invoice_seconds(limits: Limits, *, work_seconds: int, review_seconds: int) -> int:
    """Return how long the provider's invoice must be payable for, in seconds (W5).

    It outlives the buyer's HTLC: so an outage, a review or a dispute that the HTLC survives never
    ends with an invoice that cannot be paid any more.
    """
    job_seconds = work_seconds + review_seconds + limits.forward_seconds
    outgoing = limits.max_final_cltv + ROUTE_BLOCKS
    held = _job_blocks(job_seconds, limits) + outgoing + LND_HOLD_EXPIRY_DELTA + limits.guardian_margin_blocks
    lasting = max(held * limits.seconds_per_block, job_seconds)
    return limits.pay_seconds + lasting + 2 * EXPIRY_BUFFER_SECONDS


def _job_blocks(job_seconds: int, limits: Limits) -> int:
    # Blocks come irregularly: 1.7 times the expected number, as the field's escrows do.
    return -(-job_seconds * 17 // (limits.seconds_per_block * 10))


def check_invoice(
    invoice: Invoice, *, price_msat: Msat, payment_hash: str, limits: Limits, needed_seconds: int, now: int
) -> None:
    """Check the provider's invoice before anything is built on it.

    Raises:
        InvoiceRefused: with the code of the first rule that it breaks.
    """

    def refuse(code: ProblemCode, detail: str, hint: str | None = None) -> InvoiceRefused:
        return InvoiceRefused(detail, invoice_code=code, hint=hint)

    if invoice.network.value != limits.network:
        raise refuse(
            ProblemCode.INVOICE_NETWORK,
            f"the invoice is for {invoice.network.value}, this broker is on {limits.network}",
        )
    if invoice.amount_msat is None:
        raise refuse(ProblemCode.INVOICE_NO_AMOUNT, "the invoice names no amount, so it cannot be wrapped")
    if invoice.amount_msat != price_msat:
        raise refuse(
            ProblemCode.INVOICE_AMOUNT,
            f"the invoice asks {invoice.amount_msat} msat, the agreed price is {price_msat} msat",
        )
    if invoice.payment_hash != payment_hash:
        raise refuse(ProblemCode.INVOICE_HASH, "the invoice's payment hash is not the one committed to")
    if invoice.payee == limits.own_node:
        raise refuse(
            ProblemCode.INVOICE_OWN_NODE,
            "the invoice is payable at the broker's own node, which cannot hold two invoices with one hash",
            "use a wallet on another Lightning node, or sell in credit mode",
        )
    if unknown := {bit for bit in invoice.features if bit not in PAYABLE_FEATURES}:
        raise refuse(ProblemCode.INVOICE_FEATURES, f"the invoice needs features {sorted(unknown)}")
    if invoice.expires_at <= now:
        raise refuse(ProblemCode.INVOICE_EXPIRED, "the invoice has expired", "make a fresh invoice")
    if invoice.expires_at < now + needed_seconds - EXPIRY_BUFFER_SECONDS:
        raise refuse(
            ProblemCode.INVOICE_EXPIRES_TOO_SOON,
            f"the invoice expires in {invoice.expires_at - now} s; the job may need {needed_seconds} s",
            f"make the invoice with an expiry of at least {needed_seconds} seconds",
        )
    if invoice.expires_at > now + needed_seconds + OUTLIVES_SECONDS:
        raise refuse(
            ProblemCode.INVOICE_EXPIRES_TOO_LATE,
            f"the invoice can be paid for {invoice.expires_at - now} s; the job may need {needed_seconds} s",
            f"make the invoice with an expiry of {needed_seconds} seconds",
        )
    if invoice.min_final_cltv > limits.max_final_cltv:
        raise refuse(
            ProblemCode.INVOICE_CLTV,
            f"the invoice's final CLTV delta is {invoice.min_final_cltv} blocks, at most "
            f"{limits.max_final_cltv} are accepted",
        )


def price_credit(*, price_msat: Msat, limits: Limits) -> Price:
    """Return the itemised price of a job in credit mode: nothing is routed to the provider."""
    fee = Msat(limits.fee_base_msat + ceil_share(price_msat, ppm=limits.fee_ppm))
    return Price(price_msat=price_msat, fee_msat=fee, routing_msat=Msat(0))


def price_job(*, price_msat: Msat, route_fee_msat: Msat, limits: Limits) -> Price:
    """Return the itemised price: the fee is base plus share, the routing budget 1.5 times the estimate.

    Raises:
        InvoiceRefused: the estimated route costs more than the operator's cap (`no_route`).
    """
    fee = Msat(limits.fee_base_msat + ceil_share(price_msat, ppm=limits.fee_ppm))
    routing = Msat(limits.routing_floor_msat + route_fee_msat + ceil_share(route_fee_msat, ppm=500_000))
    cap = limits.routing_floor_msat + ceil_share(price_msat, ppm=limits.routing_cap_ppm)
    if routing > cap:
        raise InvoiceRefused(
            f"reaching the provider's node would cost up to {routing} msat; the cap is {cap} msat",
            invoice_code=ProblemCode.NO_ROUTE,
            hint="the provider needs a better connected node, or a direct channel with the broker",
        )
    return Price(price_msat=price_msat, fee_msat=fee, routing_msat=routing)


def plan_timers(
    *,
    work_seconds: int,
    review_seconds: int,
    final_cltv: int,
    route_blocks: int,
    hold_expiry_delta: int,
    limits: Limits,
) -> Timers:
    """Derive every deadline of a job, in seconds and blocks, from one budget (W6).

    Raises:
        InvoiceRefused: the hold would have to last longer than the operator allows (`invoice_cltv`).
    """
    job_seconds = work_seconds + review_seconds + limits.forward_seconds
    job_blocks = _job_blocks(job_seconds, limits)
    outgoing = max(route_blocks, final_cltv) + 3  # LND pads the final hop by three blocks
    hold = job_blocks + outgoing + hold_expiry_delta + limits.guardian_margin_blocks + SPARE_BLOCKS
    if hold > limits.max_hold_cltv:
        raise InvoiceRefused(
            f"the buyer's HTLC would be held for {hold} blocks, at most {limits.max_hold_cltv} are allowed",
            invoice_code=ProblemCode.INVOICE_CLTV,
            hint="shorten the work or review time, or the invoice's final CLTV delta",
        )
    return Timers(
        pay_seconds=limits.pay_seconds,
        work_seconds=work_seconds,
        review_seconds=review_seconds,
        forward_seconds=limits.forward_seconds,
        hold_cltv_blocks=max(hold, 80),
        outgoing_cltv_blocks=outgoing,
    )
