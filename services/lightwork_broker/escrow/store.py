"""The escrow table and its event log: all SQL about wrapped hold invoices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import sqlalchemy as sa
from pydantic import JsonValue
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_broker.errors import IllegalTransition
from lightwork_broker.escrow.machine import TERMINAL, EscrowEvent, EscrowState, after
from lightwork_broker.lightning.preimage import Preimage, boxed, stored
from lightwork_contracts.ids import JobId, PaymentHash, Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat


class EscrowRow(SQLModel, table=True):
    """One wrapped hold invoice. Its id is the id of the job that it guards."""

    __tablename__ = "escrow"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)
    __table_args__ = (
        sa.CheckConstraint("total_msat = price_msat + fee_msat + routing_msat", name="total_is_the_sum"),
        sa.CheckConstraint(
            "price_msat > 0 AND fee_msat >= 0 AND routing_msat >= 0", name="no_negative_money"
        ),
        sa.CheckConstraint(
            "state NOT IN ('forwarded', 'settled', 'lost') OR preimage IS NOT NULL",
            name="paid_means_preimage",
        ),
        sa.CheckConstraint(
            "routing_paid_msat IS NULL OR routing_paid_msat >= 0", name="routing_not_negative"
        ),
    )

    id: str = Field(primary_key=True)
    state: str = Field(index=True)
    payment_hash: str = Field(unique=True)
    price_msat: int = Field(sa_type=sa.BigInteger)
    fee_msat: int = Field(sa_type=sa.BigInteger)
    routing_msat: int = Field(sa_type=sa.BigInteger)
    total_msat: int = Field(sa_type=sa.BigInteger)
    provider_invoice: str
    hold_invoice: str | None = None
    hold_cltv_blocks: int
    outgoing_cltv_blocks: int
    forward_seconds: int
    memo: str
    pay_by: int
    accepted_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    min_expiry_height: int | None = Field(default=None, index=True)
    release_by: int | None = Field(default=None, index=True)
    refund_by: int | None = None
    attempts: int = 0
    intended_at: float | None = None
    retry_at: float = 0
    forward_by: int | None = None
    failure: str | None = None
    reason: str | None = None
    preimage: str | None = None
    routing_paid_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    unknown_since: int | None = None
    unseen_since: float | None = None
    credited_to: str | None = Field(default=None, index=True)
    credit_seed: str | None = None
    created_at: float
    updated_at: float


class EscrowEventRow(SQLModel, table=True):
    """The append-only log of an escrow's changes of state; triggers refuse anything but inserts."""

    __tablename__ = "escrow_event"  # pyright: ignore[reportAssignmentType]

    seq: int | None = Field(default=None, primary_key=True)
    escrow_id: str = Field(foreign_key="escrow.id", index=True)
    event: str
    from_state: str | None
    to_state: str
    data: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Escrow:
    """One escrow as it was read. Amounts in msat, heights in blocks, times in Unix seconds.

    `provider_invoice` is empty in credit mode.
    """

    id: JobId
    state: EscrowState
    payment_hash: PaymentHash
    price_msat: Msat
    fee_msat: Msat
    routing_msat: Msat
    total_msat: Msat
    provider_invoice: str
    hold_invoice: str | None = None
    hold_cltv_blocks: int
    outgoing_cltv_blocks: int
    forward_seconds: int
    memo: str
    pay_by: int
    accepted_msat: Msat | None = None
    min_expiry_height: int | None = None
    release_by: int | None = None
    refund_by: int | None = None
    attempts: int = 0
    intended_at: float | None = None
    retry_at: float = 0
    forward_by: int | None = None
    failure: str | None = None
    reason: str | None = None
    preimage: Preimage | None = None
    routing_paid_msat: Msat | None = None
    unknown_since: int | None = None
    unseen_since: float | None = None
    credited_to: Pubkey | None = None
    """Whom the broker owes the price once it is settled; None unless this is a job in credit mode."""
    credit_seed: str | None = None
    """What the broker's own preimage is derived from, together with its key; None as above."""
    created_at: float
    updated_at: float

    @property
    def mode(self) -> PaymentMode:
        """How the provider is paid."""
        return PaymentMode.ESCROW if self.credited_to is None else PaymentMode.CREDIT

    @property
    def repeated_at(self) -> float:
        """When the call of the present attempt to pay was made a second time; 0 if it was not."""
        return self.retry_at if self.state is EscrowState.FORWARDING else 0

    def learned_preimage(self) -> Preimage:
        """Return the preimage that the payout brought.

        Raises:
            IllegalTransition: the provider is not paid.
        """
        if self.preimage is None:
            raise IllegalTransition(f"escrow {self.id} is forwarded without a preimage")
        return self.preimage

    def __repr__(self) -> str:
        # Who is paid how much is nobody else's business, and no log's.
        return f"Escrow(id={self.id}, state={self.state})"


Value = str | int | float | Preimage | None
"""What a column of an escrow may be set to."""

_escrow = table_of(EscrowRow)
_event = table_of(EscrowEventRow)
_ENDS = sorted(state.value for state in TERMINAL)
_ALIVE = sa.or_(
    _escrow.c.state < _ENDS[0],
    *(sa.and_(_escrow.c.state > one, _escrow.c.state < other) for one, other in pairwise(_ENDS)),
    _escrow.c.state > _ENDS[-1],
)
"""What is at no end, with rows whose state is none. In spans, which the index finds: `NOT IN` would read all rows."""
FARTHEST_SECONDS = 120.0
_FIELDS = tuple(field.name for field in fields(Escrow))

_INSERT = sa.insert(_escrow)
_GET = sa.select(_escrow).where(_escrow.c.id == sa.bindparam("the_id"))
_BY_HASH = sa.select(_escrow.c.id).where(_escrow.c.payment_hash == sa.bindparam("the_hash"))
_IN_STATE = sa.and_(
    _escrow.c.id == sa.bindparam("the_id"),
    _escrow.c.state == sa.bindparam("the_state"),
    # An answer to an earlier attempt to pay says nothing of the present one.
    _escrow.c.attempts == sa.bindparam("the_attempt"),
)
_CHANGE = sa.update(_escrow).where(_IN_STATE).returning(*_escrow.c)
_NOTE = sa.update(_escrow).where(_IN_STATE)
_DUE = sa.select(_escrow.c.id).where(
    _escrow.c.state == EscrowState.RELEASING.value,
    # A retry further away than any wait of ours was set by a clock that has been put back since.
    sa.or_(_escrow.c.retry_at <= sa.bindparam("now"), _escrow.c.retry_at > sa.bindparam("farthest")),
)
_INSERT_EVENT = sa.insert(_event)


def _read(row: Row) -> Escrow:
    values = dict(row)
    values["state"] = EscrowState(values["state"])
    values["preimage"] = boxed(values["preimage"])
    return Escrow(**values)


async def insert(tx: Transaction, escrow: Escrow) -> None:
    """Add the intent row, payment hash included, before anything is asked of the node."""
    values = {name: stored(getattr(escrow, name)) for name in _FIELDS}
    await tx.run(_INSERT, **values)
    await _log(tx, escrow_id=escrow.id, event="created", before=None, to=escrow.state, at=escrow.created_at)


async def get(tx: Transaction, escrow_id: JobId) -> Escrow | None:
    row = await tx.one(_GET, the_id=escrow_id)
    return None if row is None else _read(row)


async def hash_is_used(tx: Transaction, payment_hash: PaymentHash) -> bool:
    """Tell whether a payment hash guards any escrow, ended ones included (W3)."""
    return await tx.value(_BY_HASH, the_hash=payment_hash) is not None


async def change(
    tx: Transaction,
    escrow: Escrow,
    event: EscrowEvent,
    *,
    now: float,
    data: dict[str, JsonValue] | None = None,
    **values: Value,
) -> Escrow | None:
    """Take one edge of the table, if the row is still in the state and attempt that `escrow` was read in.

    Returns None when somebody else moved it first.

    Raises:
        IllegalTransition: the table has no such edge.
    """
    target = after(escrow.state, event, mode=escrow.mode)
    row = await tx.one(
        _CHANGE,
        the_id=escrow.id,
        the_state=escrow.state.value,
        the_attempt=escrow.attempts,
        **{name: stored(value) for name, value in values.items()},
        state=target.value,
        updated_at=now,
    )
    if row is None:
        return None
    await _log(tx, escrow_id=escrow.id, event=event, before=escrow.state, to=target, at=now, data=data)
    return _read(row)


async def note(tx: Transaction, escrow: Escrow, **values: str | int | float | None) -> bool:
    """Record facts about an escrow without changing its state, if it is still in that state and attempt."""
    changed = await tx.run(
        _NOTE, the_id=escrow.id, the_state=escrow.state.value, the_attempt=escrow.attempts, **values
    )
    return changed == 1


async def unfinished(tx: Transaction, *states: EscrowState) -> list[JobId]:
    """Return the ids of every escrow that is not at its end, or of those in the given states."""
    clause = _escrow.c.state.in_([state.value for state in states]) if states else _ALIVE
    return sorted(row["id"] for row in await tx.all(sa.select(_escrow.c.id).where(clause)))


async def promised(tx: Transaction, *, since: float) -> int:
    """Return how many escrows that were opened since then nobody has paid yet."""
    states = [EscrowState.CREATED.value, EscrowState.OPEN.value]
    clause = sa.and_(_escrow.c.state.in_(states), _escrow.c.created_at > since)
    return int(await tx.value(sa.select(sa.func.count()).where(clause)))


async def due(tx: Transaction, *, now: float) -> list[JobId]:
    """Return the escrows whose next step waits for a time that has come."""
    return [row["id"] for row in await tx.all(_DUE, now=now, farthest=now + FARTHEST_SECONDS)]


async def out_of_blocks(tx: Transaction, *, height: int) -> list[JobId]:
    """Return the held escrows whose last safe height for a payout has come."""
    clause = sa.and_(_escrow.c.state == EscrowState.ACCEPTED.value, _escrow.c.release_by <= height)
    return [row["id"] for row in await tx.all(sa.select(_escrow.c.id).where(clause))]


async def close_to_expiry(tx: Transaction, *, height: int) -> list[JobId]:
    """Return the escrows whose payout or settlement is still open although the HTLC should be gone by now."""
    late = (
        EscrowState.FORWARDING,
        EscrowState.FORWARDED,
        EscrowState.EXPOSED,
        EscrowState.SETTLING,
        EscrowState.CANCELING,
    )
    clause = sa.and_(_escrow.c.state.in_([state.value for state in late]), _escrow.c.refund_by <= height)
    return [row["id"] for row in await tx.all(sa.select(_escrow.c.id).where(clause))]


async def paid_out_not_settled(tx: Transaction) -> list[JobId]:
    """Return the escrows between the payout and the settlement, whose ledger account is not zero."""
    return await unfinished(tx, EscrowState.FORWARDED)


async def credit_under_way(tx: Transaction, provider: Pubkey | None = None) -> int:
    """Return the prices of the jobs in credit mode that are not over, in msat: what may still be owed.

    Without a provider, of all of them.
    """
    whose = _escrow.c.credited_to.is_not(None) if provider is None else _escrow.c.credited_to == provider
    total = await tx.value(
        sa.select(sa.func.coalesce(sa.func.sum(_escrow.c.price_msat), 0)).where(whose, _ALIVE)
    )
    return int(total)


@dataclass(frozen=True, slots=True)
class Counts:
    unfinished: int
    unknown: int


async def count(tx: Transaction) -> Counts:
    row = await tx.one(
        sa.select(
            sa.func.count().label("unfinished"), sa.func.count(_escrow.c.unknown_since).label("unknown")
        ).where(_ALIVE)
    )
    return Counts(row["unfinished"], row["unknown"]) if row else Counts(0, 0)


async def unknown_before(tx: Transaction, *, before: int) -> dict[JobId, int]:
    """Return the unfinished escrows whose outcome is unknown since then or longer, and since when."""
    clause = sa.and_(_ALIVE, _escrow.c.unknown_since <= before)
    rows = await tx.all(sa.select(_escrow.c.id, _escrow.c.unknown_since).where(clause))
    return {row["id"]: row["unknown_since"] for row in rows}


async def nothing_open(tx: Transaction) -> bool:
    """Tell whether every escrow is at its end."""
    return (await count(tx)).unfinished == 0


async def ended(tx: Transaction, *, since: float) -> list[Escrow]:
    """Return every escrow that has ended since then."""
    terminal = [state.value for state in TERMINAL]
    clause = sa.and_(_escrow.c.state.in_(terminal), _escrow.c.updated_at > since)
    return [_read(row) for row in await tx.all(sa.select(_escrow).where(clause))]


async def expiring(tx: Transaction, spans: Sequence[tuple[int, int]]) -> list[Escrow]:
    """Return every escrow whose lowest HTLC expired, or will, at a height within one of the spans, ends included."""
    within = [_escrow.c.min_expiry_height.between(lowest, highest) for lowest, highest in spans]
    return [_read(row) for row in await tx.all(sa.select(_escrow).where(sa.or_(sa.false(), *within)))]


async def history(tx: Transaction, escrow_id: JobId) -> Sequence[Row]:
    """Return the escrow's log, oldest first."""
    return await tx.all(sa.select(_event).where(_event.c.escrow_id == escrow_id).order_by(_event.c.seq))


async def _log(
    tx: Transaction,
    *,
    escrow_id: JobId,
    event: str,
    before: EscrowState | None,
    to: EscrowState,
    at: float,
    data: dict[str, JsonValue] | None = None,
) -> None:
    await tx.run(
        _INSERT_EVENT,
        escrow_id=escrow_id,
        event=event,
        from_state=None if before is None else before.value,
        to_state=to.value,
        data=json.dumps(data or {}),
        at=at,
    )
