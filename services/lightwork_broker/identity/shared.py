"""What brokers on one database, beside or after each other, have in common: a key, and a memory of signed requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.identity import store
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.signed.http_auth import WINDOW_SECONDS

FORGET_SECONDS = 4 * WINDOW_SECONDS
"""Twice what a signature is good for, before and after: brokers' clocks differ."""


class WrongKey(RuntimeError):
    """The database belongs to brokers with another key."""


async def require_key(
    database: Database, pubkey: Pubkey, *, adopt: bool, idle: Callable[[Transaction], Awaitable[bool]]
) -> None:
    """Require that the database is new, or belongs to this key; `adopt` takes it over where nothing is under way.

    Raises:
        WrongKey: with what to do.
    """
    async with database.write() as tx:
        known = await store.key(tx)
        if known == pubkey:
            return
        if known is not None and not adopt:
            raise WrongKey(
                f"this database belongs to the broker with the key {known}, and this one has {pubkey}. Brokers that "
                "share a database share `broker.key`: copy it. If it is lost for good, and no job is under way, set "
                "LIGHTWORK_BROKER_ADOPT=true once"
            )
        if known is not None and not await idle(tx):
            raise WrongKey(
                f"jobs of the broker with the key {known} are under way: only it can bring them to an end"
            )
        await store.set_key(tx, pubkey)


class SharedGuard:
    """Takes each signed request once among all brokers on a database, of now and of before a restart."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def take(self, event_id: str, *, created_at: int) -> bool:
        """Tell whether no broker has taken this request before."""
        return await store.take_request(self._database, event_id, created_at=created_at)

    async def forget(self) -> None:
        """Drop what no signature check would let pass any more."""
        async with self._database.write() as tx:
            await store.forget_requests(tx, before=int(self._clock.now()) - FORGET_SECONDS)

    async def run(self) -> None:
        """Forget again and again, until cancelled."""
        while True:
            await asyncio.sleep(WINDOW_SECONDS)
            await self.forget()
