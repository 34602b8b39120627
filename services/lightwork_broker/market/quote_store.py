"""Quotes: all SQL about them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_contracts.ids import ListingId, PaymentHash, Pubkey, QuoteId


class QuoteStatus(StrEnum):
    REQUESTED = "requested"
    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"


class QuoteRow(SQLModel, table=True):
    __tablename__ = "quote"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)
    __table_args__ = (sa.UniqueConstraint("buyer", "idempotency_key", name="one_quote_per_key"),)

    id: str = Field(primary_key=True)
    status: str = Field(index=True)
    buyer: str = Field(index=True)
    provider: str = Field(index=True)
    listing_id: str
    listing_version: int
    task: str
    input: str
    input_hash: str
    max_price_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    idempotency_key: str | None = None
    request_hash: str
    answer_by: float
    handed_at: float | None = None
    refusal_code: str | None = None
    refusal: str | None = None
    price_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    fee_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    routing_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    payment_hash: str | None = Field(default=None, unique=True)
    provider_invoice: str | None = None
    outgoing_cltv_blocks: int | None = None
    event: str | None = None
    commitment: str | None = None
    expires_at: int | None = None
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One quote as it was read. Amounts in msat, times in Unix seconds."""

    id: QuoteId
    status: QuoteStatus
    buyer: Pubkey
    provider: Pubkey
    listing_id: ListingId
    listing_version: int
    task: str
    input: str
    input_hash: str
    max_price_msat: int | None = None
    idempotency_key: str | None = None
    request_hash: str
    answer_by: float
    handed_at: float | None = None
    refusal_code: str | None = None
    refusal: str | None = None
    price_msat: int | None = None
    fee_msat: int | None = None
    routing_msat: int | None = None
    payment_hash: PaymentHash | None = None
    provider_invoice: str | None = None
    outgoing_cltv_blocks: int | None = None
    event: str | None = None
    commitment: str | None = None
    expires_at: int | None = None
    created_at: float


_quote = table_of(QuoteRow)
_FIELDS = tuple(field.name for field in fields(Quote))

_INSERT = sa.insert(_quote)
_GET = sa.select(_quote).where(_quote.c.id == sa.bindparam("the_id"))
_BY_KEY = sa.select(_quote).where(
    _quote.c.buyer == sa.bindparam("the_buyer"), _quote.c.idempotency_key == sa.bindparam("the_key")
)
_BY_HASH = sa.select(_quote.c.id).where(_quote.c.payment_hash == sa.bindparam("the_hash"))
_WAITING = (
    sa.select(_quote)
    .where(
        _quote.c.provider == sa.bindparam("the_provider"),
        _quote.c.status == QuoteStatus.REQUESTED.value,
        _quote.c.answer_by > sa.bindparam("now"),
        sa.or_(_quote.c.handed_at.is_(None), _quote.c.handed_at < sa.bindparam("again_before")),
    )
    .order_by(_quote.c.id)
    .limit(64)
)
# Jobs are another room's; all that is asked of them is which quotes they stand on.
_job = sa.table("job", sa.column("quote_id"))
_IS_HIRED = sa.exists().where(_job.c.quote_id == _quote.c.id)
_NOT_HIRED = (
    sa.select(_quote.c.id)
    .where(_quote.c.id > sa.bindparam("after"), _quote.c.created_at < sa.bindparam("before"), ~_IS_HIRED)
    .order_by(_quote.c.id)
    .limit(sa.bindparam("most"))
)
_FORGET = sa.delete(_quote).where(_quote.c.id.in_(sa.bindparam("the_ids", expanding=True)), ~_IS_HIRED)
_UPDATE = sa.update(_quote).where(_quote.c.id == sa.bindparam("the_id"))
_FINISH = sa.update(_quote).where(
    _quote.c.id == sa.bindparam("the_id"), _quote.c.status == QuoteStatus.REQUESTED.value
)


def _read(row: Row) -> Quote:
    values = dict(row)
    values["status"] = QuoteStatus(values["status"])
    return Quote(**values)


async def insert(tx: Transaction, quote: Quote) -> None:
    await tx.run(_INSERT, **{name: getattr(quote, name) for name in _FIELDS})


async def get(tx: Transaction, quote_id: str) -> Quote | None:
    row = await tx.one(_GET, the_id=quote_id)
    return None if row is None else _read(row)


async def by_key(tx: Transaction, buyer: Pubkey, key: str) -> Quote | None:
    row = await tx.one(_BY_KEY, the_buyer=buyer, the_key=key)
    return None if row is None else _read(row)


async def hash_is_quoted(tx: Transaction, payment_hash: PaymentHash) -> bool:
    return await tx.value(_BY_HASH, the_hash=payment_hash) is not None


async def waiting(tx: Transaction, provider: Pubkey, *, now: float, again_before: float) -> list[Quote]:
    """Return the quotes that an agent has still to answer, oldest first."""
    rows = await tx.all(_WAITING, the_provider=provider, now=now, again_before=again_before)
    return [_read(row) for row in rows]


async def mark_handed(tx: Transaction, quote_ids: list[QuoteId], *, now: float) -> None:
    for quote_id in quote_ids:
        await tx.run(_UPDATE, the_id=quote_id, handed_at=now)


async def finish(
    tx: Transaction, quote_id: QuoteId, status: QuoteStatus, **values: str | int | float | None
) -> bool:
    """Move a requested quote to its end, once; False if it was not waiting for an answer any more."""
    return await tx.run(_FINISH, the_id=quote_id, status=status.value, **values) == 1


async def not_hired(tx: Transaction, *, after: str, before: float, most: int) -> list[QuoteId]:
    """Return ids of quotes from before a time on which there is no job, in their order."""
    rows = await tx.all(_NOT_HIRED, after=after, before=before, most=most)
    return [row["id"] for row in rows]


async def forget(tx: Transaction, quote_ids: list[QuoteId]) -> int:
    """Delete those of the quotes on which there is still no job; return how many."""
    return await tx.run(_FORGET, the_ids=quote_ids)
