"""Taking on a payment that has come: in full, and over no peer at which too much waits already."""

from __future__ import annotations

from typing import Protocol

import structlog
from pydantic import JsonValue

from lightwork_broker.escrow.guardian import deadlines
from lightwork_broker.escrow.machine import EscrowEvent
from lightwork_broker.escrow.payout import Safety
from lightwork_broker.escrow.slots import is_too_much
from lightwork_broker.escrow.store import Escrow, Value
from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.ports import HoldInvoice, LightningNode
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat

log = structlog.stdlib.get_logger()

PEER_FULL = "peer_full"
"""The error code of a job whose payment came over a peer at which too much waited, and went back."""
REASON = "the payment came over a channel with a peer at which too much waits already, and went back"


class Recorder(Protocol):
    """What this room needs of the escrow service."""

    @property
    def safety(self) -> Safety: ...

    async def change(
        self,
        escrow: Escrow,
        event: EscrowEvent,
        *,
        data: dict[str, JsonValue] | None = None,
        **values: Value,
    ) -> EscrowEvent | None: ...

    def schedule(self, escrow_id: JobId) -> None: ...


async def take_on(
    recorder: Recorder, node: LightningNode, escrow: Escrow, hold: HoldInvoice, *, most_msat: Msat
) -> None:
    """Record that a payment waits, with its deadlines; or that it goes back, before anybody works for it.

    `most_msat` may wait at each peer; 0 is no limit. Where the node does not say what waits, the sweep asks again.
    """
    if hold.min_expiry_height is None or hold.accepted_msat < escrow.total_msat:
        log.error("escrow.accepted_short", job=escrow.id, accepted_msat=hold.accepted_msat)
        return
    is_within = await _is_within(node, escrow, most_msat=most_msat)
    if is_within is None:
        return
    if not is_within:
        log.warning("escrow.peer_full", job=escrow.id, most_msat=most_msat)
        if await recorder.change(escrow, EscrowEvent.CANCEL_ASKED, reason=REASON) is not None:
            recorder.schedule(escrow.id)
        return
    at = deadlines(
        min_expiry_height=hold.min_expiry_height,
        hold_expiry_delta=recorder.safety.hold_expiry_delta,
        margin_blocks=recorder.safety.margin_blocks,
        outgoing_cltv_blocks=escrow.outgoing_cltv_blocks,
    )
    await recorder.change(
        escrow,
        EscrowEvent.HTLC_ACCEPTED,
        accepted_msat=hold.accepted_msat,
        min_expiry_height=hold.min_expiry_height,
        release_by=at.release_by,
        refund_by=at.refund_by,
    )


async def _is_within(node: LightningNode, escrow: Escrow, *, most_msat: Msat) -> bool | None:
    """Tell whether what waits is within the cap, or None if the node gives no answer.

    The node counts for all brokers on it. Where its channels may not be listed, nothing is bounded here.
    """
    if not most_msat:
        return True
    try:
        waiting = await node.waiting_htlcs()
    except PermissionMissing:
        return True
    except LightningUnavailable as error:
        log.warning("escrow.peers_not_known", job=escrow.id, cause=type(error).__name__)
        return None
    return not is_too_much(waiting, escrow.payment_hash, most_msat=most_msat)
