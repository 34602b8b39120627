"""Publishing, finding and retiring listings, and knowing who is online."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from lightwork_broker.clock import Clock, Ids
from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.errors import (
    Forbidden,
    ListingInvalid,
    ListingLimit,
    ListingRetired,
    ListingStale,
    ModeNotAllowed,
    NotFound,
    ProviderOffline,
)
from lightwork_broker.market import store
from lightwork_broker.market.schema import check_schema
from lightwork_broker.market.store import Advert, Listing, Search
from lightwork_contracts.errors import ContractError
from lightwork_contracts.ids import ListingId, Pubkey
from lightwork_contracts.modes import TRUST, PaymentMode
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.listing import FixedPrice, content_hash, read_listing
from lightwork_contracts.wire.market import ListingView

LIVENESS_SECONDS = 90
"""An agent that has not asked for work for this long counts as offline."""

TOUCH_SECONDS = 5
DAY_SECONDS = 86_400
FUTURE_SECONDS = 300


def _not_allowed(listing: Listing) -> ModeNotAllowed:
    mode = listing.content.mode
    return ModeNotAllowed(
        f"{listing.name!r} is paid in {mode} mode: {TRUST[mode].meaning}",
        hint=f"ask with modes [{mode!s}] if you trust this broker with the price; "
        f"who could cheat: {TRUST[mode].who_could_cheat}",
        context={"mode": mode.value},
    )


@dataclass(frozen=True, slots=True)
class AdvertCaps:
    """How much one agent may have this broker keep for ever: listings in all, and versions in 24 hours."""

    listings: int
    versions_a_day: int


DEFAULT_CAPS = AdvertCaps(listings=200, versions_a_day=200)


class Market:
    """The adverts of this broker."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        max_price_msat: int,
        modes: Sequence[PaymentMode] = tuple(PaymentMode),
        caps: AdvertCaps = DEFAULT_CAPS,
    ) -> None:
        self._caps = caps
        self._modes = modes
        self._database = database
        self._clock = clock
        self._ids = ids
        self._max_price_msat = max_price_msat
        self._touched: dict[Pubkey, float] = {}

    async def publish(self, caller: Pubkey, event: SignedEvent) -> ListingView:
        """Add a listing, or a new version of it; the same content again changes nothing.

        Raises:
            Forbidden: somebody else's listing.
            ListingInvalid: the event or its schemas are not sound.
            ListingStale: a newer version is already here.
            ListingLimit: the agent has as many listings, or new versions in 24 hours, as one may have.
            ModeNotAllowed: it would be paid in a mode that this broker does not offer.
        """
        try:
            agent, content = read_listing(event)
        except ContractError as error:
            raise ListingInvalid(f"the listing is not valid: {error}") from error
        if agent != caller:
            raise Forbidden("a listing is published by the key that signed it")
        if content.mode not in self._modes:
            raise ModeNotAllowed(
                f"this broker offers no {content.mode} mode",
                hint="sell with a wallet of your own",
                context={"mode": content.mode.value},
            )
        await asyncio.to_thread(check_schema, content.input_schema, what="input schema")
        await asyncio.to_thread(check_schema, content.output_schema, what="output schema")
        now = int(self._clock.now())
        if event.created_at > now + FUTURE_SECONDS:
            raise ListingInvalid("the listing is dated in the future", hint="check the clock of this machine")
        price = content.price.msat if isinstance(content.price, FixedPrice) else content.price.from_msat or 0
        if price > self._max_price_msat:
            raise ListingInvalid(
                f"the price of {price} msat is above this broker's {self._max_price_msat} msat"
            )
        advert = Advert(
            agent=agent,
            content=content,
            content_hash=content_hash(content),
            event=event,
            price_msat=price,
        )
        async with self._database.write() as tx:
            known = await store.by_name(tx, agent, content.name)
            if known is None:
                await self._require_room(tx, agent, now=now)
                await store.add(tx, ListingId(self._ids.new("lst")), advert, now=now)
            elif known.content_hash != advert.content_hash or known.retired:
                if event.created_at < known.event.created_at:
                    raise ListingStale(
                        "a newer version of this listing is already published",
                        hint="sign it again with the present time",
                        context={"version": known.version},
                    )
                await self._require_room(tx, agent, now=now, new=False)
                await store.add_version(tx, known, advert, now=now)
            listing = await store.by_name(tx, agent, content.name)
        if listing is None:
            raise NotFound("the listing was not stored")
        return self.view(listing)

    async def _require_room(self, tx: Transaction, agent: Pubkey, *, now: int, new: bool = True) -> None:
        """Keep one agent from filling the disk: what was signed and stood in the market once is never deleted."""
        if new and await store.count(tx, agent) >= self._caps.listings:
            raise ListingLimit(
                f"you have {self._caps.listings} listings, retired ones included",
                hint="publish a new version of one of them",
                context={"limit": self._caps.listings},
            )
        if await store.versions_since(tx, agent, since=now - DAY_SECONDS) >= self._caps.versions_a_day:
            raise ListingLimit(
                f"you have published {self._caps.versions_a_day} versions in 24 hours",
                hint="try again later",
                context={"limit": self._caps.versions_a_day},
            )

    async def get(self, listing_id: str, *, version: int | None = None) -> Listing:
        """Return a listing, the current version unless one is named.

        Raises:
            NotFound
        """
        async with self._database.read() as tx:
            listing = await store.get(tx, listing_id, version=version)
        if listing is None:
            raise NotFound(f"there is no listing {listing_id}" + (f" version {version}" if version else ""))
        return listing

    async def search(
        self, *, text: str, agent: str | None, online: bool | None, limit: int, cursor: str | None
    ) -> tuple[list[ListingView], str | None]:
        """Return one page of listings that hold every word of `text`, and the cursor of the next."""
        since = int(self._clock.now()) - LIVENESS_SECONDS if online else None
        words = tuple(text.lower().split()[:8])
        query = Search(words=words, agent=agent, seen_since=since, after=cursor, limit=limit + 1)
        async with self._database.scan() as tx:
            found = await store.search(tx, query)
        more = found[limit - 1].id if len(found) > limit else None
        return [self.view(listing) for listing in found[:limit]], more

    async def choose(
        self,
        *,
        listing_id: str | None,
        task: str | None,
        version: int | None,
        modes: Sequence[PaymentMode],
    ) -> Listing:
        """Return the online listing that a buyer asks for.

        Raises:
            NotFound, ListingRetired, ListingStale, ProviderOffline, ModeNotAllowed
        """
        since = int(self._clock.now()) - LIVENESS_SECONDS
        if listing_id is not None:
            listing = await self.get(listing_id)
        else:
            async with self._database.read() as tx:
                found = await store.best_online(tx, task or "", modes=modes, since=since)
                other = found or await store.best_online(
                    tx, task or "", modes=tuple(PaymentMode), since=since
                )
                known = other is not None or await store.name_exists(tx, task or "")
            if found is None:
                if other is not None:
                    raise _not_allowed(other)
                if known:
                    raise ProviderOffline(f"nobody who offers {task!r} is online", hint="try again later")
                raise NotFound(f"nobody offers a task named {task!r}", hint="search: GET /v1/listings?q=...")
            listing = found
        if listing.retired:
            raise ListingRetired(f"the listing {listing.id} is retired")
        if listing.content.mode not in modes:
            raise _not_allowed(listing)
        if version is not None and version != listing.version:
            raise ListingStale(
                f"version {version} was asked for, {listing.version} is current",
                hint="read the listing again",
                context={"version": listing.version},
            )
        if listing.last_seen is None or listing.last_seen < since:
            raise ProviderOffline(f"the provider of {listing.name!r} is offline", hint="try again later")
        return listing

    async def retire(self, caller: Pubkey, listing_id: str) -> None:
        """Take a listing off the market; jobs that exist go on.

        Raises:
            NotFound, Forbidden
        """
        listing = await self.get(listing_id)
        if listing.agent != caller:
            raise Forbidden("a listing is retired by the agent that published it")
        async with self._database.write() as tx:
            await store.retire(tx, listing.id, now=int(self._clock.now()))

    async def seen(self, agent: Pubkey) -> None:
        """Remember that an agent asked for work; at most one write each few seconds."""
        now = self._clock.now()
        if now - self._touched.get(agent, 0) < TOUCH_SECONDS:
            return
        if len(self._touched) > 10_000:
            self._touched.clear()
        self._touched[agent] = now
        try:
            async with self._database.write() as tx:
                await store.touch(tx, agent, now=int(now))
        except BaseException:
            # It is not written down: the next poll tries again, or its listings stay offline meanwhile.
            self._touched.pop(agent, None)
            raise

    def view(self, listing: Listing) -> ListingView:
        """Return a listing as everybody may see it."""
        since = self._clock.now() - LIVENESS_SECONDS
        return ListingView(
            id=listing.id,
            version=listing.version,
            agent=listing.agent,
            content=listing.content,
            content_hash=listing.content_hash,
            event=listing.event,
            online=listing.last_seen is not None and listing.last_seen >= since,
            retired=listing.retired,
            published_at=listing.published_at,
            updated_at=listing.updated_at,
        )
