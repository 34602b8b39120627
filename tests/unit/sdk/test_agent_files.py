"""Agents from files: what loads, and what is said when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwork.errors import AgentNotLoaded
from lightwork.plugins import load_agents

GOOD = '''
from __future__ import annotations
from pydantic import BaseModel
from lightwork import Agent, sats

class Answer(BaseModel):
    text: str

agent = Agent("good")
same = agent

@agent.task(price=sats(1))
async def good(text: str) -> Answer:
    """Answer."""
    return Answer(text=text)
'''


def file(folder: Path, text: str, name: str = "agent.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_an_agent_is_found_once_with_annotations_of_its_own_file(tmp_path: Path) -> None:
    (agent,) = load_agents(file(tmp_path, GOOD))
    assert list(agent.tasks) == ["good"]


def test_two_files_of_one_name_are_two_agents(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = load_agents(file(tmp_path, GOOD))[0]
    second = load_agents(file(tmp_path / "other", GOOD.replace('"good"', '"better"')))[0]
    assert (first.name, second.name) == ("good", "better")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nraise ValueError('oh')", "line 2: ValueError: oh"),
        ("def", "line 1: SyntaxError"),
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "no Agent in it"),
        ("from lightwork import Agent\nagent = Agent('empty')", "sells nothing"),
        (GOOD.replace("text: str)", "text)"), r"agent\.py:12: good\(\): parameter 'text' has no annotation"),
    ],
)
def test_a_file_that_does_not_load_says_where_and_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AgentNotLoaded, match=said):
        load_agents(file(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AgentNotLoaded, match="no such file"):
        load_agents(tmp_path / "missing.py")
