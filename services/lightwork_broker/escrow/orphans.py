"""Hold invoices of ours at the node that no row of the database knows: an older copy of it is in use, or a new one.

The intent is committed before the invoice is made, so an invoice without a row is one that the database forgot. Its
buyer waits for a job that will never end. If the provider was paid, the node knows the preimage and the broker takes
what it has paid for; if not, the buyer gets the money back, as soon as that is certain.
"""

from __future__ import annotations

import asyncio
from typing import assert_never

import structlog

from lightwork_broker.clock import Steady
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import store
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.conclusion import GRACE_SECONDS
from lightwork_broker.lightning.errors import (
    AlreadySettled,
    InvoiceCanceled,
    InvoiceNotFound,
    LightningError,
    PermissionMissing,
)
from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState, LightningNode, PayoutStatus
from lightwork_contracts.ids import PaymentHash, Pubkey

log = structlog.stdlib.get_logger()

MARK_CHARACTERS = 16
LOOK_AGAIN_SECONDS = 15.0


def mark_of(owner: Pubkey) -> str:
    """Return what the memo of every hold invoice of this broker ends with: other brokers may use the same node."""
    return owner[:MARK_CHARACTERS]


def is_ours(hold: HoldInvoice, owner: Pubkey) -> bool:
    """Tell whether a hold invoice was made by this broker, in this life or an earlier one."""
    return hold.memo.endswith(f" {mark_of(owner)}")


async def find_orphans(database: Database, node: LightningNode, *, owner: Pubkey) -> list[HoldInvoice]:
    """Return the hold invoices of this broker that are not at their end and that no escrow knows.

    Raises:
        LightningError: the node gave no answer, or may not be asked.
    """
    ours = [hold for hold in await node.pending_holds() if is_ours(hold, owner)]
    # Read after the node was asked: what the node has by now was committed before.
    async with database.read() as tx:
        return [hold for hold in ours if not await store.hash_is_used(tx, hold.payment_hash)]


class Orphans:
    """Finds hold invoices of this broker without a row, and ends each."""

    def __init__(
        self, *, database: Database, node: LightningNode, steady: Steady, owner: Pubkey, seconds: float
    ) -> None:
        self._database = database
        self._node = node
        self._steady = steady
        self._owner = owner
        self._seconds = seconds
        self._unpaid_since: dict[PaymentHash, float] = {}

    async def look(self) -> int:
        """Do for each orphan what can be done now; return how many are left.

        Raises:
            LightningError: the node gave no answer, or may not be asked.
        """
        found = await find_orphans(self._database, self._node, owner=self._owner)
        known = {hold.payment_hash for hold in found}
        self._unpaid_since = {one: since for one, since in self._unpaid_since.items() if one in known}
        return sum([not await self._end(hold) for hold in found])

    async def run(self) -> None:
        """Look until cancelled: at once, and soon again while there are any."""
        is_told = False
        while True:
            left = 0
            try:
                left = await self.look()
                is_told = False
            except PermissionMissing as error:
                # Asked for again all the same: the macaroon's file may be replaced while the broker runs.
                if not is_told:
                    log.warning("orphans.not_looked_for", missing=str(error), hint="allow lnrpc ListInvoices")
                is_told = True
            except LightningError as error:
                log.info("orphans.node_unavailable", cause=type(error).__name__)
            await asyncio.sleep(min(LOOK_AGAIN_SECONDS, self._seconds) if left else self._seconds)

    async def _end(self, hold: HoldInvoice) -> bool:
        """Settle or cancel one orphan, if it is certain which; tell whether it is over."""
        async with self._database.read() as tx:
            if await ledger.is_claimed(tx, hold.payment_hash):
                # What was paid under this hash was paid for something else.
                log.error("orphan.hash_claimed", payment_hash=hold.payment_hash, memo=hold.memo)
                return False
        payout = await self._node.track(hold.payment_hash)
        match payout.status:
            case PayoutStatus.SUCCEEDED:
                if payout.preimage is None or hold.state is not InvoiceState.ACCEPTED:
                    return False
                try:
                    await self._node.settle(payout.preimage)
                except (InvoiceCanceled, InvoiceNotFound):
                    return True
                log.critical(
                    "orphan.settled",
                    payment_hash=hold.payment_hash,
                    memo=hold.memo,
                    received_msat=hold.accepted_msat,
                    routing_msat=payout.fee_msat,
                )
                return True
            case PayoutStatus.FAILED:
                return await self._cancel(hold)
            case PayoutStatus.IN_FLIGHT | PayoutStatus.UNKNOWN:
                self._unpaid_since.pop(hold.payment_hash, None)
                log.warning("orphan.payout_open", payment_hash=hold.payment_hash, status=payout.status)
                return False
            case _:
                assert_never(payout.status)

    async def _cancel(self, hold: HoldInvoice) -> bool:
        """Give the money back once no call of an earlier life of this broker can still pay the provider."""
        now = self._steady()
        since = self._unpaid_since.setdefault(hold.payment_hash, now)
        if now - since < GRACE_SECONDS:
            return False
        try:
            await self._node.cancel(hold.payment_hash)
        except (AlreadySettled, InvoiceNotFound):
            return True
        log.critical(
            "orphan.cancelled",
            payment_hash=hold.payment_hash,
            memo=hold.memo,
            returned_msat=hold.accepted_msat,
        )
        return True
