"""How many jobs may be under way: of one buyer, and of all."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from lightwork_broker.db.engine import Transaction
from lightwork_broker.errors import TooManyJobs
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.slots import UNPAID_SECONDS
from lightwork_broker.jobs import store
from lightwork_contracts.ids import Pubkey

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Caps:
    """How many jobs may be under way."""

    of_buyer: int
    of_all: int


DEFAULT_CAPS = Caps(of_buyer=50, of_all=400)


async def require_slot(
    tx: Transaction, buyer: Pubkey, *, caps: Caps, escrows: EscrowService, now: float
) -> None:
    """Keep a buyer, and all together, from taking every place. In a full house, who does not pay gives way.

    Keys cost nothing, so a cap of each buyer alone would let one who pays for nothing keep all others out.

    Raises:
        TooManyJobs
    """
    if await store.count_open(tx, buyer) >= caps.of_buyer:
        raise TooManyJobs(
            f"you have {caps.of_buyer} jobs that are not over",
            hint="cancel those that you will not pay, or wait until some are over",
            context={"limit": caps.of_buyer},
        )
    if await store.count_open(tx) < caps.of_all:
        return
    idle = await store.oldest_unpaid(tx, before=now - UNPAID_SECONDS)
    if idle is None:
        raise TooManyJobs(
            f"this broker has {caps.of_all} jobs that are not over",
            hint="try again in a moment",
            context={"limit": caps.of_all},
        )
    log.info("job.gave_way", job=idle.id)
    await store.note_error(tx, idle, code="gave_way", message="it was not paid, and others were waiting")
    await escrows.ask_cancel(tx, idle.id, reason="it was not paid, and others were waiting")
