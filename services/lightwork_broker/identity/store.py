"""The key of the brokers on this database, and the signed requests that one of them has taken."""

from __future__ import annotations

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Database, Transaction, table_of
from lightwork_contracts.ids import Pubkey


class BrokerKeyRow(SQLModel, table=True):
    """The one key whose brokers share this database: quotes are signed and preimages derived with it."""

    __tablename__ = "broker_key"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)

    id: int = Field(primary_key=True)
    pubkey: str


class UsedRequestRow(SQLModel, table=True):
    """A signed request that was taken, for as long as its signature might still be good."""

    __tablename__ = "used_request"  # pyright: ignore[reportAssignmentType]

    event_id: str = Field(primary_key=True)
    created_at: int = Field(index=True)


_key = table_of(BrokerKeyRow)
_used = table_of(UsedRequestRow)


async def key(tx: Transaction) -> Pubkey | None:
    return await tx.value(sa.select(_key.c.pubkey).where(_key.c.id == 1))


async def set_key(tx: Transaction, pubkey: Pubkey) -> None:
    if not await tx.run(sa.update(_key).where(_key.c.id == 1).values(pubkey=pubkey)):
        await tx.run(sa.insert(_key).values(id=1, pubkey=pubkey))


async def take_request(database: Database, event_id: str, *, created_at: int) -> bool:
    """Take a signed request for all brokers on this database; False if one of them has."""
    return await database.add_once(_used, event_id=event_id, created_at=created_at)


async def forget_requests(tx: Transaction, *, before: int) -> None:
    """Drop what was signed before a time, in Unix seconds."""
    await tx.run(sa.delete(_used).where(_used.c.created_at < before))
