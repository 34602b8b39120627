"""What the operator has to rule on: each disputed job, with what was asked, delivered and objected to."""

from __future__ import annotations

from dataclasses import dataclass

from lightwork_broker.db.engine import Database
from lightwork_broker.escrow import store as escrows
from lightwork_broker.jobs import store
from lightwork_contracts.status import JobStatus


@dataclass(frozen=True, slots=True)
class Dispute:
    """One disputed job. Price in msat; at the height `back_at` the HTLC goes back to the buyer by itself.

    `input` and `result` are JSON, as they were stored.
    """

    job: str
    task: str
    price_msat: int
    buyer: str
    provider: str
    input: str
    result: str
    reason: str
    back_at: int | None


async def open_disputes(database: Database) -> list[Dispute]:
    """Return the jobs that wait for a ruling, oldest first."""
    async with database.scan() as tx:
        found: list[Dispute] = []
        for job in await store.in_status(tx, JobStatus.DISPUTED):
            reason = await store.newest_event(tx, job.id, kind="job.rejected")
            escrow = await escrows.get(tx, job.id)
            found.append(
                Dispute(
                    job=job.id,
                    task=job.task,
                    price_msat=job.price_msat,
                    buyer=job.buyer,
                    provider=job.provider,
                    input=job.input,
                    result=job.result or "null",
                    reason=str(reason.data.get("reason", "")) if reason else "",
                    back_at=escrow.release_by if escrow else None,
                )
            )
    return found
