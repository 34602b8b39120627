"""A stranger's worst input to each sample agent, hired on a market: a clear failure, no msat moved, a living agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from pydantic import JsonValue
from unit.sample_agents.loading import sample
from unit.sample_agents.running import children

from lightwork.errors import LightworkError
from lightwork.testing import LocalMarket, local_market

ENDLESS = "exp(sin(x)**5)*log(cos(x)+x**7)/(x**3+tan(x))"


@dataclass(frozen=True, slots=True)
class Wares:
    """One task, what it can do, and what a stranger sends."""

    agent: str
    task: str
    good: dict[str, JsonValue]
    bad: tuple[dict[str, JsonValue], ...]
    child: str = ""
    """The program that works for it in a process of its own."""


def _deep(levels: int) -> JsonValue:
    nested: JsonValue = "x"
    for _ in range(levels):
        nested = [nested]
    return nested


WARES = (
    Wares(
        "echo",
        "echo",
        {"text": "hi"},
        ({"text": "x" * 300_000}, {"text": 7}, {"text": _deep(500)}, {"text": "\ud800"}, {}),
    ),
    Wares(
        "summarise",
        "summarise",
        {"text": "Oslo lies by a fjord. Oslo grows by the fjord. Ships come."},
        (
            {"text": "x" * 100_000},
            {"text": "word " * 20_000},
            {"text": "PK\x03\x04 not a text"},
            {"text": "\0" * 10},
            {"text": "x" * 300_000},
            {"text": _deep(500)},
        ),
    ),
    Wares(
        "review",
        "review",
        {"source": "x = 1\n"},
        (
            {"source": "[" * 100_000},
            {"source": "x=" + "-" * 99_000 + "1"},
            {"source": "x = 1\0"},
            {"source": "x", "rules": ["--config=/etc/passwd"]},
            {"source": "x" * 300_000},
            {"source": _deep(500)},
        ),
        child="ruff",
    ),
    Wares(
        "maths",
        "solve",
        {"equation": "x^2 = 4"},
        (
            {"equation": "9**9**9**9"},
            {"equation": "(" * 450 + "x" + ")" * 450},
            {"equation": "__import__('os').system('id')"},
            {"equation": "x" * 300_000},
            {"equation": _deep(500)},
        ),
        child="maths.py",
    ),
    Wares("maths", "integrate", {"formula": "2*x"}, ({"formula": ENDLESS},), child="maths.py"),
)


@asynccontextmanager
async def _for_sale(wares: Wares) -> AsyncGenerator[LocalMarket]:
    async with local_market(sample(wares.agent)) as market:
        yield market


@pytest.mark.parametrize("wares", WARES, ids=lambda wares: wares.task)
async def test_the_worst_input_is_a_clear_failure_without_cost_and_the_agent_goes_on(wares: Wares) -> None:
    async with _for_sale(wares) as market:
        for bad in wares.bad:
            with pytest.raises(LightworkError) as caught:
                await market.hire(wares.task, **bad)
            assert str(caught.value) != ""
            assert len(str(caught.value)) < 2_000, "what was sent is not sent back"
            balances = await market.balances()
            assert (balances.buyer, balances.provider) == (0, 0)
            assert wares.child == "" or children(wares.child) == []
        job = await market.hire(wares.task, **wares.good)
        assert job.status == "settled"
        assert (await market.balances()).buyer == -job.paid_msat < 0
