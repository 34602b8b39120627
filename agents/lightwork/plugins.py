"""Agents from files: what `lightwork run FILE...` loads."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path

from lightwork.agent import Agent
from lightwork.errors import AgentInvalid, AgentNotLoaded


def load_agents(path: Path) -> tuple[Agent, ...]:
    """Run the file at `path` and return the agents that it declares at its top level.

    Raises:
        AgentNotLoaded: there is no such file, it raised, or it declares no agent with a task.
    """
    file = path.expanduser().resolve()
    if not file.is_file():
        raise AgentNotLoaded(
            f"{path}: there is no such file", hint="give the path of a Python file with an Agent"
        )
    # The same stem in two folders must not become one module.
    name = (
        f"lightwork_agent_{file.stem.replace('-', '_')}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    )
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise AgentNotLoaded(f"{path}: not a Python file", hint="its name should end with .py")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs: dataclasses and pydantic look their module up to resolve annotations.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except AgentInvalid as error:
        sys.modules.pop(name, None)
        raise AgentNotLoaded(str(error), hint=error.hint) from error
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise AgentNotLoaded(f"{path}: {_place(error, file)}{type(error).__name__}: {error}") from error
    agents = tuple(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Agent)))
    if not agents:
        raise AgentNotLoaded(
            f"{path}: no Agent in it", hint='declare one at the top level: agent = Agent("echo")'
        )
    for agent in agents:
        if not agent.tasks:
            raise AgentNotLoaded(
                f"{path}: agent '{agent.name}' sells nothing",
                hint="decorate a function with @agent.task(price=...)",
            )
    return agents


def _place(error: BaseException, file: Path) -> str:
    """The author's own line, out of a traceback that is otherwise the import system's."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f"line {lines[-1]}: " if lines else ""
