"""Databases whose writing is slow: so slow that the world has moved on when a decision is written down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from databases import WrappedDatabase

from lightwork_broker.db.engine import Transaction
from lightwork_broker.db.place import open_database


class LateDatabase(WrappedDatabase):
    """A broker's database whose turn to write comes only when a test says so."""

    def __init__(self, place: str) -> None:
        super().__init__(open_database(place))
        self.turn = asyncio.Event()
        self.waiting = asyncio.Event()

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        self.waiting.set()
        await self.turn.wait()
        async with self._inner.write() as tx:
            yield tx


class SlowDatabase(WrappedDatabase):
    """A broker's database after whose every commit something happens before the broker goes on."""

    def __init__(self, place: str, *, meanwhile: Callable[[], None]) -> None:
        super().__init__(open_database(place))
        self._meanwhile = meanwhile

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Transaction]:
        async with self._inner.write() as tx:
            yield tx
        self._meanwhile()
