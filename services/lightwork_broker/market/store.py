"""Listings, their versions, and who is online: all SQL about adverts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from lightwork_broker.db.engine import Row, Transaction, table_of
from lightwork_contracts.ids import ListingId, Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.listing import ListingContent


class ListingRow(SQLModel, table=True):
    __tablename__ = "listing"  # pyright: ignore[reportAssignmentType]  (SQLModel's declared_attr)
    __table_args__ = (sa.UniqueConstraint("agent", "name", name="one_listing_per_agent_and_name"),)

    id: str = Field(primary_key=True)
    agent: str = Field(index=True)
    name: str = Field(index=True)
    version: int
    retired: bool = False
    search_text: str
    price_msat: int = Field(sa_type=sa.BigInteger)
    mode: str = Field(default=PaymentMode.ESCROW.value, sa_column_kwargs={"server_default": "escrow"})
    published_at: int
    updated_at: int


class ListingVersionRow(SQLModel, table=True):
    """One signed version; never changed once it is there, since jobs and quotes point at it."""

    __tablename__ = "listing_version"  # pyright: ignore[reportAssignmentType]

    listing_id: str = Field(primary_key=True, foreign_key="listing.id")
    version: int = Field(primary_key=True)
    content: str
    content_hash: str
    event: str
    event_created_at: int
    at: int


class PresenceRow(SQLModel, table=True):
    __tablename__ = "presence"  # pyright: ignore[reportAssignmentType]

    agent: str = Field(primary_key=True)
    last_seen: int = Field(index=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One version of a listing as it was read."""

    id: ListingId
    version: int
    agent: Pubkey
    name: str
    content: ListingContent
    content_hash: str
    event: SignedEvent
    retired: bool
    last_seen: int | None
    published_at: int
    updated_at: int


_listing = table_of(ListingRow)
_version = table_of(ListingVersionRow)
_presence = table_of(PresenceRow)

_COLUMNS = (
    _listing.c.id,
    _listing.c.agent,
    _listing.c.name,
    _listing.c.retired,
    _listing.c.published_at,
    _listing.c.updated_at,
    _version.c.version,
    _version.c.content,
    _version.c.content_hash,
    _version.c.event,
    _presence.c.last_seen,
)


def _joined(on_version: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(*_COLUMNS).select_from(
        _listing.join(_version, sa.and_(_version.c.listing_id == _listing.c.id, on_version)).outerjoin(
            _presence, _presence.c.agent == _listing.c.agent
        )
    )


# A version is never changed, so what was read once need not be parsed again.
@lru_cache(maxsize=512)
def _content(text: str) -> ListingContent:
    return ListingContent.model_validate_json(text)


@lru_cache(maxsize=512)
def _event(text: str) -> SignedEvent:
    return SignedEvent.model_validate_json(text)


def _read(row: Row) -> Listing:
    return Listing(
        id=row["id"],
        version=row["version"],
        agent=row["agent"],
        name=row["name"],
        content=_content(row["content"]),
        content_hash=row["content_hash"],
        event=_event(row["event"]),
        retired=row["retired"],
        last_seen=row["last_seen"],
        published_at=row["published_at"],
        updated_at=row["updated_at"],
    )


_CURRENT = _joined(_version.c.version == _listing.c.version)
_GET = _CURRENT.where(_listing.c.id == sa.bindparam("the_id"))
_GET_VERSION = _joined(_version.c.version == sa.bindparam("the_version")).where(
    _listing.c.id == sa.bindparam("the_id")
)
_BEST_ONLINE = (
    _CURRENT.where(
        _listing.c.name == sa.bindparam("the_name"),
        _listing.c.retired.is_(False),
        _listing.c.mode.in_(sa.bindparam("the_modes", expanding=True)),
        _presence.c.last_seen >= sa.bindparam("since"),
    )
    .order_by(_listing.c.price_msat, _listing.c.id)
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """What is stored of a newly signed version."""

    agent: Pubkey
    content: ListingContent
    content_hash: str
    event: SignedEvent
    price_msat: int


async def count(tx: Transaction, agent: Pubkey) -> int:
    """Return how many listings an agent has, retired ones included."""
    return int(
        await tx.value(sa.select(sa.func.count()).select_from(_listing).where(_listing.c.agent == agent))
    )


async def versions_since(tx: Transaction, agent: Pubkey, *, since: int) -> int:
    """Return how many versions of its listings an agent has published since then."""
    joined = _version.join(_listing, _listing.c.id == _version.c.listing_id)
    clause = sa.and_(_listing.c.agent == agent, _version.c.at > since)
    return int(await tx.value(sa.select(sa.func.count()).select_from(joined).where(clause)))


async def by_name(tx: Transaction, agent: Pubkey, name: str) -> Listing | None:
    row = await tx.one(
        _joined(_version.c.version == _listing.c.version).where(
            _listing.c.agent == agent, _listing.c.name == name
        )
    )
    return None if row is None else _read(row)


async def add(tx: Transaction, listing_id: ListingId, advert: Advert, *, now: int) -> None:
    await tx.run(
        sa.insert(_listing).values(
            id=listing_id,
            agent=advert.agent,
            name=advert.content.name,
            version=1,
            retired=False,
            search_text=_search_text(advert.content),
            price_msat=advert.price_msat,
            mode=advert.content.mode.value,
            published_at=now,
            updated_at=now,
        )
    )
    await _add_version(tx, listing_id, advert, version=1, now=now)


async def add_version(tx: Transaction, known: Listing, advert: Advert, *, now: int) -> int:
    """Make `advert` the current version and return its number."""
    version = int(
        await tx.value(sa.select(sa.func.max(_version.c.version)).where(_version.c.listing_id == known.id))
    )
    await _add_version(tx, known.id, advert, version=version + 1, now=now)
    await tx.run(
        sa.update(_listing)
        .where(_listing.c.id == known.id)
        .values(
            version=version + 1,
            retired=False,
            search_text=_search_text(advert.content),
            price_msat=advert.price_msat,
            mode=advert.content.mode.value,
            updated_at=now,
        )
    )
    return version + 1


async def get(tx: Transaction, listing_id: str, *, version: int | None = None) -> Listing | None:
    if version is None:
        row = await tx.one(_GET, the_id=listing_id)
    else:
        row = await tx.one(_GET_VERSION, the_id=listing_id, the_version=version)
    return None if row is None else _read(row)


async def best_online(
    tx: Transaction, name: str, *, modes: Sequence[PaymentMode], since: int
) -> Listing | None:
    """Return the cheapest listing of that name and of these modes whose agent was seen since."""
    wanted = [mode.value for mode in modes]
    row = await tx.one(_BEST_ONLINE, the_name=name, since=since, the_modes=wanted)
    return None if row is None else _read(row)


async def name_exists(tx: Transaction, name: str) -> bool:
    clause = sa.and_(_listing.c.name == name, _listing.c.retired.is_(False))
    return await tx.value(sa.select(_listing.c.id).where(clause).limit(1)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    words: tuple[str, ...] = ()
    agent: str | None = None
    seen_since: int | None = None
    after: str | None = None
    limit: int = 20


async def search(tx: Transaction, query: Search) -> list[Listing]:
    """Return current versions that hold every word, newest first."""
    statement = _joined(_version.c.version == _listing.c.version).where(_listing.c.retired.is_(False))
    for word in query.words:
        statement = statement.where(_listing.c.search_text.contains(word.lower(), autoescape=True))
    if query.agent is not None:
        statement = statement.where(_listing.c.agent == query.agent)
    if query.seen_since is not None:
        statement = statement.where(_presence.c.last_seen >= query.seen_since)
    if query.after is not None:
        statement = statement.where(_listing.c.id < query.after)
    return [_read(row) for row in await tx.all(statement.order_by(_listing.c.id.desc()).limit(query.limit))]


async def retire(tx: Transaction, listing_id: ListingId, *, now: int) -> None:
    await tx.run(sa.update(_listing).where(_listing.c.id == listing_id).values(retired=True, updated_at=now))


async def touch(tx: Transaction, agent: Pubkey, *, now: int) -> None:
    """Record that an agent was seen."""
    changed = await tx.run(sa.update(_presence).where(_presence.c.agent == agent).values(last_seen=now))
    if not changed:
        await tx.run(sa.insert(_presence).values(agent=agent, last_seen=now))


async def forget_presence(tx: Transaction, *, before: int) -> int:
    """Forget when agents without any listing were last seen, if that is long ago; return how many."""
    has_listing = sa.exists().where(_listing.c.agent == _presence.c.agent)
    return await tx.run(sa.delete(_presence).where(_presence.c.last_seen < before, ~has_listing))


def _search_text(content: ListingContent) -> str:
    return " ".join((content.name, content.description, content.agent_name, *content.tags)).lower()


async def _add_version(
    tx: Transaction, listing_id: ListingId, advert: Advert, *, version: int, now: int
) -> None:
    await tx.run(
        sa.insert(_version).values(
            listing_id=listing_id,
            version=version,
            content=advert.content.model_dump_json(),
            content_hash=advert.content_hash,
            event=advert.event.model_dump_json(),
            event_created_at=advert.event.created_at,
            at=now,
        )
    )
