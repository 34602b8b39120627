"""Wake-ups between brokers on one PostgreSQL database, by LISTEN and NOTIFY.

They only save waiting: whoever misses one looks at the database by itself a little later. So they are sent outside of
any transaction, and what happened while a connection was away is made good by waking everybody once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import structlog

AGAIN_SECONDS = 1.0

log = structlog.stdlib.get_logger()

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresRelay:
    """One broker's mouth and ear."""

    def __init__(self, url: str, *, arguments: Mapping[str, Any]) -> None:
        self._url = url
        self._arguments = arguments
        self._name = secrets.token_hex(8)
        self._topics: set[str] = set()
        self._told = asyncio.Event()

    def tell(self, topic: str) -> None:
        """Wake those who wait for this topic at other brokers."""
        self._topics.add(topic)
        self._told.set()

    async def run(self, *, hear: Callable[[str], None], stir: Callable[[], None]) -> None:
        """Call `hear` with each topic that others tell, and `stir` when some may have been missed; for ever."""
        while True:
            try:
                async with await self._connect() as ear, await self._connect() as mouth:
                    await ear.execute("LISTEN lightwork")
                    stir()
                    async with asyncio.TaskGroup() as both:
                        both.create_task(self._listen(ear, hear), name="hear other brokers")
                        both.create_task(self._speak(mouth), name="tell other brokers")
            except* psycopg.Error as group:
                log.warning("relay.lost", causes=[type(error).__name__ for error in group.exceptions])
            await asyncio.sleep(AGAIN_SECONDS)

    async def _connect(self) -> Connection:
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, **self._arguments)

    async def _listen(self, ear: Connection, hear: Callable[[str], None]) -> None:
        async for told in ear.notifies():
            name, _, topic = told.payload.partition(" ")
            if name != self._name:
                hear(topic)

    async def _speak(self, mouth: Connection) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            topics, self._topics = self._topics, set()
            await mouth.execute(
                "SELECT pg_notify('lightwork', topic) FROM unnest(%s::text[]) AS topic",
                ([f"{self._name} {topic}" for topic in topics],),
            )
