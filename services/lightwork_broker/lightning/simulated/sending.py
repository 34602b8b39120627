"""Paying from a simulated node: what is refused, what is paid once, and why a payment fails. No waiting here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lightwork_broker.lightning.ports import Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated.node_state import NodeState, Payment
from lightwork_broker.lightning.simulated.routes import BLOCK_PADDING, Wish, find_route
from lightwork_broker.lightning.simulated.switchboard import Switchboard
from lightwork_contracts.bolt11 import Invoice, InvoiceError, read_invoice
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


def send(board: Switchboard, payer: NodeState, order: Order) -> Payout:
    """Begin to pay, unless the hash is on its way or was paid; return how it stands at the end of this moment.

    As LND does, the invoice is looked at before the hash: what is refused for its invoice was not sent now, but
    an earlier payment of that hash keeps its outcome.
    """
    known = payer.payments.get(order.payment_hash)
    try:
        terms = read_invoice(order.invoice)
    except InvoiceError:
        return known.outcome() if known else _failed(order.payment_hash, PayoutFailure.REFUSED)
    refused = refusal(terms, order, payer=payer, network=board.network, now=board.clock.now())
    if refused is not None or terms.amount_msat is None:
        return known.outcome() if known else _failed(order.payment_hash, refused or PayoutFailure.REFUSED)
    if known is not None and known.status is not PayoutStatus.FAILED:
        return known.outcome()
    payment = Payment(payment_hash=order.payment_hash)
    payer.payments[order.payment_hash] = payment
    own = sum(board.spendable_msat(channel, payer.pubkey) for channel in board.channels_of(payer.pubkey))
    if own < terms.amount_msat:
        return _fail(payment, PayoutFailure.INSUFFICIENT_BALANCE)
    wish = Wish(
        payer=payer.pubkey,
        payee=terms.payee,
        amount_msat=terms.amount_msat,
        final_blocks=terms.min_final_cltv + BLOCK_PADDING,
        fee_limit_msat=order.fee_limit_msat,
        cltv_limit=order.cltv_limit or MAX_ROUTE_BLOCKS,
    )
    route = find_route(wish, board.ways(payer.pubkey, terms.route_hints, payee=terms.payee))
    if route is None:
        return _fail(payment, PayoutFailure.NO_ROUTE)
    payment.fee_msat = route.fee_msat
    board.send(route, order.payment_hash, payment_secret=terms.payment_secret)
    return payment.outcome()


def refusal(
    terms: Invoice, order: Order, *, payer: NodeState, network: str, now: float
) -> PayoutFailure | None:
    """Return why the node would not even begin to pay, or None."""
    if terms.network != network or terms.amount_msat is None or terms.payee == payer.pubkey:
        return PayoutFailure.REFUSED
    if terms.is_expired(int(now)):
        return PayoutFailure.INVOICE_EXPIRED
    too_long = order.cltv_limit > MAX_ROUTE_BLOCKS
    too_short = 0 < order.cltv_limit <= terms.min_final_cltv + BLOCK_PADDING
    return PayoutFailure.REFUSED if too_long or too_short else None


def _fail(payment: Payment, failure: PayoutFailure) -> Payout:
    payment.status, payment.failure = PayoutStatus.FAILED, failure
    return payment.outcome()


def _failed(payment_hash: PaymentHash, failure: PayoutFailure) -> Payout:
    return Payout(status=PayoutStatus.FAILED, payment_hash=payment_hash, failure=failure)
