"""Looks at the books again and again while the broker runs, and stops payouts when something is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.audit import audit, compare_with_node
from lightwork_broker.chain_audit import ChainAudit, book_findings
from lightwork_broker.chain_rules import Finding
from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database
from lightwork_broker.htlc_audit import check_htlcs, merged
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
        self._chain = ChainAudit(database, node)
        self._chain_is_told = True
        self._doubts: frozenset[str] = frozenset()

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
        seen, complete = await self._ask(since=since)
        breaches += seen
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

    async def _ask(self, *, since: float) -> tuple[list[str], bool]:
        """Return what the node says otherwise, and whether it has answered everything."""
        breaches: list[str] = []
        complete = True
        try:
            seen = await compare_with_node(self._database, self._node, since=since)
            breaches += seen.breaches
            complete = not seen.unanswered
        except LightningError as error:
            complete = False
            log.warning("watchdog.node_unavailable", cause=type(error).__name__)
        try:
            breaches += await self._look_at_htlcs()
        except LightningError as error:
            complete = False
            log.warning("watchdog.chain_unavailable", cause=type(error).__name__)
        return breaches, complete

    async def _look_at_htlcs(self) -> list[str]:
        """Return where HTLCs ended otherwise; what cannot be asked or told is no breach, and is said once."""
        chain = await self._chain.look()
        if chain.limbo_msat is None and self._chain_is_told:
            log.warning("watchdog.chain_not_compared", missing="ClosedChannels, PendingChannels")
        self._chain_is_told = chain.limbo_msat is not None
        for doubt in sorted(frozenset(chain.doubts) - self._doubts):
            log.warning("watchdog.chain_not_clear", what=doubt)
        self._doubts = frozenset(chain.doubts)
        if not self._chain_is_told:
            return []
        found = await check_htlcs(self._database, self._node, now=self._clock.now())
        return [one.text for one in merged(found, chain.findings)]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()


async def acknowledge(database: Database, *, now: float, findings: Sequence[Finding] = ()) -> None:
    """Let what was found so far be known: from now on only what ends later is compared, and withdrawals go on.

    What the chain says otherwise is booked, so that the books say the same from then on.
    """
    await book_findings(database, findings, now=int(now))
    async with database.write() as tx:
        await withdrawals.resume(tx, now=now)
        await ledger.set_watch_mark(tx, ledger.WatchMark(now))
