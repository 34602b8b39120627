"""Comparing each job that is over with what became of its HTLCs in the channels that they came through.

An LND that is killed at the wrong moment may call an invoice settled whose HTLC its peer has back. It does not matter
here whether the channel is open or closed; what is counted on the chain of a closed one is in `chain_audit`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from lightwork_broker.chain_rules import Ended, Finding, finding_of
from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import htlc_store
from lightwork_broker.escrow.htlc_store import Lost, Over
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.closures import Closures, HtlcEnd
from lightwork_broker.lightning.ports import NodeSummary
from lightwork_contracts.ids import JobId

AT_ONCE = 16
"""Questions to the node at the same time."""
LATE_BLOCKS = 144
"""How long after its expiry an HTLC without an end is asked about: a channel that has it still is closed by then."""
KEPT_AT_ONCE = 200
"""Jobs in one transaction."""


class HtlcTeller(Closures, Protocol):
    """What is asked of a node about HTLCs."""

    async def summary(self) -> NodeSummary:
        """Return how far the node has come."""
        ...


async def check_htlcs(database: Database, node: HtlcTeller, *, now: float | None) -> tuple[Finding, ...]:
    """Ask about every job that is over and was not checked; return where node and books disagree.

    What has ended is kept, with the time `now`, and not asked again, by nobody and after no restart. With None the
    same is looked at, and nothing is written.

    Raises:
        LightningError: the node gave no answer, so nothing is known.
    """
    height = (await node.summary()).block_height
    async with database.scan() as tx:
        todo = await htlc_store.unchecked(tx, lowest=height - LATE_BLOCKS)
    checked = [one for one in await _ask(node, todo) if not _has(one, HtlcEnd.WAITING, HtlcEnd.UNASKED)]
    if now is not None:
        await _keep(database, {one.job: one.lost_msat for one in checked}, now=now)
    async with database.scan() as tx:
        known = await htlc_store.lost(tx)
        booked = await ledger.booked_on_chain(tx)
    lost = {one.id: one for one in (*known, *(Lost(one.job, one.state, one.lost_msat) for one in checked))}
    found = (
        finding_of(one.id, one.state, lost_msat=one.lost_msat, booked_msat=booked.get(one.id, 0))
        for one in lost.values()
    )
    return tuple(one for one in found if one is not None)


def merged(*groups: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return what was found in several ways, each thing once."""
    return tuple({one.subject: one for group in groups for one in group}.values())


async def ask_ends(node: Closures, jobs: Sequence[Escrow | Over]) -> list[Ended]:
    """Ask what became of the HTLCs of these jobs, of many at the same time.

    Raises:
        LightningError: the node gave no answer to one of them, so nothing is known.
    """
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(job: Escrow | Over) -> Ended:
        async with gate:
            htlcs = await node.incoming_htlcs(job.payment_hash)
        return Ended(job=job.id, state=job.state, htlcs=htlcs)

    return list(await asyncio.gather(*map(one, jobs)))


async def _ask(node: Closures, jobs: Sequence[Over]) -> list[Ended]:
    """Ask about one job, and about the others only if the node lets us."""
    first = await ask_ends(node, jobs[:1])
    if any(_has(one, HtlcEnd.UNASKED) for one in first):
        return first
    return [*first, *await ask_ends(node, jobs[1:])]


async def _keep(database: Database, lost: dict[JobId, int], *, now: float) -> None:
    left = iter(lost.items())
    while some := dict(islice(left, KEPT_AT_ONCE)):
        async with database.write() as tx:
            await htlc_store.add_checks(tx, some, now=now)


def _has(job: Ended, *ends: HtlcEnd) -> bool:
    return any(htlc.end in ends for htlc in job.htlcs)
