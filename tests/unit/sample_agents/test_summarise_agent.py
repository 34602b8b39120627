"""Summarise: the sentences that say most, always the same ones, and no text that takes it down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import cast, get_args

import pytest
from pydantic import JsonValue
from unit.sample_agents.loading import FOLDER, sample
from unit.sample_agents.running import run

from lightwork import Agent, TaskRefused, sats
from lightwork.errors import InputInvalid
from lightwork.publishing import tasks_of

TEXT = """
The lighthouse on the northern cape was built by fishermen. For eighty years its keeper lit the lamp of the
lighthouse by hand. My grandmother liked plums.

In winter storms the lamp of the lighthouse guided the fishermen home to the cape. Dr. Holm, who measured
the lamp, called it the brightest of the coast! It rained on Tuesday. Today a small motor turns the lamp,
and the keeper of the lighthouse is a museum guide.
"""


@pytest.fixture(scope="module")
def agent() -> Agent:
    return sample("summarise")


def public(agent: Agent, name: str) -> Callable[..., list[str]]:
    """One of the functions in the agent's file."""
    return cast(
        "Callable[..., list[str]]", vars(sys.modules[agent.tasks["summarise"].function.__module__])[name]
    )


def texts(summary: dict[str, JsonValue]) -> list[str]:
    return [cast("str", each["text"]) for each in cast("list[dict[str, JsonValue]]", summary["sentences"])]


async def test_its_price_grows_with_the_text(agent: Agent) -> None:
    ((task, _),) = tasks_of([agent])
    assert await task.quote({"text": "x"}) == sats(6)
    assert await task.quote({"text": "x" * 5_001}) == sats(7)
    assert await task.quote({"text": "x" * 100_000}) == sats(25)


async def test_the_sentences_that_share_most_with_the_others_are_told_in_order(agent: Agent) -> None:
    summary = await run(agent, "summarise", text=TEXT, sentences=3)
    numbers = [each["number"] for each in cast("list[dict[str, int]]", summary["sentences"])]
    assert numbers == sorted(numbers)
    assert len(numbers) == 3
    told = " ".join(texts(summary))
    assert "lighthouse" in told
    assert "plums" not in told
    assert "Tuesday" not in told
    assert all(sentence in " ".join(TEXT.split()) for sentence in texts(summary))
    assert (summary["sentences_in_text"], summary["words_in_text"]) == (7, len(TEXT.split()))


async def test_a_short_text_is_told_whole(agent: Agent) -> None:
    summary = await run(agent, "summarise", text="One ship sank. Two ships came home.", sentences=20)
    assert texts(summary) == ["One ship sank.", "Two ships came home."]


async def test_what_is_said_twice_is_told_once(agent: Agent) -> None:
    summary = await run(agent, "summarise", text="Buy this ship! " * 50 + "A ship sank.", sentences=5)
    assert texts(summary) == ["Buy this ship!", "A ship sank."]


def test_the_summary_is_the_same_in_every_process() -> None:
    program = (
        "import json, sys; from lightwork.plugins import load_agents; from pathlib import Path\n"
        "(agent,) = load_agents(Path(sys.argv[1]))\n"
        "print(agent.tasks['summarise'].function(sys.stdin.read(), 4).model_dump_json())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program, str(FOLDER / "summarise.py")],
            input=TEXT,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PYTHONHASHSEED": seed},
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert "lighthouse" in said.pop()


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Ek met J. R. Roe. They left.", ["Dr. Ek met J. R. Roe.", "They left."]),
        ("It cost 3.5 sats. Cheap? Yes!", ["It cost 3.5 sats.", "Cheap?", "Yes!"]),
        ('"Go." He went, e.g. home.', ['"Go."', "He went, e.g. home."]),
        ("A heading\n\nA line\nand its end.\r\n\r\nNext", ["A heading", "A line and its end.", "Next"]),
        ("end. small goes on", ["end. small goes on"]),
        ("Ende. Übel. Ärger.", ["Ende.", "Übel.", "Ärger."]),
        (" \n\t ", []),
    ],
)
def test_sentences_end_where_a_reader_sees_it(agent: Agent, text: str, sentences: list[str]) -> None:
    assert public(agent, "split_sentences")(text) == sentences


async def test_every_language_on_offer_is_known(agent: Agent) -> None:
    module = vars(sys.modules[agent.tasks["summarise"].function.__module__])
    for language in get_args(module["Language"]):
        summary = await run(
            agent, "summarise", text="Oslo ligger. Oslo gror.", sentences=1, language=language
        )
        assert len(texts(summary)) == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        "." * 100_000,
        ". " * 50_000,
        ".)" * 50_000,
        "\n" * 100_000,
        "\n " * 50_000,
        " " * 100_000,
        "A. " * 33_000,
        "(" * 100_000,
        "word " * 20_000,
        "x" * 100_000,
        "Sun sets. " * 10_000,
        "12 34. " * 14_000,
        "\0" * 10,
        "PK\x03\x04 not a text",
        "\x1b[2J",
    ],
)
async def test_a_text_of_no_or_endless_sentences_is_refused_at_once(agent: Agent, text: str) -> None:
    with pytest.raises(TaskRefused):
        await run(agent, "summarise", text=text)


@pytest.mark.timeout(60)
async def test_the_most_that_is_taken_is_done(agent: Agent) -> None:
    lines = [" ".join(f"W{(7 * i + j * j) % 900}" for j in range(12)) + "." for i in range(1_500)]
    summary = await run(agent, "summarise", text=" ".join(lines)[:100_000], sentences=20)
    assert len(texts(summary)) == 20


@pytest.mark.parametrize(
    "value",
    [
        {"text": ""},
        {"text": "x" * 100_001},
        {"text": "\ud800"},
        {"text": 1},
        {"text": None},
        {"text": [["x"]]},
        {"text": {"x": "y"}},
        {},
        {"text": "x", "sentences": 0},
        {"text": "x", "sentences": 21},
        {"text": "x", "sentences": 1.5},
        {"text": "x", "sentences": "3"},
        {"text": "x", "language": "klingon"},
        {"text": "x", "path": "/etc/passwd"},
    ],
)
async def test_an_input_outside_the_schema_is_not_taken(agent: Agent, value: dict[str, JsonValue]) -> None:
    with pytest.raises(InputInvalid):
        await run(agent, "summarise", **value)
