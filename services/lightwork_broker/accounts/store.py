"""Withdrawals and their event log: all SQL about them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.accounts.machine import WithdrawalEvent, after
from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_broker.lightning.preimage import Preimage, boxed, stored
from lightwork_contracts.ids import PaymentHash, Pubkey, WithdrawalId
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.accounts import WithdrawalStatus


class WithdrawalRow(SQLModel, table=True):
    """One withdrawal: the intent and its payment hash are there before the node is asked for anything."""

    __tablename__ = "withdrawal"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)
    __table_args__ = (
        sa.UniqueConstraint("agent", "idempotency_key", name="one_withdrawal_per_key"),
        sa.CheckConstraint("amount_msat > 0 AND max_fee_msat >= 0", name="withdrawal_amounts"),
        sa.CheckConstraint(
            "(status = 'paid') = (preimage IS NOT NULL) AND (status = 'paid') = (fee_paid_msat IS NOT NULL)",
            name="paid_means_proof",
        ),
    )

    id: str = Field(primary_key=True)
    agent: str = Field(index=True)
    status: str = Field(index=True)
    payment_hash: str = Field(unique=True)
    invoice: str
    amount_msat: int = Field(sa_type=sa.BigInteger)
    max_fee_msat: int = Field(sa_type=sa.BigInteger)
    fee_paid_msat: int | None = Field(default=None, sa_type=sa.BigInteger)
    preimage: str | None = None
    failure: str | None = None
    idempotency_key: str | None = None
    called_at: float | None = None
    unseen_since: float | None = None
    unknown_since: int | None = None
    created_at: float
    updated_at: float


class WithdrawalEventRow(SQLModel, table=True):
    """The append-only log of a withdrawal; triggers refuse anything but inserts."""

    __tablename__ = "withdrawal_event"  # pyright: ignore[reportAssignmentType]

    seq: int | None = Field(default=None, primary_key=True)
    withdrawal_id: str = Field(foreign_key="withdrawal.id", index=True)
    event: str
    status: str
    at: float


class WithdrawalStopRow(SQLModel, table=True):
    """Why no withdrawal is taken on, if there is such a row: a person has to look first."""

    __tablename__ = "withdrawal_stop"  # pyright: ignore[reportAssignmentType]

    id: int = Field(primary_key=True)
    reason: str
    at: float


class UnknownPaymentRow(SQLModel, table=True):
    """A payment of the node that this database knew nothing of; once a person has looked into it, it stops nothing."""

    __tablename__ = "unknown_payment"  # pyright: ignore[reportAssignmentType]

    payment_hash: str = Field(primary_key=True)
    found_at: float
    acknowledged_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One withdrawal as it was read. Amounts in msat, times in Unix seconds."""

    id: WithdrawalId
    agent: Pubkey
    status: WithdrawalStatus
    payment_hash: PaymentHash
    invoice: str
    amount_msat: Msat
    max_fee_msat: Msat
    fee_paid_msat: Msat | None = None
    preimage: Preimage | None = None
    failure: str | None = None
    idempotency_key: str | None = None
    called_at: float | None = None
    """When the node was asked to pay, or somebody decided to; None before that."""
    unseen_since: float | None = None
    unknown_since: int | None = None
    created_at: float
    updated_at: float

    @property
    def reserved_msat(self) -> int:
        """Return what is set aside for it while it is under way."""
        return self.amount_msat + self.max_fee_msat

    def __repr__(self) -> str:
        # Who is paid how much is nobody else's business, and no log's.
        return f"Withdrawal(id={self.id}, status={self.status})"


_withdrawal = table_of(WithdrawalRow)
_event = table_of(WithdrawalEventRow)
_stop = table_of(WithdrawalStopRow)
_unknown = table_of(UnknownPaymentRow)
_FIELDS = tuple(field.name for field in fields(Withdrawal))
_PAYING = WithdrawalStatus.PAYING.value


def _read(row: Row) -> Withdrawal:
    values = dict(row)
    values["status"] = WithdrawalStatus(values["status"])
    values["preimage"] = boxed(values["preimage"])
    return Withdrawal(**values)


async def insert(tx: Transaction, withdrawal: Withdrawal) -> None:
    """Add the intent row."""
    await tx.run(sa.insert(_withdrawal), **{name: stored(getattr(withdrawal, name)) for name in _FIELDS})
    await _log(tx, withdrawal.id, event="asked", status=withdrawal.status, at=withdrawal.created_at)


async def get(tx: Transaction, withdrawal_id: str) -> Withdrawal | None:
    row = await tx.one(sa.select(_withdrawal).where(_withdrawal.c.id == withdrawal_id))
    return None if row is None else _read(row)


async def by_key(tx: Transaction, agent: Pubkey, key: str) -> Withdrawal | None:
    row = await tx.one(
        sa.select(_withdrawal).where(_withdrawal.c.agent == agent, _withdrawal.c.idempotency_key == key)
    )
    return None if row is None else _read(row)


async def of_agent(tx: Transaction, agent: Pubkey, *, before: str | None, limit: int) -> list[Withdrawal]:
    """Return an agent's withdrawals, newest first."""
    statement = sa.select(_withdrawal).where(_withdrawal.c.agent == agent)
    if before is not None:
        statement = statement.where(_withdrawal.c.id < before)
    return [_read(row) for row in await tx.all(statement.order_by(_withdrawal.c.id.desc()).limit(limit))]


async def under_way(tx: Transaction, agent: Pubkey | None = None) -> list[Withdrawal]:
    """Return every withdrawal whose outcome is open, oldest first."""
    statement = sa.select(_withdrawal).where(_withdrawal.c.status == _PAYING)
    if agent is not None:
        statement = statement.where(_withdrawal.c.agent == agent)
    return [_read(row) for row in await tx.all(statement.order_by(_withdrawal.c.id))]


async def ended(tx: Transaction, *, since: float) -> list[Withdrawal]:
    """Return every withdrawal that has ended since then."""
    clause = sa.and_(_withdrawal.c.status != _PAYING, _withdrawal.c.updated_at > since)
    return [_read(row) for row in await tx.all(sa.select(_withdrawal).where(clause))]


async def taken_since(tx: Transaction, *, agent: Pubkey | None, since: float) -> int:
    """Return what has left since then or may still, routing included, in msat: of one agent, or of all.

    Routing counts: whoever owns the last channel of a route is paid by its fee.
    """
    clause = sa.and_(_withdrawal.c.created_at > since, _withdrawal.c.status != WithdrawalStatus.FAILED.value)
    if agent is not None:
        clause = sa.and_(clause, _withdrawal.c.agent == agent)
    fee = sa.func.coalesce(_withdrawal.c.fee_paid_msat, _withdrawal.c.max_fee_msat)
    total = sa.func.coalesce(sa.func.sum(_withdrawal.c.amount_msat + fee), 0)
    return int(await tx.value(sa.select(total).where(clause)))


async def count_since(tx: Transaction, agent: Pubkey, *, since: float) -> int:
    """Return how many withdrawals an agent has asked for since then, whatever became of them."""
    clause = sa.and_(_withdrawal.c.agent == agent, _withdrawal.c.created_at > since)
    return int(await tx.value(sa.select(sa.func.count()).select_from(_withdrawal).where(clause)))


async def stopped(tx: Transaction) -> str | None:
    """Return why no withdrawal is taken on, or None."""
    return await tx.value(sa.select(_stop.c.reason).where(_stop.c.id == 1))


async def stop(tx: Transaction, *, reason: str, unknown: Collection[PaymentHash], now: float) -> None:
    """Take on no withdrawal until `resume`, for payments that the database does not know; the newest reason stays."""
    await tx.run(sa.delete(_stop))
    await tx.run(sa.insert(_stop).values(id=1, reason=reason, at=now))
    for payment_hash in unknown:
        known = sa.select(_unknown.c.payment_hash).where(_unknown.c.payment_hash == payment_hash)
        if await tx.value(known) is None:
            await tx.run(sa.insert(_unknown).values(payment_hash=payment_hash, found_at=now))


async def resume(tx: Transaction, *, now: float) -> None:
    """Take on withdrawals again: what they were stopped for is acknowledged, and what is found later is not."""
    await tx.run(sa.delete(_stop))
    clause = _unknown.c.acknowledged_at.is_(None)
    await tx.run(sa.update(_unknown).where(clause).values(acknowledged_at=now))


async def is_acknowledged(tx: Transaction, payment_hash: PaymentHash) -> bool:
    """Tell whether a person has looked into a payment that this database knew nothing of."""
    clause = sa.and_(_unknown.c.payment_hash == payment_hash, _unknown.c.acknowledged_at.is_not(None))
    return await tx.value(sa.select(_unknown.c.payment_hash).where(clause)) is not None


async def take_call(tx: Transaction, withdrawal: Withdrawal, *, now: float) -> bool:
    """Make this caller the one that asks the node to pay: true once per withdrawal."""
    clause = sa.and_(
        _withdrawal.c.id == withdrawal.id,
        _withdrawal.c.status == _PAYING,
        _withdrawal.c.called_at.is_(None),
    )
    return await tx.run(sa.update(_withdrawal).where(clause).values(called_at=now, updated_at=now)) == 1


async def note(tx: Transaction, withdrawal: Withdrawal, **values: float | int | None) -> None:
    """Record what is not known of a withdrawal that is under way."""
    clause = sa.and_(_withdrawal.c.id == withdrawal.id, _withdrawal.c.status == _PAYING)
    await tx.run(sa.update(_withdrawal).where(clause).values(**values))


async def change(
    tx: Transaction,
    withdrawal: Withdrawal,
    event: WithdrawalEvent,
    *,
    now: float,
    **values: str | int | Preimage | None,
) -> Withdrawal | None:
    """Take one edge of the table, if nobody else has; None if somebody did.

    Raises:
        IllegalTransition: the table has no such edge.
    """
    target = after(withdrawal.status, event)
    row = await tx.one(
        sa.update(_withdrawal)
        .where(_withdrawal.c.id == withdrawal.id, _withdrawal.c.status == withdrawal.status.value)
        .values(
            status=target.value,
            updated_at=now,
            unseen_since=None,
            unknown_since=None,
            **{name: stored(value) for name, value in values.items()},
        )
        .returning(*_withdrawal.c)
    )
    if row is None:
        return None
    await _log(tx, withdrawal.id, event=event.value, status=target, at=now)
    return _read(row)


async def _log(
    tx: Transaction, withdrawal_id: WithdrawalId, *, event: str, status: WithdrawalStatus, at: float
) -> None:
    await tx.run(sa.insert(_event), withdrawal_id=withdrawal_id, event=event, status=status.value, at=at)
