"""A broker whose clock is an hour wrong, jumps back, or sees many blocks at once costs nobody money."""

from __future__ import annotations

import pytest
from escrow_story import Op, Story
from faulty_node import Fault, Outcome

from lightwork_contracts.ids import PaymentHash

pytestmark = pytest.mark.parametrize("template", ["sqlite"], indirect=True, scope="session")

HOUR = 3_600.0
AUTO, REVIEW = 0, 1

FUNDED = (Op("hire"), Op("pay"))
WORKING = (*FUNDED, Op("lease"))
MOMENTS: dict[str, tuple[Op, ...]] = {
    "open": (Op("hire"),),
    "funded": FUNDED,
    "working": WORKING,
    "delivered": (Op("hire", number=REVIEW), Op("pay"), Op("lease"), Op("deliver")),
    "disputed": (Op("hire", number=REVIEW), Op("pay"), Op("lease"), Op("deliver"), Op("reject")),
    "releasing": (*WORKING, Op("node_down"), Op("deliver"), Op("node_up")),
    "stuck": WORKING,
    "on the wire": WORKING,
    "answer lost": WORKING,
    "canceling": (*FUNDED, Op("node_down"), Op("cancel"), Op("node_up")),
}
"""How each moment is reached, at which the clock goes wrong."""

PAYING = ("stuck", "on the wire", "answer lost")
"""The moments from which the provider is paid, so that the job must end settled."""

WRONG: dict[str, tuple[float, ...]] = {
    "an hour fast": (HOUR,),
    "an hour slow": (-HOUR,),
    "fast, then right again": (HOUR, 0.0),
    "slow, then right again": (-HOUR, 0.0),
    "back and forth": (HOUR, -HOUR, HOUR, 0.0),
}
BURST = 7
"""The number that means 120 blocks at once."""


async def _reach(story: Story, moment: str) -> None:
    await story.play_all(*MOMENTS[moment])
    if moment in PAYING:
        job = story.job(0)
        assert job is not None
        node = story.world.node
        if moment == "stuck":
            node.outcomes[PaymentHash(job["payment_hash"])] = [Outcome()]
        else:
            node.faults = [("pay", Fault.SLOW_BEFORE if moment == "on the wire" else Fault.LOST_AFTER)]
        await story.play_all(Op("deliver"))


async def _look_around(story: Story) -> None:
    """Let the broker do for a while what it does by itself."""
    for seconds in (0, 2, 11):
        story.world.clock.time += seconds
        story.world.node.time_passes()
        await story.play_all(Op("tick"), Op("sweep"))


def _ends(story: Story) -> tuple[str, str]:
    (row,) = story.books.rows("SELECT status, state FROM job JOIN escrow USING (id)")
    return row["status"], row["state"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_clock_that_is_an_hour_wrong_or_jumps_costs_nobody_money(
    story: Story, moment: str, wrong: str
) -> None:
    await _reach(story, moment)
    for wrong_by in WRONG[wrong]:
        story.world.brokers_clock.wrong_by = wrong_by
        await _look_around(story)
    assert await story.heal(diligent=True) == []
    ends = _ends(story)
    if moment in PAYING:
        assert ends == ("settled", "settled")
    else:
        assert ends in (("settled", "settled"), ("refunded", "canceled"), ("expired", "canceled"))


@pytest.mark.parametrize("wrong_by", [HOUR, -HOUR])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_broker_that_starts_with_a_wrong_clock_costs_nobody_money(
    story: Story, moment: str, wrong_by: float
) -> None:
    await _reach(story, moment)
    await story.play_all(Op("kill"))
    story.world.brokers_clock.wrong_by = wrong_by
    await story.play_all(Op("start"))
    await _look_around(story)
    assert await story.heal(diligent=True) == []
    if moment in PAYING:
        assert _ends(story) == ("settled", "settled")


@pytest.mark.parametrize("moment", MOMENTS)
async def test_many_blocks_at_once_cost_nobody_money(story: Story, moment: str) -> None:
    await _reach(story, moment)
    await story.play_all(Op("mine", number=BURST))
    assert await story.heal(diligent=True) == []
