"""What became of the HTLCs of each job that is over: asked of the node once, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Transaction, table_of
from lightwork_broker.escrow.machine import TERMINAL, EscrowState
from lightwork_broker.escrow.store import EscrowRow
from lightwork_contracts.ids import JobId, PaymentHash


class HtlcCheckRow(SQLModel, table=True):
    """A job whose HTLCs have all ended, as the node has said; triggers refuse anything but inserts."""

    __tablename__ = "htlc_check"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)

    job_id: str = Field(primary_key=True, foreign_key="escrow.id")
    lost_msat: int = Field(sa_type=sa.BigInteger, index=True)
    """What the payer has although the books call it taken; below zero what we have and the books do not."""
    checked_at: float


@dataclass(frozen=True, slots=True)
class Over:
    """A job that is over."""

    id: JobId
    state: EscrowState
    payment_hash: PaymentHash


@dataclass(frozen=True, slots=True)
class Lost:
    """A job of which node and books disagree for good, by so many msat."""

    id: JobId
    state: EscrowState
    lost_msat: int


_escrow = table_of(EscrowRow)
_check = table_of(HtlcCheckRow)
_KNOWN = sa.select(_check.c.job_id).where(_check.c.job_id == sa.bindparam("job"))
_ADD = sa.insert(_check)
_OVER = _escrow.c.state.in_([state.value for state in TERMINAL])


async def unchecked(tx: Transaction, *, lowest: int) -> list[Over]:
    """Return every job that is over, whose lowest HTLC expires at that height or later, and that was not checked."""
    rows = await tx.all(
        sa.select(_escrow.c.id, _escrow.c.state, _escrow.c.payment_hash)
        .outerjoin(_check, _check.c.job_id == _escrow.c.id)
        .where(_escrow.c.min_expiry_height >= lowest, _OVER, _check.c.job_id.is_(None))
    )
    return [Over(row["id"], EscrowState(row["state"]), row["payment_hash"]) for row in rows]


async def add_checks(tx: Transaction, lost: Mapping[JobId, int], *, now: float) -> None:
    """Keep that all HTLCs of these jobs have ended, and what was lost of each, in msat; what is known is kept."""
    for job, lost_msat in lost.items():
        # Another broker on this database may have asked as well.
        if await tx.value(_KNOWN, job=job) is None:
            await tx.run(_ADD, job_id=job, lost_msat=lost_msat, checked_at=now)


async def lost(tx: Transaction) -> list[Lost]:
    """Return every job that was checked and of which something was lost, or gained."""
    rows = await tx.all(
        sa.select(_escrow.c.id, _escrow.c.state, _check.c.lost_msat)
        .join(_check, _check.c.job_id == _escrow.c.id)
        .where(sa.or_(_check.c.lost_msat < 0, _check.c.lost_msat > 0))  # and not !=, which no index finds
    )
    return [Lost(row["id"], EscrowState(row["state"]), row["lost_msat"]) for row in rows]
