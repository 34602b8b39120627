"""The signature is the schema, the docstring the advert, and what is missing is named with its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from lightwork import Acceptance, Agent, JobContext, TaskFailed, sats
from lightwork.errors import (
    AgentInvalid,
    AnnotationMissing,
    DocstringMissing,
    InputInvalid,
    OutputInvalid,
)
from lightwork.publishing import advert, tasks_of
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat

CONTEXT = JobContext(job_id=JobId("job_" + "0" * 26), deadline=datetime(2030, 1, 1, tzinfo=UTC))


class Point(BaseModel):
    x: int
    y: int = 0


def sold(function: Callable[..., object], **options: Msat) -> Agent:
    agent = Agent("test")
    agent.task(price=options.get("price", sats(1)))(function)
    return agent


async def test_a_decorated_function_is_still_the_function() -> None:
    agent = Agent("test")

    @agent.task(price=sats(1))
    async def shout(text: str) -> str:
        """Say it loudly."""
        return text.upper()

    assert await shout("hi") == "HI"
    assert await shout(text="hi") == "HI"


def test_the_signature_becomes_a_schema_of_the_input_and_of_the_output() -> None:
    def move(start: Point, steps: Annotated[int, Field(ge=1, le=9)] = 1) -> list[Point]:
        """Move a point."""
        return [start] * steps

    signature = sold(move).tasks["move"].signature
    assert signature.input_schema["required"] == ["start"]
    assert signature.input_schema["additionalProperties"] is False
    properties = signature.input_schema["properties"]
    assert isinstance(properties, dict)
    assert properties["steps"] == {
        "default": 1,
        "maximum": 9,
        "minimum": 1,
        "title": "Steps",
        "type": "integer",
    }
    assert signature.output_schema["type"] == "array"


async def test_input_is_parsed_into_what_the_annotations_say_and_output_back_into_json() -> None:
    def move(start: Point, steps: int = 2) -> list[Point]:
        """Move a point."""
        return [Point(x=start.x + step) for step in range(steps)]

    task = sold(move).tasks["move"]
    assert await task.run({"start": {"x": 5}}, CONTEXT) == [{"x": 5, "y": 0}, {"x": 6, "y": 0}]


async def test_a_parameter_may_be_called_like_a_method_of_a_model() -> None:
    def odd(schema: str, copy: int, model_config: str) -> str:
        """Take odd names."""
        return f"{schema}{copy}{model_config}"

    assert await sold(odd).tasks["odd"].run({"schema": "a", "copy": 1, "model_config": "b"}, CONTEXT) == "a1b"


async def test_a_context_is_given_to_the_task_and_hidden_from_the_buyer() -> None:
    def who(job: JobContext, text: str) -> str:
        """Say which job this is."""
        return text + job.job_id

    task = sold(who).tasks["who"]
    assert list(task.signature.parameters) == ["text"]
    assert await task.run({"text": "I am "}, CONTEXT) == f"I am {CONTEXT.job_id}"
    with pytest.raises(InputInvalid):
        await task.run({"text": "", "job": "mine"}, CONTEXT)


def test_a_missing_annotation_names_file_line_function_and_parameter() -> None:
    def bad(text) -> str:  # type: ignore[no-untyped-def]
        """Lack something."""
        return str(text)  # pyright: ignore[reportUnknownArgumentType]

    with pytest.raises(AnnotationMissing) as caught:
        sold(bad)  # pyright: ignore[reportUnknownArgumentType]
    line = bad.__code__.co_firstlineno
    assert (
        caught.value.message == f"test_task_signatures.py:{line}: bad(): parameter 'text' has no annotation"
    )


def test_a_missing_return_annotation_is_refused() -> None:
    def bad(text: str):  # type: ignore[no-untyped-def]
        """Lack something."""
        return text

    with pytest.raises(AnnotationMissing, match="return value"):
        sold(bad)


def test_a_missing_docstring_is_refused() -> None:
    def bad(text: str) -> str:
        return text

    with pytest.raises(DocstringMissing, match=r"test_task_signatures\.py:\d+: bad\(\)"):
        sold(bad)


def test_what_cannot_be_sent_by_name_is_refused() -> None:
    def stars(*texts: str) -> str:
        """Take any."""
        return "".join(texts)

    def keywords(**texts: str) -> str:
        """Take any."""
        return "".join(texts)

    for function in (stars, keywords):
        with pytest.raises(AgentInvalid, match="by name"):
            sold(function)


def test_an_annotation_without_a_schema_is_refused() -> None:
    def bad(text: Callable[[], str]) -> str:
        """Take a function."""
        return text()

    with pytest.raises(AgentInvalid, match="JSON Schema"):
        sold(bad)


@pytest.mark.parametrize("price", [0, -1, 1.5, True, "10"])
def test_a_price_that_cannot_be_charged_is_refused_at_once(price: object) -> None:
    def task(text: str) -> str:
        """Do it."""
        return text

    agent = Agent("test")
    with pytest.raises(AgentInvalid, match="price"):
        agent.task(price=price)(task)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]  (refused)


def test_a_price_function_that_asks_for_what_the_task_does_not_take_is_refused() -> None:
    def price(words: str) -> Msat:
        return sats(len(words))

    def task(text: str) -> str:
        """Do it."""
        return text

    with pytest.raises(AgentInvalid, match="'words'"):
        Agent("test").task(price=price)(task)


async def test_a_price_function_may_wait_and_may_not_return_nonsense() -> None:
    async def price(text: str) -> Msat:
        return Msat(len(text))

    def task(text: str) -> str:
        """Do it."""
        return text

    agent = Agent("test")
    agent.task(price=price)(task)
    assert await agent.tasks["task"].quote({"text": "four"}) == 4
    with pytest.raises(TaskFailed, match="at least 1 msat"):
        await agent.tasks["task"].quote({"text": ""})


@pytest.mark.parametrize("value", [{"n": "5"}, {"n": 5.5}, {"n": True}, {"n": None}, {}, {"n": 5, "m": 6}])
async def test_input_is_not_bent_to_fit(value: dict[str, str | float | int | bool | None]) -> None:
    def double(n: int) -> int:
        """Double a number."""
        return 2 * n

    with pytest.raises(InputInvalid):
        await sold(double).tasks["double"].run({**value}, CONTEXT)


async def test_output_that_does_not_fit_or_has_no_json_is_refused() -> None:
    def number(text: str) -> float:
        """Read a number."""
        return float(text)

    task = sold(number).tasks["number"]
    assert await task.run({"text": "1.5"}, CONTEXT) == 1.5
    for text in ("nan", "inf"):
        with pytest.raises(OutputInvalid):
            await task.run({"text": text}, CONTEXT)


def test_two_tasks_of_one_name_are_refused_within_an_agent_and_across_agents() -> None:
    def echo(text: str) -> str:
        """Return it."""
        return text

    first, second = sold(echo), sold(echo)
    with pytest.raises(AgentInvalid, match="already sells"):
        first.task(price=sats(1))(echo)
    with pytest.raises(AgentInvalid, match="sold twice"):
        tasks_of([first, second])


def test_names_become_what_a_listing_allows() -> None:
    def chain_tip() -> int:
        """Tell the height."""
        return 1

    assert list(sold(chain_tip).tasks) == ["chain-tip"]
    with pytest.raises(AgentInvalid, match="no name for an agent"):
        Agent("Not Allowed")


def test_a_task_under_review_has_a_window_and_an_automatic_one_has_none() -> None:
    def task(text: str) -> str:
        """Do it."""
        return text

    agent = Agent("test")
    agent.task(price=sats(1), acceptance=Acceptance.REVIEW)(task)
    listed = advert(agent.tasks["task"], agent_name="test")
    assert (listed.acceptance, listed.review_seconds) == (Acceptance.REVIEW, 3_600)
    with pytest.raises(AgentInvalid, match="review_seconds"):
        Agent("test").task(price=sats(1), review_seconds=60)(task)


def test_an_advert_that_a_listing_does_not_allow_names_the_function() -> None:
    def task(text: str) -> str:
        """Do it."""
        return text

    task.__doc__ = "x" * 2_001
    agent = sold(task)
    with pytest.raises(AgentInvalid, match=r"task\(\): description"):
        tasks_of([agent])


def test_progress_outside_its_bounds_is_refused() -> None:
    for fraction, note in ((-0.1, None), (1.1, None), (0.5, "x" * 501)):
        with pytest.raises(ValueError, match="progress"):
            CONTEXT.progress(fraction, note)
