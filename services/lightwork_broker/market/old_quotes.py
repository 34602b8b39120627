"""Forgetting quotes that nobody hired on: asking costs nothing, and each keeps a whole input.

A quote that a job stands on is kept for ever, by its foreign key too; so is nothing else of a stranger's that
brought nobody any money.
"""

from __future__ import annotations

import asyncio

import structlog

from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database, DatabaseUnavailable
from lightwork_broker.market import quote_store as store

log = structlog.stdlib.get_logger()

PAGE = 100
LOOK_SECONDS = 300.0


class OldQuotes:
    """Deletes quotes on which no job was made, `seconds` after they were asked for."""

    def __init__(self, *, database: Database, clock: Clock, seconds: float) -> None:
        self._database = database
        self._clock = clock
        self._seconds = seconds

    async def forget(self) -> int:
        """Delete what is old enough, a page in each transaction; return how many quotes that were."""
        before, after, forgotten = self._clock.now() - self._seconds, "", 0
        while True:
            async with self._database.scan() as tx:
                page = await store.not_hired(tx, after=after, before=before, most=PAGE)
            if not page:
                return forgotten
            async with self._database.write() as tx:
                forgotten += await store.forget(tx, page)
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
