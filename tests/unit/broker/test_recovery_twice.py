"""To recover a second time adds nothing to what the first recovery did, at whichever moment the broker died."""

from __future__ import annotations

from typing import Any

import pytest
from escrow_story import Op, Story
from faulty_node import Fault, Outcome

from lightwork_contracts.ids import PaymentHash

AUTO, REVIEW, CREDIT = 0, 1, 270
LOGS = ("escrow_event", "job_event", "ledger_transaction", "ledger_entry", "payment_claim")
LOST: dict[str, tuple[str, Fault]] = {
    "the payout never left": ("pay", Fault.CRASH_BEFORE),
    "the payout was made": ("pay", Fault.CRASH_AFTER),
    "the settlement never left": ("settle", Fault.CRASH_BEFORE),
    "the settlement was made": ("settle", Fault.CRASH_AFTER),
    "the invoice was made": ("add_hold", Fault.CRASH_AFTER),
    "the invoice was cancelled": ("cancel", Fault.CRASH_AFTER),
}
"""At which call the broker dies."""


def _all(story: Story) -> dict[str, Any]:
    """What is written down for good, what the node holds and has paid, and what everybody has."""
    node = story.world.node
    return {
        **{table: story.books.rows(f"SELECT * FROM {table}") for table in LOGS},
        "states": story.books.rows("SELECT id, state, attempts FROM escrow ORDER BY id"),
        "statuses": story.books.rows("SELECT id, status FROM job ORDER BY id"),
        "holds": {payment_hash: hold.state for payment_hash, hold in node.holds.items()},
        "paid": dict(node.successes),
        "balances": dict(node.balances),
    }


async def _recover(story: Story) -> None:
    """Start, and do once all that a broker does by itself; what waits for a moment is given that moment."""
    await story.play_all(Op("kill"), Op("start"), Op("tick"), Op("sweep"))


async def _require_the_second_adds_nothing(story: Story) -> None:
    await _recover(story)
    story.world.clock.time += 61
    await story.play_all(Op("tick"), Op("sweep"), Op("sweep"))
    first = _all(story)
    assert first["escrow_event"] != []
    for _ in range(2):
        await _recover(story)
        assert _all(story) == first
    assert await story.heal(diligent=True) == []


@pytest.mark.parametrize(
    ("lost", "mode"),
    [
        pytest.param(lost, mode, id=f"{lost}, {name}")
        for lost, (call, _) in LOST.items()
        for mode, name in ((AUTO, "escrow"), (CREDIT, "credit"))
        if (call, name) != ("pay", "credit")
    ],
)
async def test_to_recover_twice_adds_nothing_to_having_recovered_once(
    story: Story, lost: str, mode: int
) -> None:
    call, fault = LOST[lost]
    node = story.world.node
    if call == "add_hold":
        node.faults = [(call, fault)]
        await story.play_all(Op("hire", number=mode))
    else:
        await story.play_all(Op("hire", number=mode), Op("pay"))
        node.faults = [(call, fault)]
        await story.play_all(*((Op("cancel"),) if call == "cancel" else (Op("lease"), Op("deliver"))))
    assert story.world.working(0) is None, "the broker has died there"
    await _require_the_second_adds_nothing(story)


@pytest.mark.parametrize("number", [AUTO, REVIEW], ids=["at work", "under review"])
async def test_to_recover_twice_adds_nothing_to_a_job_that_waits_for_somebody(
    story: Story, number: int
) -> None:
    await story.play_all(Op("hire", number=number), Op("pay"), Op("lease"))
    if number == REVIEW:
        await story.play_all(Op("deliver"))
    await _require_the_second_adds_nothing(story)


async def test_to_recover_twice_adds_nothing_to_a_payout_without_an_outcome(story: Story) -> None:
    await story.play_all(Op("hire"), Op("pay"), Op("lease"))
    job = story.job(0)
    assert job is not None
    story.world.node.outcomes[PaymentHash(job["payment_hash"])] = [Outcome()]
    await story.play_all(Op("deliver"))
    await _require_the_second_adds_nothing(story)
