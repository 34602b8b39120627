"""Paying from a simulated node: what is refused, what is paid once, and why a payment fails. No waiting here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lightwork_broker.lightning.ports import Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated.node_state import NodeState, Payment
from lightwork_broker.lightning.simulated.routes import BLOCK_PADDING, Wish, find_route
from lightwork_broker.lightning.simulated.switchboard import Switchboard
from lightwork_contracts.bolt11 import InvoiceError, Network, RouteHint, read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

MAX_ROUTE_BLOCKS: Final = 2_016
"""The longest that a payer locks money for (LND: max-cltv-expiry)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A payment to make. `cltv_limit` is in blocks, final delta included."""

    invoice: str
    payment_hash: PaymentHash
    fee_limit_msat: Msat
    cltv_limit: int


@dataclass(frozen=True, slots=True)
class Sent:
    """How a payment stands after the call to send it; `was_refused` if this call did not even begin one."""

    outcome: Payout
    was_refused: bool = False


def send(board: Switchboard, payer: NodeState, order: Order) -> Sent:
    """Begin to pay, unless the hash is on its way or was paid; return how it stands at the end of this moment.

    As LND does, the invoice is looked at before the hash: what is refused for its invoice was not sent now, but
    an earlier payment of that hash keeps its outcome.
    """
    known = payer.payments.get(order.payment_hash)
    terms = _check(order, payer=payer, network=board.network, now=board.clock.now())
    if isinstance(terms, PayoutFailure):
        return Sent(
            _failed(order.payment_hash, terms) if known is None else known.outcome(), was_refused=True
        )
    if known is not None and known.status is not PayoutStatus.FAILED:
        return Sent(known.outcome())
    payment = Payment(
        payment_hash=order.payment_hash, began_at=board.clock.now(), amount_msat=terms.amount_msat
    )
    payer.payments[order.payment_hash] = payment
    own = sum(board.spendable_msat(channel, payer.pubkey) for channel in board.channels_of(payer.pubkey))
    if own < terms.amount_msat:
        return Sent(_fail(payment, PayoutFailure.INSUFFICIENT_BALANCE))
    wish = Wish(
        payer=payer.pubkey,
        payee=terms.payee,
        amount_msat=terms.amount_msat,
        final_blocks=terms.final_cltv + BLOCK_PADDING,
        fee_limit_msat=order.fee_limit_msat,
        cltv_limit=order.cltv_limit or MAX_ROUTE_BLOCKS,
    )
    route = find_route(wish, board.ways(payer.pubkey, terms.route_hints, payee=terms.payee))
    if route is None:
        return Sent(_fail(payment, PayoutFailure.NO_ROUTE))
    payment.fee_msat = route.fee_msat
    board.send(route, order.payment_hash, payment_secret=terms.payment_secret)
    return Sent(payment.outcome())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a payer needs of an invoice that it may pay."""

    payee: str
    amount_msat: int
    final_cltv: int
    payment_secret: str
    route_hints: tuple[RouteHint, ...]


def _check(order: Order, *, payer: NodeState, network: Network, now: float) -> _Terms | PayoutFailure:
    """Return the terms of the invoice, or why the node would not even begin to pay it."""
    try:
        invoice = read_invoice(order.invoice)
    except InvoiceError:
        return PayoutFailure.REFUSED
    if invoice.network is not network or invoice.amount_msat is None or invoice.payee == payer.pubkey:
        return PayoutFailure.REFUSED
    if invoice.is_expired(int(now)):
        return PayoutFailure.INVOICE_EXPIRED
    too_long = order.cltv_limit > MAX_ROUTE_BLOCKS
    too_short = 0 < order.cltv_limit <= invoice.min_final_cltv + BLOCK_PADDING
    if too_long or too_short:
        return PayoutFailure.REFUSED
    return _Terms(
        payee=invoice.payee,
        amount_msat=invoice.amount_msat,
        final_cltv=invoice.min_final_cltv,
        payment_secret=invoice.payment_secret,
        route_hints=invoice.route_hints,
    )


def _fail(payment: Payment, failure: PayoutFailure) -> Payout:
    payment.status, payment.failure = PayoutStatus.FAILED, failure
    return payment.outcome()


def _failed(payment_hash: PaymentHash, failure: PayoutFailure) -> Payout:
    return Payout(status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=failure)
