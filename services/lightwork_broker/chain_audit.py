"""Comparing the books with what became on the chain of channels that were closed by force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightwork_broker.chain_rules import Ended, Finding, can_change, judge
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import htlc_store
from lightwork_broker.escrow import store as escrows
from lightwork_broker.escrow.machine import TERMINAL
from lightwork_broker.htlc_audit import HtlcTeller, ask_ends
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import chain_posting
from lightwork_broker.lightning.closures import Closure
from lightwork_broker.lightning.errors import PermissionMissing
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat

BEFORE_BLOCKS = 1_008
"""How long after the expiry of an HTLC a commitment with it may still be mined: a week, for days of high fees."""
AFTER_BLOCKS = 4_032
"""How long an HTLC that was there at the closing may have had to its expiry: twice what LND's payers allow."""


@dataclass(frozen=True, slots=True)
class OnChain:
    """What is on its way on the chain, in msat, and where the chain says otherwise than the books.

    `limbo_msat` is None when the node does not let us ask; then nothing was compared.
    """

    limbo_msat: Msat | None
    channels: int = 0
    """How many channels that money comes from."""
    findings: tuple[Finding, ...] = ()
    doubts: tuple[str, ...] = ()


class ChainAudit:
    """Compares again and again; what the node has said for good is not asked again while this lives."""

    def __init__(self, database: Database, node: HtlcTeller) -> None:
        self._database = database
        self._node = node
        self._seen: frozenset[tuple[str, bool]] = frozenset()
        self._known: dict[JobId, Ended] = {}
        self._done: set[str] = set()

    async def look(self) -> OnChain:
        """Ask the node about every job whose HTLCs may have been in a channel when it was closed.

        Raises:
            LightningError: the node gave no answer, so nothing is known.
        """
        try:
            return await self._look()
        except PermissionMissing:
            return OnChain(None)

    async def _look(self) -> OnChain:
        closures = await self._node.closures()
        limbo = OnChain(
            Msat(sum(one.limbo_msat for one in closures)), sum(not one.is_over for one in closures)
        )
        # A channel that closes makes HTLCs of jobs that were well into HTLCs on the chain.
        seen = frozenset((one.point, one.is_over) for one in closures)
        if seen != self._seen:
            self._seen = seen
            self._known.clear()
        todo = [one for one in closures if one.point not in self._done]
        if not todo:
            return limbo
        height = (await self._node.summary()).block_height
        async with self._database.scan() as tx:
            found = await escrows.expiring(tx, [span_of(one, height=height) for one in todo])
            booked = await ledger.booked_on_chain(tx)
            lost = {one.id for one in await htlc_store.lost(tx)}
        over = [one for one in found if one.state in TERMINAL]
        asked = await ask_ends(self._node, [one for one in over if one.id not in self._known])
        known = [self._known[one.id] for one in over if one.id in self._known]
        judged = judge([*known, *asked], todo, booked, lost=lost)
        self._known |= {one.job: one for one in asked if not can_change(one, closures)}
        if not judged.findings and all(one.id in self._known for one in found):
            self._done |= {
                one.point for one in todo if one.height is not None and one.height + AFTER_BLOCKS < height
            }
        return OnChain(limbo.limbo_msat, limbo.channels, judged.findings, judged.doubts)


def span_of(closure: Closure, *, height: int) -> tuple[int, int]:
    """Return from which to which expiry an HTLC may have been in a channel when it was closed. Blocks."""
    # LND tells the height only when all is over, which can take as long as the commitment is locked.
    lowest = height - AFTER_BLOCKS if closure.height is None else closure.height
    highest = height if closure.height is None else closure.height
    return lowest - BEFORE_BLOCKS, highest + AFTER_BLOCKS


async def book_findings(database: Database, findings: Sequence[Finding], *, now: int) -> None:
    """Book what was found as a loss, or take it off the losses: from then on books and chain agree."""
    async with database.write() as tx:
        for found in findings:
            posting = chain_posting(found.subject, lost_msat=found.lost_msat, booked_msat=found.booked_msat)
            await ledger.post(tx, posting, now=now)
