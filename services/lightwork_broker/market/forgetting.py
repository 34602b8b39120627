"""Forgetting what strangers have left in the market and paid nothing for: keys and questions cost nothing.

A quote keeps a whole input. One that a job stands on is kept for ever, which its foreign key holds too.
"""

from __future__ import annotations

import asyncio

import structlog

from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database, DatabaseUnavailable
from lightwork_broker.market import quote_store, store

log = structlog.stdlib.get_logger()

PAGE = 100
LOOK_SECONDS = 300.0
PRESENCE_SECONDS = 86_400
"""How long it is known that an agent asked for work which has nothing on sale."""


class Forgetting:
    """Deletes quotes on which no job was made, `quotes_seconds` after they were asked for, and who was seen in vain."""

    def __init__(self, *, database: Database, clock: Clock, quotes_seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._seconds = quotes_seconds

    async def forget(self) -> int:
        """Delete what is old enough, a page in each transaction; return how many quotes that were."""
        now, after, forgotten = self._clock.now(), "", 0
        async with self._database.write() as tx:
            await store.forget_presence(tx, before=int(now) - PRESENCE_SECONDS)
        while True:
            async with self._database.scan() as tx:
                page = await quote_store.not_hired(tx, after=after, before=now - self._seconds, most=PAGE)
            if not page:
                return forgotten
            async with self._database.write() as tx:
                forgotten += await quote_store.forget(tx, page)
            after = page[-1]

    async def run(self) -> None:
        """Forget until cancelled."""
        while True:
            try:
                if forgotten := await self.forget():
                    log.info("quotes.forgotten", count=forgotten)
            except DatabaseUnavailable as error:
                log.warning("quotes.not_forgotten", cause=str(error))
            await asyncio.sleep(LOOK_SECONDS)
