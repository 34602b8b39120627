"""Jobs and their numbered events: all SQL about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import sqlalchemy as sa
import structlog
from pydantic import JsonValue
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_broker.jobs.machine import Actor, JobChange, after
from lightwork_broker.lightning.preimage import Preimage, boxed, stored
from lightwork_contracts.ids import JobId, ListingId, PaymentHash, Pubkey, QuoteId
from lightwork_contracts.money import Msat
from lightwork_contracts.status import CAPABILITIES, Acceptance, JobStatus
from lightwork_contracts.wire.jobs import JobEvent

log = structlog.stdlib.get_logger()

UNREADABLE_AT_MOST = 20
"""How many rows that cannot be read may stand before the ones that are asked for."""


class JobRow(SQLModel, table=True):
    __tablename__ = "job"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)

    id: str = Field(primary_key=True)
    status: str = Field(index=True)
    quote_id: str = Field(unique=True, foreign_key="quote.id")
    buyer: str = Field(index=True)
    provider: str = Field(index=True)
    listing_id: str
    listing_version: int
    task: str
    price_msat: int = Field(sa_type=sa.BigInteger)
    payment_hash: str = Field(unique=True)
    acceptance: str
    work_seconds: int
    review_seconds: int
    input: str
    invoice: str | None = None
    pay_by: int | None = None
    result: str | None = None
    result_hash: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    progress: float | None = None
    progress_note: str | None = None
    epoch: int = 0
    lease_until: float | None = None
    leases_lost: int = 0
    deadline: float | None = Field(default=None, index=True)
    work_deadline: float | None = None
    routing_paid_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    preimage: str | None = None
    last_event: int = 0
    created_at: float
    updated_at: float


class JobEventRow(SQLModel, table=True):
    """The append-only log of a job; triggers refuse anything but inserts."""

    __tablename__ = "job_event"  # pyright: ignore[reportAssignmentType]
    __table_args__ = ({"sqlite_autoincrement": True},)

    seq: int | None = Field(default=None, primary_key=True)
    job_id: str = Field(foreign_key="job.id", index=True)
    kind: str
    status: str
    data: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job as it was read. Amounts in msat, times in Unix seconds."""

    id: JobId
    status: JobStatus
    quote_id: QuoteId
    buyer: Pubkey
    provider: Pubkey
    listing_id: ListingId
    listing_version: int
    task: str
    price_msat: Msat
    payment_hash: PaymentHash
    acceptance: Acceptance
    work_seconds: int
    review_seconds: int
    input: str
    invoice: str | None = None
    pay_by: int | None = None
    result: str | None = None
    result_hash: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    progress: float | None = None
    progress_note: str | None = None
    epoch: int = 0
    lease_until: float | None = None
    leases_lost: int = 0
    deadline: float | None = None
    work_deadline: float | None = None
    routing_paid_msat: Msat | None = None
    preimage: Preimage | None = None
    last_event: int = 0
    created_at: float
    updated_at: float

    def __repr__(self) -> str:
        # Inputs, results and preimages are the parties' business, not the log's.
        return f"Job(id={self.id}, status={self.status})"


_job = table_of(JobRow)
_event = table_of(JobEventRow)
_FIELDS = tuple(field.name for field in fields(Job))
_INSERT = sa.insert(_job)
_GET = sa.select(_job).where(_job.c.id == sa.bindparam("the_id"))
_BY_QUOTE = sa.select(_job).where(_job.c.quote_id == sa.bindparam("the_quote"))
_UPDATE = sa.update(_job).where(_job.c.id == sa.bindparam("the_id"))
_HELD = sa.and_(
    _job.c.id == sa.bindparam("the_id"),
    _job.c.status == sa.bindparam("the_status"),
    _job.c.epoch == sa.bindparam("the_epoch"),
)
_CHANGE = sa.update(_job).where(_HELD).returning(*_job.c)
_NOTE = sa.update(_job).where(_HELD)
_INSERT_EVENT = sa.insert(_event)
_EVENTS = (
    sa.select(_event)
    .where(_event.c.job_id == sa.bindparam("the_id"), _event.c.seq > sa.bindparam("after_seq"))
    .order_by(_event.c.seq)
    .limit(sa.bindparam("most"))
)
_FUNDED = (
    sa.select(_job)
    .where(
        _job.c.provider == sa.bindparam("the_provider"),
        _job.c.status == JobStatus.FUNDED.value,
        sa.or_(_job.c.deadline.is_(None), _job.c.deadline > sa.bindparam("now")),
    )
    .order_by(_job.c.id)
    .limit(sa.bindparam("most"))
)
_ALIVE = [status.value for status in JobStatus if not CAPABILITIES[status].terminal]
_TERMINAL = [status.value for status in JobStatus if CAPABILITIES[status].terminal]
_OVERDUE = (
    sa.select(_job)
    .where(
        _job.c.status.not_in(_TERMINAL),
        sa.or_(
            sa.and_(_job.c.deadline.is_not(None), _job.c.deadline <= sa.bindparam("now")),
            sa.and_(_job.c.status == JobStatus.WORKING.value, _job.c.lease_until <= sa.bindparam("now")),
        ),
    )
    .limit(200)
)


def _read(row: Row) -> Job:
    values = dict(row)
    values["status"] = JobStatus(values["status"])
    values["acceptance"] = Acceptance(values["acceptance"])
    values["preimage"] = boxed(values["preimage"])
    return Job(**values)


def _readable(rows: Sequence[Row]) -> list[Job]:
    """Read what can be read: one bad row is one job's trouble, and must not become everybody's."""
    jobs: list[Job] = []
    for row in rows:
        try:
            jobs.append(_read(row))
        except ValueError as error:
            log.error("job.unreadable", job=row["id"], cause=type(error).__name__)
    return jobs


def _has_input(job: Job) -> bool:
    try:
        json.loads(job.input)
    except ValueError:
        log.error("job.input_unreadable", job=job.id)
        return False
    return True


def _read_event(row: Row) -> JobEvent:
    return JobEvent(
        seq=row["seq"],
        job_id=row["job_id"],
        kind=row["kind"],
        status=JobStatus(row["status"]),
        data=json.loads(row["data"]),
        at=int(row["at"]),
    )


async def insert(tx: Transaction, job: Job) -> Job:
    await tx.run(_INSERT, **{name: stored(getattr(job, name)) for name in _FIELDS})
    await append_event(tx, job.id, kind="job.quoted", status=job.status, at=job.created_at)
    return job


async def get(tx: Transaction, job_id: str) -> Job | None:
    row = await tx.one(_GET, the_id=job_id)
    return None if row is None else _read(row)


async def count_open(tx: Transaction, buyer: Pubkey | None = None) -> int:
    """Return how many jobs are not over: of one buyer, or of all."""
    statement = sa.select(sa.func.count()).select_from(_job).where(_job.c.status.in_(_ALIVE))
    if buyer is not None:
        statement = statement.where(_job.c.buyer == buyer)
    return int(await tx.value(statement))


async def oldest_unpaid(tx: Transaction, *, before: float) -> Job | None:
    """Return the job that has been open, and unpaid, for longest: since before then, and not given up yet."""
    statement = (
        sa.select(_job)
        .where(_job.c.status == JobStatus.OPEN.value, _job.c.created_at < before, _job.c.error_code.is_(None))
        .order_by(_job.c.created_at)
        .limit(1)
    )
    row = await tx.one(statement)
    return None if row is None else _read(row)


async def by_quote(tx: Transaction, quote_id: QuoteId) -> Job | None:
    row = await tx.one(_BY_QUOTE, the_quote=quote_id)
    return None if row is None else _read(row)


async def change(
    tx: Transaction,
    job: Job,
    kind: JobChange,
    *,
    actor: Actor,
    now: float,
    data: dict[str, JsonValue] | None = None,
    **values: str | int | float | Preimage | None,
) -> Job | None:
    """Take one edge of the table, if the row is still in the status and epoch that `job` was read in.

    Returns None when somebody else moved it first.

    Raises:
        WrongStatus: the table has no such edge for this actor.
    """
    target = after(job.status, kind, actor=actor)
    row = await tx.one(
        _CHANGE,
        the_id=job.id,
        the_status=job.status.value,
        the_epoch=job.epoch,
        **{name: stored(value) for name, value in values.items()},
        status=target.value,
        updated_at=now,
    )
    if row is None:
        return None
    told: dict[str, JsonValue] = {"by": actor.value, **(data or {})}
    seq = await append_event(tx, job.id, kind=f"job.{kind}", status=target, at=now, data=told)
    return replace(_read(row), last_event=seq)


async def append_event(
    tx: Transaction,
    job_id: JobId,
    *,
    kind: str,
    status: JobStatus,
    at: float,
    data: dict[str, JsonValue] | None = None,
) -> int:
    """Add one numbered event, and remember its number on the job."""
    seq = await tx.insert(
        _INSERT_EVENT, job_id=job_id, kind=kind, status=status.value, data=json.dumps(data or {}), at=at
    )
    await tx.run(_UPDATE, the_id=job_id, last_event=seq)
    return seq


async def note_progress(
    tx: Transaction,
    job: Job,
    *,
    lease_until: float,
    progress: float | None,
    note: str | None,
    now: float,
) -> bool:
    """Prolong a lease and record progress, if this epoch still holds it."""
    values: dict[str, object] = {"lease_until": lease_until, "updated_at": now}
    if progress is not None or note is not None:
        values |= {"progress": progress, "progress_note": note}
    changed = await tx.run(
        _NOTE, the_id=job.id, the_status=JobStatus.WORKING.value, the_epoch=job.epoch, **values
    )
    if changed == 1 and (progress is not None or note is not None):
        data: dict[str, JsonValue] = {"progress": progress, "note": note}
        await append_event(tx, job.id, kind="job.progress", status=job.status, at=now, data=data)
    return changed == 1


async def events(tx: Transaction, job_id: JobId, *, after_seq: int, limit: int = 100) -> list[JobEvent]:
    rows = await tx.all(_EVENTS, the_id=job_id, after_seq=after_seq, most=limit)
    return [_read_event(row) for row in rows]


async def last_event(tx: Transaction) -> int:
    """Return the number of the newest event of all jobs; 0 before the first."""
    return int(await tx.value(sa.select(sa.func.coalesce(sa.func.max(_event.c.seq), 0))))


async def events_of(tx: Transaction, party: Pubkey, *, after_seq: int, limit: int) -> list[JobEvent]:
    """Return the events of all jobs that somebody buys or sells, in their order."""
    return [_read_event(row) for row in await tx.all(_events_of(party, after_seq=after_seq, limit=limit))]


async def has_events_of(tx: Transaction, party: Pubkey, *, after_seq: int) -> bool:
    """Tell whether there is such an event, whether it can be read or not."""
    return await tx.one(_events_of(party, after_seq=after_seq, limit=1)) is not None


def _events_of(party: Pubkey, *, after_seq: int, limit: int) -> sa.Executable:
    return (
        sa.select(_event)
        .join(_job, _job.c.id == _event.c.job_id)
        .where(_event.c.seq > after_seq, sa.or_(_job.c.buyer == party, _job.c.provider == party))
        .order_by(_event.c.seq)
        .limit(limit)
    )


async def newest_event(tx: Transaction, job_id: JobId, *, kind: str) -> JobEvent | None:
    query = sa.select(_event).where(_event.c.job_id == job_id, _event.c.kind == kind)
    row = await tx.one(query.order_by(_event.c.seq.desc()).limit(1))
    return None if row is None else _read_event(row)


async def in_status(tx: Transaction, status: JobStatus) -> list[Job]:
    """Return the jobs in a status, oldest first."""
    query = sa.select(_job).where(_job.c.status == status.value).order_by(_job.c.id)
    return [_read(row) for row in await tx.all(query)]


async def funded(tx: Transaction, provider: Pubkey, *, now: float, limit: int) -> list[Job]:
    """Return the jobs that an agent may start, oldest first."""
    rows = await tx.all(_FUNDED, the_provider=provider, now=now, most=limit + UNREADABLE_AT_MOST)
    return [job for job in _readable(rows) if _has_input(job)][:limit]


async def overdue(tx: Transaction, *, now: float) -> list[Job]:
    """Return the jobs whose present status has run out of time, or whose lease has."""
    return _readable(await tx.all(_OVERDUE, now=now))


async def note_paid(tx: Transaction, job: Job, *, routing_paid_msat: Msat) -> None:
    """Record what the payout cost on the way, in msat."""
    await tx.run(_UPDATE, the_id=job.id, routing_paid_msat=routing_paid_msat)


async def note_error(tx: Transaction, job: Job, *, code: str, message: str) -> None:
    """Record why a job is about to end, for the change that will end it."""
    await tx.run(_UPDATE, the_id=job.id, error_code=code, error_message=message)


async def keep_leases(tx: Transaction, *, until: float) -> None:
    """Let no running job's lease end before `until`."""
    await tx.run(
        sa.update(_job)
        .where(_job.c.status == JobStatus.WORKING.value, _job.c.lease_until < until)
        .values(lease_until=until)
    )


async def keep_reviews(tx: Transaction, *, now: float, seconds: int) -> None:
    """Let no review end within so many seconds, or within its whole window where that is shorter."""
    least = now + sa.case((_job.c.review_seconds < seconds, _job.c.review_seconds), else_=seconds)
    await tx.run(
        sa.update(_job)
        .where(_job.c.status == JobStatus.DELIVERED.value, _job.c.deadline < least)
        .values(deadline=least)
    )


async def clear_deadline(tx: Transaction, job: Job) -> None:
    await tx.run(
        sa.update(_job).where(_job.c.id == job.id, _job.c.status == job.status.value).values(deadline=None)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """Which of somebody's jobs are wanted."""

    pubkey: Pubkey
    as_buyer: bool
    status: JobStatus | None
    after: str | None
    limit: int


async def mine(tx: Transaction, query: Mine) -> list[Job]:
    """Return one party's jobs, newest first."""
    statement = sa.select(_job).where((_job.c.buyer if query.as_buyer else _job.c.provider) == query.pubkey)
    if query.status is not None:
        statement = statement.where(_job.c.status == query.status.value)
    if query.after is not None:
        statement = statement.where(_job.c.id < query.after)
    most = query.limit + UNREADABLE_AT_MOST
    return _readable(await tx.all(statement.order_by(_job.c.id.desc()).limit(most)))[: query.limit]
