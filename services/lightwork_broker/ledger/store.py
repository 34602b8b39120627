"""The ledger's tables and queries. Rows are only ever added; triggers refuse anything else."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Transaction, table_of
from lightwork_broker.ledger.rules import Posting


class LedgerTransactionRow(SQLModel, table=True):
    __tablename__ = "ledger_transaction"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    cause: str
    at: int


class LedgerEntryRow(SQLModel, table=True):
    __tablename__ = "ledger_entry"  # pyright: ignore[reportAssignmentType]

    id: int | None = Field(default=None, primary_key=True)
    transaction_id: int = Field(foreign_key="ledger_transaction.id", index=True)
    account: str = Field(index=True)
    amount_msat: int = Field(sa_type=sa.BigInteger)


_transactions = table_of(LedgerTransactionRow)
_entries = table_of(LedgerEntryRow)

_KNOWN = sa.select(_transactions.c.id).where(_transactions.c.key == sa.bindparam("the_key"))
_INSERT = sa.insert(_transactions)
_INSERT_ENTRY = sa.insert(_entries)


class LedgerConflict(RuntimeError):
    """A posting came twice under one key with different entries: a defect, never papered over."""


async def post(tx: Transaction, posting: Posting, *, now: int) -> bool:
    """Add a posting. The same posting again adds nothing and returns False.

    Raises:
        LedgerConflict: the key was used for other entries.
    """
    known = await tx.value(_KNOWN, the_key=posting.key)
    if known is not None:
        rows = await tx.all(
            sa.select(_entries.c.account, _entries.c.amount_msat)
            .where(_entries.c.transaction_id == known)
            .order_by(_entries.c.id)
        )
        if [(r["account"], r["amount_msat"]) for r in rows] != [
            (e.account, e.amount_msat) for e in posting.entries
        ]:
            raise LedgerConflict(f"posting {posting.key} was made before with other entries")
        return False
    transaction_id = await tx.insert(_INSERT, key=posting.key, cause=posting.cause, at=now)
    for entry in posting.entries:
        await tx.run(
            _INSERT_ENTRY,
            transaction_id=transaction_id,
            account=entry.account,
            amount_msat=entry.amount_msat,
        )
    return True


async def balance(tx: Transaction, account: str) -> int:
    """Return the sum of an account's entries, in msat."""
    total = await tx.value(
        sa.select(sa.func.coalesce(sa.func.sum(_entries.c.amount_msat), 0)).where(
            _entries.c.account == account
        )
    )
    return int(total)


async def balances(tx: Transaction) -> dict[str, int]:
    """Return the balance of every account that is not zero, in msat."""
    total = sa.func.sum(_entries.c.amount_msat).label("total")
    rows = await tx.all(
        sa.select(_entries.c.account, total).group_by(_entries.c.account).order_by(_entries.c.account)
    )
    return {row["account"]: int(row["total"]) for row in rows if row["total"]}
