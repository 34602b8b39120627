"""The agents in the README are agents: the SDK loads them, and what they would list is what the text says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
from docs_pages import PAGES, REPOSITORY, fences, snippet
from pydantic import BaseModel

from lightwork import Agent, TaskRefused, sats
from lightwork.plugins import load_agents


def load(folder: Path, marker: str) -> Agent:
    file = folder / f"{marker.split()[-1].replace('-', '_')}_snippet.py"
    file.write_text(snippet(marker))
    (agent,) = load_agents(file)
    return agent


@pytest.mark.parametrize("page", PAGES)
def test_every_python_block_says_how_it_is_tested(page: str) -> None:
    python = [fence for fence in fences(page) if fence.language == "python"]
    assert all(fence.marker.split()[:1] in (["agent"], ["program"], ["file"]) for fence in python)


def test_the_agent_on_the_first_screen_has_six_lines_and_is_the_sample_agent() -> None:
    lines = [line for line in snippet("agent echo").splitlines() if line.strip()]
    sample = (REPOSITORY / "agents" / "sample-agents" / "echo.py").read_text()
    assert len(lines) == 6
    assert [line for line in lines if line not in sample.splitlines()] == []


def test_the_agent_on_the_first_screen_lists_the_schema_that_its_signature_says(tmp_path: Path) -> None:
    task = load(tmp_path, "agent echo").tasks["echo"]
    schema = task.signature.input_schema
    assert task.price == sats(10)
    assert task.signature.description == "Return the text unchanged."
    assert schema["properties"] == {"text": {"title": "Text", "type": "string"}}
    assert schema["required"] == ["text"]
    assert task.signature.output_schema == {"type": "string"}


async def test_the_agent_that_counts_words_prices_counts_and_refuses(tmp_path: Path) -> None:
    task = load(tmp_path, "agent count-words").tasks["count-words"]
    assert callable(task.price)
    assert task.price(text="a" * 2_500) == sats(3)
    count = cast("Callable[..., Awaitable[BaseModel]]", task.function)
    assert (await count(text="three small words")).model_dump() == {"words": 3}
    with pytest.raises(TaskRefused):
        await count(text="  ")
