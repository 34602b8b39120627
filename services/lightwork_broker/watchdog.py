"""Looks at the books again and again while the broker runs, and stops payouts when something is wrong."""

from __future__ import annotations

import asyncio

import structlog

from lightwork_broker.audit import audit, compare_with_node
from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.payout_gate import PayoutGate

log = structlog.stdlib.get_logger()

OVERLAP_SECONDS = 60.0
"""What ended this long before the last look is looked at again: it may have been committed after it."""
FIRST_SECONDS = 3_600.0
"""How far back the first look goes: a start must not take longer for all that was ever done."""


class Watchdog:
    """Recomputes the ledger and compares what has ended with the node; a breach closes the gate."""

    def __init__(
        self, *, database: Database, node: LightningNode, clock: Clock, gate: PayoutGate, seconds: float
    ) -> None:
        self._database = database
        self._node = node
        self._clock = clock
        self._gate = gate
        self._seconds = seconds
        # What ended long ago was looked at by an earlier life; all of it is `lightwork broker audit --node`.
        self._since = clock.now() - FIRST_SECONDS
        self._breached: float | None = None

    async def look(self) -> tuple[str, ...]:
        """Look once; return what is wrong. A node that gives no answer is no breach.

        After a breach everything since then is looked at again, so the gate opens only when it has healed.
        """
        begun = self._clock.now()
        since = self._since if self._breached is None else min(self._since, self._breached)
        breaches = list((await audit(self._database)).breaches)
        try:
            breaches += await compare_with_node(self._database, self._node, since=since)
        except LightningError as error:
            log.warning("watchdog.node_unavailable", cause=type(error).__name__)
        else:
            self._since = begun - OVERLAP_SECONDS
        if breaches:
            self._breached = since if self._breached is None else self._breached
            self._gate.close("; ".join(breaches[:3]))
        elif self._since >= begun - OVERLAP_SECONDS:
            self._breached = None
            self._gate.open()
        return tuple(breaches)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()
