"""What PostgreSQL costs against SQLite: a posting in a transaction of its own, each on the disk before the next.

Prints one ratio per number of writers. Both databases lie on the same disk and sync it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from databases import PostgresTemplate, SqliteTemplate, Template
from postgres_server import PostgresServer

from lightwork_broker.db.place import open_database
from lightwork_broker.ledger import store
from lightwork_broker.ledger.rules import FEES, NODE, Entry, Posting

WRITES = 400


async def writes_per_second(place: str, *, writers: int) -> float:
    """Return how many postings a second these writers together make durable."""
    database = open_database(place)

    async def post(number: int) -> None:
        posting = Posting(key=f"{writers}-{number}", cause="bench", entries=(Entry(NODE, 1), Entry(FEES, -1)))
        async with database.write() as tx:
            await store.post(tx, posting, now=number)

    async def writer(first: int) -> None:
        for number in range(first, WRITES, writers):
            await post(number)

    await post(-1)  # opens the connections
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for first in range(writers):
            group.create_task(writer(first))
    seconds = time.monotonic() - begun
    await database.close()
    return WRITES / seconds


def main() -> int:
    argparse.ArgumentParser(prog="make bench-database", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "server").mkdir()
        server = PostgresServer(folder / "server", fast=False)
        server.start()
        try:
            templates: dict[str, Template] = {
                "SQLite": SqliteTemplate(folder),
                "PostgreSQL": PostgresTemplate(server),
            }
            print(f"{'writers':>8} {'SQLite':>10} {'PostgreSQL':>11} {'ratio':>6}   (writes a second)")
            for writers in (1, 10, 50):
                lite, post = (
                    asyncio.run(writes_per_second(template.copy(folder), writers=writers))
                    for template in templates.values()
                )
                print(f"{writers:>8} {lite:>10.0f} {post:>11.0f} {post / lite:>6.2f}")
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
