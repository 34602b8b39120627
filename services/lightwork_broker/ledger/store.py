"""The ledger's tables and queries. Rows are only ever added; triggers refuse anything else."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Transaction, table_of
from lightwork_broker.errors import LightningDown
from lightwork_broker.ledger.rules import LOSSES, ON_CHAIN, Posting
from lightwork_contracts.ids import PaymentHash


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


class PaymentClaimRow(SQLModel, table=True):
    """What the one outgoing payment of a hash is for. A node pays a hash once, so two purposes never share one."""

    __tablename__ = "payment_claim"  # pyright: ignore[reportAssignmentType]

    payment_hash: str = Field(primary_key=True)
    purpose: str


class EscrowNodeRow(SQLModel, table=True):
    """The one Lightning node that this database's money is on: another one knows of nothing."""

    __tablename__ = "escrow_node"  # pyright: ignore[reportAssignmentType]

    id: int = Field(primary_key=True)
    pubkey: str
    opening_msat: int | None = Field(default=None, sa_type=sa.BigInteger)


class WatchMarkRow(SQLModel, table=True):
    """Up to when what has ended was compared with the node, and since when something is wrong. One row."""

    __tablename__ = "watch_mark"  # pyright: ignore[reportAssignmentType]

    id: int = Field(primary_key=True)
    compared_until: float
    breached_since: float | None = None


_transactions = table_of(LedgerTransactionRow)
_entries = table_of(LedgerEntryRow)
_claims = table_of(PaymentClaimRow)
_node = table_of(EscrowNodeRow)
_mark = table_of(WatchMarkRow)

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


async def balance_of_all(tx: Transaction, beginning: str) -> int:
    """Return the sum of all accounts whose names begin so, in msat."""
    total = await tx.value(
        sa.select(sa.func.coalesce(sa.func.sum(_entries.c.amount_msat), 0)).where(
            _entries.c.account.startswith(beginning)
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


async def booked_on_chain(tx: Transaction) -> dict[str, int]:
    """Return what was booked as lost on the chain, in msat, by subject; below zero what was found there."""
    rows = await tx.all(
        sa.select(_transactions.c.key, _entries.c.amount_msat)
        .join(_entries, _transactions.c.id == _entries.c.transaction_id)
        .where(_transactions.c.key.startswith(ON_CHAIN), _entries.c.account == LOSSES)
    )
    booked: dict[str, int] = {}
    for row in rows:
        subject = str(row["key"]).removeprefix(ON_CHAIN).rpartition("=")[0]
        booked[subject] = booked.get(subject, 0) + int(row["amount_msat"])
    return booked


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of an account, with what caused it. Msat, Unix seconds."""

    id: int
    amount_msat: int
    cause: str
    at: int


async def statement(tx: Transaction, account: str, *, before: int | None, limit: int) -> list[Line]:
    """Return an account's entries, newest first."""
    query = (
        sa.select(_entries.c.id, _entries.c.amount_msat, _transactions.c.cause, _transactions.c.at)
        .join(_transactions, _transactions.c.id == _entries.c.transaction_id)
        .where(_entries.c.account == account)
        .order_by(_entries.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(_entries.c.id < before)
    return [Line(**row) for row in await tx.all(query)]


async def is_claimed(tx: Transaction, payment_hash: PaymentHash) -> bool:
    """Tell whether an outgoing payment of this hash has a purpose already."""
    known = sa.select(_claims.c.purpose).where(_claims.c.payment_hash == payment_hash)
    return await tx.value(known) is not None


async def claim(tx: Transaction, payment_hash: PaymentHash, *, purpose: str) -> bool:
    """Give the outgoing payment of a hash its one purpose; False if it has one."""
    if await is_claimed(tx, payment_hash):
        return False
    await tx.run(sa.insert(_claims), payment_hash=payment_hash, purpose=purpose)
    return True


async def node_of(tx: Transaction) -> str | None:
    """Return which node this database's money is on, or None before the first start."""
    return await tx.value(sa.select(_node.c.pubkey).where(_node.c.id == 1))


async def set_node(tx: Transaction, pubkey: str, *, opening_msat: int | None) -> None:
    """Take the database to a node. `opening_msat` is what its channels hold that the books do not explain."""
    values = {"pubkey": pubkey, "opening_msat": opening_msat}
    if not await tx.run(sa.update(_node).where(_node.c.id == 1).values(**values)):
        await tx.run(sa.insert(_node).values(id=1, **values))


async def opening_msat(tx: Transaction) -> int | None:
    """Return what the node's channels held when the database was taken to it, in msat; None if nobody looked."""
    return await tx.value(sa.select(_node.c.opening_msat).where(_node.c.id == 1))


async def require_node(tx: Transaction, pubkey: str) -> None:
    """Require that no broker on another node has taken this database over since this one started.

    Raises:
        LightningDown: from then on this broker's node is the wrong one to ask.
    """
    known = await node_of(tx)
    if known is not None and known != pubkey:
        raise LightningDown(
            f"this database was taken to the node {known}; this broker is on {pubkey} and does nothing any more"
        )


@dataclass(frozen=True, slots=True)
class WatchMark:
    """How far the books were compared with the node. Unix seconds."""

    compared_until: float
    """What has ended before was compared, and was as the books say."""
    breached_since: float | None = None
    """From when on something that has ended was not; None while all is well."""


async def watch_mark(tx: Transaction) -> WatchMark | None:
    """Return how far the books were compared, or None before the first time."""
    row = await tx.one(sa.select(_mark.c.compared_until, _mark.c.breached_since).where(_mark.c.id == 1))
    return None if row is None else WatchMark(**row)


async def set_watch_mark(tx: Transaction, mark: WatchMark) -> None:
    values = {"compared_until": mark.compared_until, "breached_since": mark.breached_since}
    if not await tx.run(sa.update(_mark).where(_mark.c.id == 1).values(**values)):
        await tx.run(sa.insert(_mark).values(id=1, **values))
