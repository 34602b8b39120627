"""The database refuses what the tables of states refuse, whoever asks it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import sqlalchemy as sa
from databases import Look, Template
from escrow_story import Op, Story
from machine_edges import EDGES_OF_MODE, JOB_EDGES
from withdrawal_world import AGENT, open_withdrawals

from lightwork_broker.accounts.machine import TRANSITIONS as WITHDRAWAL_EDGES
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.market.quote_store import QuoteStatus
from lightwork_contracts.money import sats
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.accounts import WithdrawalStatus

QUOTE_STEPS = {("requested", end) for end in ("answered", "refused", "expired")}
JOB_STEPS = {(before, after) for (before, _), (after, _) in JOB_EDGES.items()}
ESCROW_STEPS = {
    mode: {(before, after) for (before, _), after in edges.items()} for mode, edges in EDGES_OF_MODE.items()
}
WITHDRAWAL_STEPS = {(before.value, after.value) for (before, _), after in WITHDRAWAL_EDGES.items()}


def _try_all(look: Look, table: str, column: str, states: list[str], also: str = "") -> set[tuple[str, str]]:
    """Return which steps the database lets a row take, having put it into each state past the guards."""
    taken: set[tuple[str, str]] = set()
    guards = look.guards(table)
    for before, after in product(states, states):
        look.unguard(table)
        look.change(f"UPDATE {table} SET {column} = '{before}'{also}")
        look.guard(table, guards)
        try:
            look.change(f"UPDATE {table} SET {column} = '{after}'")
        except sa.exc.IntegrityError:
            continue
        taken.add((before, after))
    return taken


def _and_staying(steps: set[tuple[str, str]], states: list[str]) -> set[tuple[str, str]]:
    return steps | {(state, state) for state in states}


@pytest.mark.parametrize("mode", ["escrow", "credit"])
async def test_an_escrow_takes_the_steps_of_its_table_and_no_other(story: Story, mode: str) -> None:
    assert await story.play(Op("hire")) == []
    states = [state.value for state in EscrowState]
    credited = "'a', credit_seed = 's'" if mode == "credit" else "NULL, credit_seed = NULL"
    also = f", preimage = 'p', credited_to = {credited}"
    taken = _try_all(story.books, "escrow", "state", states, also)
    assert taken == _and_staying(ESCROW_STEPS[mode], states)


async def test_a_job_and_a_quote_take_the_steps_of_their_tables_and_no_other(story: Story) -> None:
    assert await story.play(Op("hire")) == []
    jobs = [status.value for status in JobStatus]
    assert _try_all(story.books, "job", "status", jobs) == _and_staying(JOB_STEPS, jobs)
    quotes = [status.value for status in QuoteStatus]
    assert _try_all(story.books, "quote", "status", quotes) == _and_staying(QUOTE_STEPS, quotes)


async def test_a_withdrawal_takes_the_steps_of_its_table_and_no_other(
    template: Template, tmp_path: Path
) -> None:
    async with open_withdrawals(tmp_path, template) as world:
        world.network.stall("router")
        await world.start().withdraw(
            AGENT, invoice=await world.invoice(sats(1)), max_fee_msat=sats(2), key=None
        )
        await world.settle_down()
        look = Look(world.place)
        allowed: set[tuple[str, str]] = set()
        for before, after in product([status.value for status in WithdrawalStatus], repeat=2):
            guards = look.guards("withdrawal")
            look.unguard("withdrawal")
            look.change(f"UPDATE withdrawal SET status = '{before}', {_proof(before)}")
            look.guard("withdrawal", guards)
            try:
                look.change(f"UPDATE withdrawal SET status = '{after}', {_proof(after)}")
            except sa.exc.IntegrityError:
                continue
            allowed.add((before, after))
        look.unguard("withdrawal")
        look.change(f"UPDATE withdrawal SET status = 'paying', {_proof('paying')}")
        look.close()
        world.network.flow("router")
        await world.settle_down()
    assert allowed == _and_staying(WITHDRAWAL_STEPS, [status.value for status in WithdrawalStatus])


def _proof(status: str) -> str:
    paid = status == "paid"
    return "preimage = 'p', fee_paid_msat = 0" if paid else "preimage = NULL, fee_paid_msat = NULL"


FIXED = [
    ("escrow", "total_msat = total_msat + 1, price_msat = price_msat + 1"),
    ("escrow", "payment_hash = 'x'"),
    ("escrow", "provider_invoice = 'x'"),
    ("escrow", "credited_to = 'x', credit_seed = 'x'"),
    ("job", "payment_hash = 'x'"),
    ("job", "price_msat = price_msat + 1"),
    ("job", "provider = 'x'"),
    ("job", "input = 'x'"),
]


@pytest.mark.parametrize(("table", "change"), FIXED)
async def test_what_was_agreed_is_never_changed(story: Story, table: str, change: str) -> None:
    assert await story.play(Op("hire")) == []
    with pytest.raises(sa.exc.IntegrityError):
        story.books.change(f"UPDATE {table} SET {change}")


@pytest.mark.parametrize("table", ["escrow", "job"])
async def test_no_row_of_a_job_is_deleted_or_begins_in_the_middle(story: Story, table: str) -> None:
    assert await story.play(Op("hire")) == []
    books = story.books
    before = books.rows(f"SELECT * FROM {table}")
    guards = books.guards(table)
    with pytest.raises(sa.exc.IntegrityError):
        books.change(f"DELETE FROM {table}")
    assert books.rows(f"SELECT * FROM {table}") == before
    column = "state" if table == "escrow" else "status"
    row = {**before[0], "id": "other", "payment_hash": "other", "quote_id": "other", column: "open"}
    names = [name for name in before[0] if row[name] is not None]
    values = ", ".join(f"'{row[name]}'" for name in names)
    with pytest.raises(sa.exc.IntegrityError, match=r"refuses this|FOREIGN KEY"):
        books.change(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})")
    assert guards == books.guards(table)
