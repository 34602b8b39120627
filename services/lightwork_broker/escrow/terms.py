"""What an escrow is opened on, and who is told of its changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lightwork_broker.db.engine import Transaction
from lightwork_broker.escrow.machine import EscrowEvent
from lightwork_broker.escrow.store import Escrow
from lightwork_contracts.ids import JobId, Pubkey
from lightwork_contracts.money import Msat


class EscrowListener(Protocol):
    """Who is told of each change, inside the transaction that makes it."""

    async def escrow_changed(self, tx: Transaction, escrow: Escrow, event: EscrowEvent) -> None: ...

    async def escrow_out_of_time(self, escrow_id: JobId) -> None: ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new escrow guards. Msat, seconds, blocks.

    `provider_invoice` is given in escrow mode; `credited_to` and `credit_seed` in credit mode.
    """

    id: JobId
    payment_hash: str
    price_msat: Msat
    fee_msat: Msat
    routing_msat: Msat
    hold_cltv_blocks: int
    outgoing_cltv_blocks: int
    pay_seconds: int
    forward_seconds: int
    memo: str
    provider_invoice: str = ""
    credited_to: Pubkey | None = None
    credit_seed: str | None = None

    def __post_init__(self) -> None:
        if (self.credited_to is None) != bool(self.provider_invoice) or (
            (self.credited_to is None) != (self.credit_seed is None)
        ):
            raise ValueError("an escrow pays an invoice or credits an agent")
