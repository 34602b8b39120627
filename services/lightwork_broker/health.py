"""Whether a broker can do its work: its database, its node, and its own word that the books hold."""

from __future__ import annotations

from lightwork_broker.db.engine import Database, DatabaseUnavailable
from lightwork_broker.escrow import store as escrow_store
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.payout_gate import PayoutGate
from lightwork_contracts.wire.info import Health


async def health_of(database: Database, node: LightningNode, gate: PayoutGate) -> Health:
    """Ask database and node, and say the first thing that is wrong."""
    try:
        async with database.read() as tx:
            counts = await escrow_store.count(tx)
    except DatabaseUnavailable as error:
        return _unwell(escrow_store.Counts(0, 0), str(error), database=False)
    if gate.reason is not None:
        return _unwell(counts, f"payouts are stopped: {gate.reason}")
    try:
        summary = await node.summary()
    except LightningError as error:
        return _unwell(counts, f"the Lightning node does not answer ({type(error).__name__})")
    return Health(
        ok=summary.synced_to_chain,
        database=True,
        node_synced=summary.synced_to_chain,
        block_height=summary.block_height,
        open_escrows=counts.unfinished,
        unknown_payments=counts.unknown,
        detail=None if summary.synced_to_chain else "the node is not synced to its chain",
    )


def _unwell(counts: escrow_store.Counts, detail: str, *, database: bool = True) -> Health:
    return Health(
        ok=False,
        database=database,
        node_synced=False,
        block_height=None,
        open_escrows=counts.unfinished,
        unknown_payments=counts.unknown,
        detail=detail,
    )
