"""Whatever fails, whoever crashes: nobody pays for nothing, and nobody works unpaid.

Lists of operations run against the real escrow service, jobs, reconciler and database, with a node in memory
that loses answers, delays calls and kills brokers. `LIGHTWORK_TEST_PROFILE=nightly` runs many more. What was found
once is kept as a script in `escrow_regressions.py`, and played each time.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from databases import Template
from escrow_regressions import SCRIPTS, Script
from escrow_story import OPS, Op, open_story
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NIGHTLY = os.environ.get("LIGHTWORK_TEST_PROFILE") == "nightly"
EXAMPLES = 3_000 if NIGHTLY else 60

weighted = [name for name, weight in OPS.items() for _ in range(weight)]
ops = st.builds(
    Op,
    name=st.sampled_from(weighted),
    job=st.integers(0, 2),
    broker=st.integers(0, 1),
    number=st.integers(0, 1_023),
)


async def _play(template: Template, script: list[Op], *, brokers: int) -> list[str]:
    async with open_story(template, brokers=brokers) as story:
        for op in (Op("hire", number=sum(op.number for op in script)), *script):
            if breaches := await story.play(op):
                return [f"after {op}:", *breaches]
        return await story.heal(diligent=len(script) % 2 == 0)


@given(script=st.lists(ops, min_size=4, max_size=40), brokers=st.sampled_from([1, 1, 2]))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
def test_no_fault_costs_anybody_money(template: Template, script: list[Op], brokers: int) -> None:
    assert asyncio.run(_play(template, script, brokers=brokers)) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_a_script_that_is_kept_costs_nobody_money(template: Template, script: Script) -> None:
    async with open_story(template, brokers=script.brokers) as story:
        for op in script.ops:
            assert await story.play(op) == [], op
        assert await story.heal(diligent=script.diligent) == []
        states = {row["state"] for row in story.books.rows("SELECT state FROM escrow")}
        assert story.reached | states >= script.reaches
