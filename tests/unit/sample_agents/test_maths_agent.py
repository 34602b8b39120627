"""Maths: right answers, and inputs that try to run code, to fill the memory or never to end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import cast

import pytest
from pydantic import JsonValue
from unit.sample_agents.loading import FOLDER, sample
from unit.sample_agents.running import child_started, children, run

from lightwork import Agent, TaskFailed, TaskRefused, sats
from lightwork.errors import InputInvalid
from lightwork.publishing import tasks_of

ENDLESS = "exp(sin(x)**5)*log(cos(x)+x**7)/(x**3+tan(x))"
"""Sympy looks for its antiderivative for minutes."""


@pytest.fixture(scope="module")
def agent() -> Agent:
    return sample("maths")


@pytest.fixture(scope="module")
def read_formula(agent: Agent) -> Callable[[str], object]:
    """The function that turns a buyer's text into sympy's objects, out of the agent's file."""
    module = sys.modules[agent.tasks["solve"].function.__module__]
    return cast("Callable[[str], object]", vars(module)["read_formula"])


async def test_its_four_tasks_can_be_listed(agent: Agent) -> None:
    assert [task.name for task, _ in tasks_of([agent])] == ["solve", "simplify", "differentiate", "integrate"]
    assert await agent.tasks["solve"].quote({"equation": "x = 1"}) == sats(10)


async def test_an_equation_is_solved_exactly_with_decimals(agent: Agent) -> None:
    result = await run(agent, "solve", equation="x^2 = 2")
    assert result["always"] is False
    solutions = cast("list[dict[str, JsonValue]]", result["solutions"])
    assert {(each["formula"], each["approximately"]) for each in solutions} == {
        ("-sqrt(2)", "-1.41421356237"),
        ("sqrt(2)", "1.41421356237"),
    }


async def test_a_formula_is_simplified(agent: Agent) -> None:
    result = await run(agent, "simplify", formula="sin(a)**2 + cos(a)**2 - 0.1 - 0.2")
    assert result == {"formula": "7/10", "latex": r"\frac{7}{10}", "approximately": "0.700000000000"}


async def test_a_formula_is_differentiated_as_often_as_asked(agent: Agent) -> None:
    result = await run(agent, "differentiate", formula="t**4 + y", variable="t", order=3)
    assert result == {"formula": "24*t", "latex": "24 t", "approximately": None}


async def test_an_antiderivative_is_found(agent: Agent) -> None:
    assert (await run(agent, "integrate", formula="x*exp(x)"))["formula"] == "(x - 1)*exp(x)"


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "__import__(x)",
        "__builtins__",
        "eval(x)",
        "exec(x)",
        "open(x)",
        "x.__class__",
        "(1).real",
        "x[0]",
        "[x]",
        "(x, y)",
        "{x}",
        "'x'",
        "f'{x}'",
        "b'x'",
        "lambda: x",
        "(x := 1)",
        "[y for y in x]",
        "x if y else z",
        "x and y",
        "not x",
        "x < y",
        "x == y",
        "x // y",
        "x % y",
        "x @ y",
        "x << 9",
        "~x",
        "await x",
        "...",
        "None",
        "True",
        "1j",
        "sin",
        "sin()",
        "sin(x, y)",
        "sin(*x)",
        "log(x=2)",
        "sin(x)(y)",
        "factorial(x)",
        "oo",
        "nan",
        "_x",
        "x" * 21,
        "ｓｉｎ(x)",  # noqa: RUF001 - full-width letters, which Python takes for the plain ones
        "x\0",
        "",
        " ",
        "2x",
        "x +",
        "x; y",
        "x = 1",
        "#",
    ],
)
def test_what_is_no_formula_is_refused(read_formula: Callable[[str], object], text: str) -> None:
    with pytest.raises(TaskRefused):
        read_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        "9^9^9^9",
        "x**(10**9)",
        "x**101",
        "x**-101",
        "x**(1/101)",
        "(2**100)**100",
        "2**((3-1)**50)",
        "(1/3)**(99*99)",
        "9" * 51,
        "9" * 999,
        "1e51",
        "1e-51",
        "1e999",
        "1/0",
        "1/(x-x)",
        "log(0)",
        "0**-1",
        "1/(1/x-1/x)",
    ],
)
def test_numbers_that_grow_without_end_are_refused_before_they_do(
    read_formula: Callable[[str], object], text: str
) -> None:
    with pytest.raises(TaskRefused):
        read_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 450 + "x" + ")" * 450,
        "-" * 999 + "x",
        "sin(" * 200 + "x" + ")" * 200,
        "x**" * 300 + "x",
        "x" + "+x" * 499,
        "+".join("abcdfghijkl"),
        "x" * 1_001,
    ],
)
def test_formulas_that_are_too_deep_or_too_large_are_refused(
    read_formula: Callable[[str], object], text: str
) -> None:
    with pytest.raises(TaskRefused):
        read_formula(text)


def test_the_largest_that_is_taken_is_read(read_formula: Callable[[str], object]) -> None:
    assert str(read_formula("x" + "+x" * 50)) == "51*x"
    assert str(read_formula("9" * 50)) == "9" * 50
    assert str(read_formula("x^100 + 2**-2 + .1")) == "x**100 + 7/20"
    assert str(read_formula("ln(abs(x)) + E*I*pi")) == "log(Abs(x)) + E*I*pi"


@pytest.mark.parametrize(
    ("task", "value"),
    [
        ("simplify", {"formula": ""}),
        ("simplify", {"formula": "x" * 1_001}),
        ("simplify", {"formula": "x" * 10_000_000}),
        ("simplify", {"formula": "'x'"}),
        ("simplify", {"formula": "x[0]"}),
        ("simplify", {"formula": "x\n"}),
        ("simplify", {"formula": "x = 1"}),
        ("simplify", {"formula": "\0"}),
        ("simplify", {"formula": "\ud800"}),
        ("simplify", {"formula": 2}),
        ("simplify", {"formula": ["x"]}),
        ("simplify", {"formula": {"x": 1}}),
        ("simplify", {"formula": None}),
        ("simplify", {}),
        ("simplify", {"formula": "x", "cpu_seconds": 9}),
        ("solve", {"equation": "x", "unknown": "x.y"}),
        ("solve", {"equation": "x", "unknown": ""}),
        ("differentiate", {"formula": "x", "order": 9}),
        ("differentiate", {"formula": "x", "order": 0}),
        ("differentiate", {"formula": "x", "order": 1.5}),
        ("differentiate", {"formula": "x", "order": True}),
    ],
)
async def test_an_input_outside_the_schema_starts_no_process(
    agent: Agent, task: str, value: dict[str, JsonValue]
) -> None:
    with pytest.raises(InputInvalid):
        await run(agent, task, **value)


@pytest.mark.parametrize(
    ("equation", "said"),
    [("1 = 2 = x", "an equation has one = at most"), ("a = 2", "the unknown is not in the equation")],
)
def test_an_equation_that_cannot_be_meant_is_refused(agent: Agent, equation: str, said: str) -> None:
    module = vars(sys.modules[agent.tasks["solve"].function.__module__])
    with pytest.raises(TaskRefused, match=said):
        module["answer_question"](module["_Question"](operation="solve", text=equation))


async def test_a_refusal_of_the_child_reaches_the_buyer(agent: Agent) -> None:
    with pytest.raises(TaskRefused, match="pi is no name for an unknown"):
        await run(agent, "solve", equation="x", unknown="pi")


async def test_work_without_end_is_stopped_and_the_agent_goes_on(agent: Agent) -> None:
    with pytest.raises(TaskFailed, match="it takes too"):
        await run(agent, "integrate", formula=ENDLESS)
    assert children("maths.py") == []
    assert (await run(agent, "solve", equation="x = x"))["always"] is True


async def test_a_cancelled_job_leaves_no_process(agent: Agent) -> None:
    job = asyncio.create_task(run(agent, "integrate", formula=ENDLESS))
    await child_started("maths.py")
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert children("maths.py") == []


@pytest.mark.parametrize(
    ("mebibytes", "said"),
    [(64, "it takes too much memory to work out"), (512, "the answer is too long")],
)
def test_a_result_without_measure_ends_at_a_limit(mebibytes: int, said: str) -> None:
    formula = "*".join(f"({letter}+1)**x" for letter in "abcdfghkl") + "*sin(x**x)"
    answer = child(operation="differentiate", text=formula, order=3, mebibytes=mebibytes)
    assert answer["failed"] == said
    assert answer["worked"] == []


def child(*, operation: str, text: str, order: int, mebibytes: int) -> dict[str, JsonValue]:
    """Ask the agent's file as the agent does, with limits of one's own."""
    question = {
        "operation": operation,
        "text": text,
        "order": order,
        "cpu_seconds": 30,
        "memory_bytes": mebibytes * 2**20,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(FOLDER / "maths.py")],
        input=json.dumps(question).encode(),
        capture_output=True,
        timeout=90,
        env={},
        check=True,
    )
    return json.loads(done.stdout)


def test_the_file_evaluates_no_text() -> None:
    source = (FOLDER / "maths.py").read_text()
    assert not [name for name in ("eval(", " exec(", "sympify", "parse_expr", "lambdify") if name in source]
