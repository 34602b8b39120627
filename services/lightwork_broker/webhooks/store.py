"""Webhooks, and how far each has come in the event log: all SQL about them.

The jobs' event log is the outbox: an event is written in the transaction that it tells of, and is never changed. What
a webhook has still to send is every event of its owner's jobs behind its cursor.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_broker.jobs import store as jobs
from lightwork_contracts.ids import Pubkey, WebhookId
from lightwork_contracts.secret_text import Secret
from lightwork_contracts.wire.jobs import JobEvent


class WebhookRow(SQLModel, table=True):
    __tablename__ = "webhook"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)

    id: str = Field(primary_key=True)
    owner: str = Field(index=True)
    url: str
    secret: str
    cursor: int
    tries: int = 0
    failing_since: float | None = None
    last_error: str | None = None
    retry_at: float = 0
    lease_until: float = 0
    disabled: bool = False
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One webhook as it was read. Times in Unix seconds."""

    id: WebhookId
    owner: Pubkey
    url: str
    secret: Secret[str]
    cursor: int
    """The number of the last event that was sent, or is none of its owner's."""
    tries: int = 0
    """How often the next event was tried in vain."""
    failing_since: float | None = None
    last_error: str | None = None
    retry_at: float = 0
    lease_until: float = 0
    """Until when a broker is sending for it."""
    disabled: bool = False
    created_at: float

    def __repr__(self) -> str:
        # What may be secret in a URL must not reach a log through a stray repr.
        return f"Webhook(id={self.id})"


_webhook = table_of(WebhookRow)
_FIELDS = tuple(field.name for field in fields(Webhook))


def _read(row: Row) -> Webhook:
    values = dict(row)
    values["secret"] = Secret(values["secret"])
    return Webhook(**values)


async def add(tx: Transaction, webhook: Webhook) -> None:
    values = {name: getattr(webhook, name) for name in _FIELDS}
    await tx.run(sa.insert(_webhook), **{**values, "secret": webhook.secret.reveal()})


async def of_owner(tx: Transaction, owner: Pubkey) -> list[Webhook]:
    """Return an owner's webhooks, oldest first."""
    query = sa.select(_webhook).where(_webhook.c.owner == owner).order_by(_webhook.c.id)
    return [_read(row) for row in await tx.all(query)]


async def remove(tx: Transaction, owner: Pubkey, webhook_id: str) -> bool:
    """Remove one of an owner's webhooks; False if it has none of that id."""
    clause = sa.and_(_webhook.c.owner == owner, _webhook.c.id == webhook_id)
    return await tx.run(sa.delete(_webhook).where(clause)) == 1


@dataclass(frozen=True, slots=True)
class Farthest:
    """How far in the future a retry and a lease can lie; further away, a clock has been put back since."""

    retry_at: float
    lease_until: float


async def due(tx: Transaction, *, now: float, farthest: Farthest, newest: int) -> list[Webhook]:
    """Return the webhooks that may have something to send and are sent for by nobody; who waits longest is first."""
    retry_at, lease_until = _webhook.c.retry_at, _webhook.c.lease_until
    query = sa.select(_webhook).where(
        _webhook.c.disabled.is_(False),
        _webhook.c.cursor < newest,
        sa.or_(retry_at <= now, retry_at > farthest.retry_at),
        sa.or_(lease_until <= now, lease_until > farthest.lease_until),
    )
    return [_read(row) for row in await tx.all(query.order_by(retry_at, _webhook.c.id).limit(200))]


async def skip(tx: Transaction, webhooks: list[Webhook], *, to: int, now: float) -> None:
    """Move webhooks past events that are not their owners', and to the end of the line."""
    for webhook in webhooks:
        clause = sa.and_(
            _webhook.c.id == webhook.id,
            _webhook.c.cursor == webhook.cursor,
            _webhook.c.lease_until == webhook.lease_until,
        )
        await tx.run(sa.update(_webhook).where(clause).values(cursor=to, retry_at=now))


async def lease(tx: Transaction, webhook: Webhook, *, until: float) -> Webhook | None:
    """Make this broker the one that sends for a webhook, and return the webhook as it holds it.

    None: somebody has become it meanwhile.
    """
    clause = sa.and_(
        _webhook.c.id == webhook.id,
        _webhook.c.lease_until == webhook.lease_until,
        # Another broker may have sent, or tried in vain, and be done, since this one looked.
        _webhook.c.cursor == webhook.cursor,
        _webhook.c.retry_at == webhook.retry_at,
    )
    leased = await tx.run(sa.update(_webhook).where(clause).values(lease_until=until))
    return replace(webhook, lease_until=until) if leased else None


def _held(webhook: Webhook) -> sa.ColumnElement[bool]:
    """A lease is told by its end: whoever takes one over that has run out sets another."""
    return sa.and_(_webhook.c.id == webhook.id, _webhook.c.lease_until == webhook.lease_until)


async def advance(tx: Transaction, webhook: Webhook, *, to: int, until: float) -> Webhook | None:
    """Record that everything up to an event was sent, prolong the lease, and return the webhook as it is then.

    None: the webhook was removed, or another broker sends for it. The cursor never goes back.
    """
    clause = sa.and_(_held(webhook), _webhook.c.cursor < to)
    sent = {"cursor": to, "tries": 0, "failing_since": None, "last_error": None, "lease_until": until}
    moved = await tx.run(sa.update(_webhook).where(clause).values(**sent))
    return (
        replace(webhook, cursor=to, tries=0, failing_since=None, last_error=None, lease_until=until)
        if moved
        else None
    )


async def fail(tx: Transaction, webhook: Webhook, **values: float | int | str | bool | None) -> bool:
    """Record a try in vain, and let the next one begin by its own time; False if this broker's lease is gone."""
    return await tx.run(sa.update(_webhook).where(_held(webhook)).values(lease_until=0, **values)) == 1


async def release(tx: Transaction, webhook: Webhook, *, now: float) -> None:
    """End the lease, unless it is gone already, and go to the end of the line."""
    await tx.run(sa.update(_webhook).where(_held(webhook)).values(lease_until=0, retry_at=now))


async def last_event(tx: Transaction) -> int:
    """Return the number of the newest event of all jobs."""
    return await jobs.last_event(tx)


async def has_news(tx: Transaction, webhook: Webhook) -> bool:
    """Tell whether there is an event to send, without reading it."""
    return await jobs.has_events_of(tx, webhook.owner, after_seq=webhook.cursor)


async def events(tx: Transaction, webhook: Webhook, *, after: int, limit: int) -> list[JobEvent]:
    """Return the events of the owner's jobs, bought or sold, in their order."""
    return await jobs.events_of(tx, webhook.owner, after_seq=after, limit=limit)
