"""Review: findings as data, and sources that try to run, to configure ruff, or to fill the agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
from pydantic import JsonValue
from unit.sample_agents.loading import sample
from unit.sample_agents.running import children, run

from lightwork import Agent, TaskRefused, sats
from lightwork.errors import InputInvalid
from lightwork.publishing import tasks_of


@pytest.fixture(scope="module")
def agent() -> Agent:
    return sample("review")


def findings(review: dict[str, JsonValue]) -> list[dict[str, JsonValue]]:
    return cast("list[dict[str, JsonValue]]", review["findings"])


async def test_its_one_task_can_be_listed(agent: Agent) -> None:
    assert [task.name for task, _ in tasks_of([agent])] == ["review"]
    assert await agent.tasks["review"].quote({"source": "x"}) == sats(20)


async def test_findings_tell_rule_place_message_and_whether_ruff_mends_them(agent: Agent) -> None:
    result = await run(agent, "review", source="import os\n\n\ndef f(a=[]):\n    return a\n")
    assert result["valid_syntax"] is True
    assert result["findings_count"] == 2
    first, second = findings(result)
    assert first == {
        "rule": "F401",
        "line": 1,
        "column": 8,
        "end_line": 1,
        "end_column": 10,
        "message": "`os` imported but unused",
        "fixable": True,
    }
    assert (second["rule"], second["line"], second["fixable"]) == ("B006", 4, False)


async def test_a_clean_file_has_no_findings(agent: Agent) -> None:
    result = await run(agent, "review", source='"""Nothing."""\n')
    assert (result["findings"], result["findings_count"], result["valid_syntax"]) == ([], 0, True)


async def test_only_the_rules_asked_for_are_applied(agent: Agent) -> None:
    result = await run(agent, "review", source="import os\nx = 1;\n", rules=["E703"])
    assert [each["rule"] for each in findings(result)] == ["E703"]


async def test_syntax_is_judged_by_the_version_asked_for(agent: Agent) -> None:
    source = "type X = int\n"
    old = await run(agent, "review", source=source, python="3.11")
    new = await run(agent, "review", source=source, python="3.14")
    assert (old["valid_syntax"], new["valid_syntax"]) == (False, True)
    assert findings(old)[0]["rule"] == "invalid-syntax"


async def test_the_source_is_never_run(agent: Agent, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    await run(agent, "review", source=f"open({str(mark)!r}, 'w').write('ran')\n")
    assert os.listdir(tmp_path) == []


async def test_no_configuration_or_environment_around_the_agent_counts(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ruff.toml").write_text('[lint]\nignore = ["F401"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUFF_OUTPUT_FORMAT", "concise")
    monkeypatch.setenv("RUFF_OUTPUT_FILE", str(tmp_path / "out"))
    result = await run(agent, "review", source="import os\n")
    assert [each["rule"] for each in findings(result)] == ["F401"]
    assert os.listdir(tmp_path) == ["ruff.toml"]


async def test_of_too_many_findings_the_first_are_listed_and_all_are_counted(agent: Agent) -> None:
    result = await run(agent, "review", source="a = 1;\n" * 5_000 + "x = (")
    assert len(findings(result)) == 200
    assert cast("int", result["findings_count"]) > 5_000
    assert result["valid_syntax"] is False
    assert "invalid-syntax" not in [each["rule"] for each in findings(result)]


@pytest.mark.parametrize("source", ["x=" + "-" * 99_000 + "1", "[" * 100_000, "x=" + "1+" * 49_000 + "1"])
async def test_a_source_nested_beyond_reading_is_refused_and_the_agent_goes_on(
    agent: Agent, source: str
) -> None:
    with pytest.raises(TaskRefused, match="nested"):
        await run(agent, "review", source=source)
    assert children("ruff") == []
    assert (await run(agent, "review", source="x = 1\n"))["findings_count"] == 0


@pytest.mark.parametrize(
    "source", ["this is no Python at all\n", "\x01\x02\x7f" * 1_000, "{}<html>", "'" * 99_999]
)
async def test_what_is_no_python_gets_a_review_that_says_so(agent: Agent, source: str) -> None:
    assert (await run(agent, "review", source=source))["valid_syntax"] is False


async def test_a_null_character_is_refused(agent: Agent) -> None:
    with pytest.raises(TaskRefused, match="no text"):
        await run(agent, "review", source="x = 1\0")


async def test_a_rule_that_ruff_lacks_is_refused(agent: Agent) -> None:
    with pytest.raises(TaskRefused, match="does not know"):
        await run(agent, "review", source="x", rules=["ZZ99"])


@pytest.mark.parametrize(
    "value",
    [
        {"source": ""},
        {"source": "x" * 100_001},
        {"source": "\ud800"},
        {"source": 1},
        {"source": None},
        {"source": ["x"]},
        {"source": {"x": {"x": {}}}},
        {},
        {"source": "x", "rules": []},
        {"source": "x", "rules": ["F"] * 21},
        {"source": "x", "rules": "F"},
        {"source": "x", "rules": ["--config=/etc/passwd"]},
        {"source": "x", "rules": ["F,E"]},
        {"source": "x", "rules": ["F --fix"]},
        {"source": "x", "rules": ["F\n"]},
        {"source": "x", "python": "2.7"},
        {"source": "x", "path": "/etc/passwd"},
    ],
)
async def test_an_input_outside_the_schema_never_reaches_ruff(
    agent: Agent, value: dict[str, JsonValue]
) -> None:
    with pytest.raises(InputInvalid):
        await run(agent, "review", **value)
