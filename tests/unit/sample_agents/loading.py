"""The sample agents as a runner loads them: from their files."""

from __future__ import annotations

from pathlib import Path

from lightwork import Agent
from lightwork.plugins import load_agents

FOLDER = Path(__file__).parents[3] / "agents" / "sample-agents"


def sample(name: str) -> Agent:
    """Load one sample agent."""
    (agent,) = load_agents(FOLDER / f"{name}.py")
    return agent
