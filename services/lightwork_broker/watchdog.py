"""Looks at the books again and again while the broker runs, and stops payouts when something is wrong."""

from __future__ import annotations

import asyncio

import structlog

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.audit import audit, compare_with_node
from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.payout_gate import PayoutGate

log = structlog.stdlib.get_logger()

OVERLAP_SECONDS = 60.0
"""What ended this long before the last look is looked at again: it may have been committed after it."""
FIRST_SECONDS = 3_600.0
"""How far back the very first look goes: an upgrade must not take longer for all that was ever done."""


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

    async def look(self) -> tuple[str, ...]:
        """Look once; return what is wrong. A node that gives no answer is no breach, and heals none.

        After a breach everything since then is looked at again, so the gate opens only when it has healed. What was
        looked at is remembered in the database: neither a restart nor another broker beside this one forgets it.
        """
        begun = self._clock.now()
        async with self._database.read() as tx:
            mark = await ledger.watch_mark(tx) or ledger.WatchMark(begun - FIRST_SECONDS)
        # A clock that ran ahead has left a mark in the future, which says nothing.
        compared = mark.compared_until if mark.compared_until <= begun else begun - FIRST_SECONDS
        since = min(compared, mark.breached_since or compared)
        breaches = list((await audit(self._database)).breaches)
        complete = False
        try:
            seen = await compare_with_node(self._database, self._node, since=since)
        except LightningError as error:
            log.warning("watchdog.node_unavailable", cause=type(error).__name__)
        else:
            breaches += seen.breaches
            complete = not seen.unanswered
        if breaches:
            self._gate.close("; ".join(breaches[:3]))
        elif complete:
            self._gate.open()
        elif mark.breached_since is not None and not self._gate.is_closed:
            self._gate.close("what was wrong before the start could not be looked at again")
        breached_since = mark.breached_since
        if breaches:
            breached_since = since if breached_since is None else breached_since
        elif complete:
            breached_since = None
        until = max(compared, begun - OVERLAP_SECONDS) if complete else compared
        async with self._database.write() as tx:
            await ledger.set_watch_mark(tx, ledger.WatchMark(until, breached_since))
        return tuple(breaches)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()


async def acknowledge(database: Database, *, now: float) -> None:
    """Let what was found so far be known: from now on only what ends later is compared, and withdrawals go on."""
    async with database.write() as tx:
        await withdrawals.resume(tx)
        await ledger.set_watch_mark(tx, ledger.WatchMark(now))
