"""What is asked again and again, by strangers too, costs the same however many jobs there ever were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from databases import Look, SqliteTemplate
from escrow_world import PROVIDER_KEY
from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite

from lightwork_broker.db.engine import Outcome, Transaction
from lightwork_broker.escrow import htlc_store, store

Question = Callable[[Transaction], Awaitable[object]]

ASKED: dict[str, Question] = {
    "by each sweep": store.unfinished,
    "by who asks for the broker's health": store.count,
    "by each sweep, of what is unknown": lambda tx: store.unknown_before(tx, before=1),
    "by each job in credit mode": lambda tx: store.credit_under_way(tx, PROVIDER_KEY.public),
    "by each job in credit mode, of all agents": store.credit_under_way,
    "by each question for a price": lambda tx: store.promised(tx, since=1),
    "by each block": lambda tx: store.out_of_blocks(tx, height=1),
    "by each block, of what is late": lambda tx: store.close_to_expiry(tx, height=1),
    "by each look at the books": store.paid_out_not_settled,
    "by each look at HTLCs": lambda tx: htlc_store.unchecked(tx, lowest=1),
    "by each look at HTLCs, of what was lost": htlc_store.lost,
}


class Explained(Transaction):
    """Asks the database how it would find the rows of each statement, and finds none."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        self.plan: list[str] = []

    async def call(self, statement: Executable, values: dict[str, object]) -> Outcome:
        assert not values
        text = statement.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        self.plan += [str(row["detail"]) for row in self._look.rows(f"EXPLAIN QUERY PLAN {text}")]
        return Outcome(({"unfinished": 0, "unknown": 0},) if "unfinished" in str(text) else (), 0, 0)

    async def value(self, statement: Executable, **values: object) -> int:
        await self.call(statement, dict(values))
        return 0


@pytest.mark.parametrize("question", ASKED.values(), ids=ASKED.keys())
async def test_what_is_asked_again_and_again_does_not_read_the_jobs_that_are_over(
    question: Question, tmp_path: Path
) -> None:
    look = Look(SqliteTemplate(tmp_path).copy(tmp_path))
    tx = Explained(look)
    await question(tx)
    look.close()
    assert tx.plan != []
    assert [step for step in tx.plan if step.startswith("SCAN")] == []
