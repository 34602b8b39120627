"""Withdrawals that this database has forgotten: an older copy of it would let agents take the same balance twice.

The intent and its payment hash are committed before the node is called. So whatever the node has paid since the books
were last compared, under a hash that the database does not know, was paid by a later life of it, or by somebody else.
Which of the two only a person can tell: until then no withdrawal is taken on. What was looked into stops nothing again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from lightwork_broker.accounts import store
from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import BALANCES
from lightwork_broker.lightning.errors import PermissionMissing
from lightwork_broker.lightning.ports import LightningNode, SentPayment

log = structlog.stdlib.get_logger()

OVERLAP_SECONDS = 900.0
"""How far the clocks of node and broker may differ, and how old the last look at the books may be."""


Pending = Callable[[Transaction], Awaitable[int]]
"""Returns the prices of all jobs in credit mode that are not over, in msat."""


async def stop_if_forgotten(
    database: Database, node: LightningNode, *, clock: Clock, pending: Pending
) -> str | None:
    """Stop withdrawals if the node has paid what the database does not know; return why, or None.

    Where nothing is owed, and nothing will be by the jobs that are open, there is nothing to stop.

    Raises:
        LightningError: the node gave no answer.
    """
    async with database.read() as tx:
        # A job that an older copy has open is owed again as soon as its node is asked: that counts too.
        mark, owed = await ledger.watch_mark(tx), await _owed_msat(tx) + await pending(tx)
    if mark is None or owed == 0:
        return None
    since = min(mark.compared_until, clock.now()) - OVERLAP_SECONDS
    try:
        sent = await node.sent_since(since)
    except PermissionMissing as error:
        log.warning("withdrawals.forgotten_ones_not_looked_for", missing=str(error))
        return None
    # Read after the node was asked: what it has paid for us was committed before.
    async with database.read() as tx:
        unclaimed = [one for one in sent if not await ledger.is_claimed(tx, one.payment_hash)]
        unknown = [one for one in unclaimed if not await store.is_acknowledged(tx, one.payment_hash)]
    if not unknown:
        return None
    reason = _words(unknown)
    async with database.write() as tx:
        hashes = [one.payment_hash for one in unknown]
        await store.stop(tx, reason=reason, unknown=hashes, now=clock.now())
    log.critical("withdrawals.stopped", reason=reason, hashes=hashes[:20])
    return reason


async def _owed_msat(tx: Transaction) -> int:
    reserved = sum(one.reserved_msat for one in await store.under_way(tx))
    return reserved - await ledger.balance_of_all(tx, BALANCES)


def _words(unknown: Sequence[SentPayment]) -> str:
    total = sum(one.amount_msat + one.fee_msat for one in unknown)
    return (
        f"the node has made {len(unknown)} payments of {total} msat in all that this database does not know: "
        "it may be an older copy, whose balances were withdrawn already"
    )
