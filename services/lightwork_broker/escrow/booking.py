"""What an escrow's changes mean in the ledger."""

from __future__ import annotations

from lightwork_broker.db.engine import Transaction
from lightwork_broker.escrow.machine import EscrowEvent, EscrowState
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import credit_posting, loss_posting, payout_posting, settlement_posting


async def book(tx: Transaction, escrow: Escrow, event: EscrowEvent, *, now: int) -> None:
    """Post what one edge of an escrow means in money, in the transaction that takes it."""
    routing = escrow.routing_paid_msat or 0
    if event is EscrowEvent.PAYOUT_SUCCEEDED:
        posting = payout_posting(escrow.id, price_msat=escrow.price_msat, routing_msat=routing)
        await ledger.post(tx, posting, now=now)
    if escrow.state is EscrowState.SETTLED and escrow.credited_to is not None:
        posting = credit_posting(
            escrow.id,
            provider=escrow.credited_to,
            received_msat=escrow.accepted_msat or escrow.total_msat,
            price_msat=escrow.price_msat,
            fee_msat=escrow.fee_msat,
        )
        await ledger.post(tx, posting, now=now)
    elif escrow.state is EscrowState.SETTLED:
        posting = settlement_posting(
            escrow.id,
            received_msat=escrow.accepted_msat or escrow.total_msat,
            price_msat=escrow.price_msat,
            routing_msat=routing,
            fee_msat=escrow.fee_msat,
        )
        await ledger.post(tx, posting, now=now)
    if escrow.state is EscrowState.LOST:
        await ledger.post(tx, loss_posting(escrow.id, spent_msat=escrow.price_msat + routing), now=now)
