"""The import contracts of pyproject.toml cover every module that they are about, and rules really are pure."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import cast

import pytest

REPOSITORY = Path(__file__).parents[3]
BROKER = REPOSITORY / "services" / "lightwork_broker"
PURE = ("machine.py", "rules.py")
DATABASE = ("sqlalchemy", "sqlmodel", "alembic", "psycopg")
MAY_HOLD_SQL = ("lightwork_broker.db", "lightwork_broker.schema")
HTTP = ("fastapi", "starlette", "uvicorn")
MAY_SPEAK_HTTP = tuple(
    f"lightwork_broker.{room}"
    for room in (
        "app",
        "network_app",
        "cli",
        "body_limit",
        "rate_limit",
        "refusals",
        "problems",
        "web",
        "gateways",
    )
)
TELLS_THE_TIME = {"now", "utcnow", "today", "monotonic", "perf_counter", "uuid4", "token_hex", "token_bytes"}


def modules() -> dict[str, Path]:
    """Return the broker's modules by dotted name, packages left out."""
    paths = [path for path in BROKER.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(BROKER.parent).with_suffix("").parts): path for path in paths}


def sources(contract: str) -> list[str]:
    """Return the source modules of the import contract whose name begins so."""
    described = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts = cast("list[dict[str, object]]", described["tool"]["importlinter"]["contracts"])
    (found,) = (entry for entry in contracts if cast("str", entry["name"]).startswith(contract))
    return cast("list[str]", found["source_modules"])


def imported(path: Path) -> set[str]:
    """Return the names that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return found


def within(module: str, parents: tuple[str, ...]) -> bool:
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def test_every_machine_and_rules_module_is_held_to_purity() -> None:
    pure = {name for name, path in modules().items() if path.name in PURE}
    assert pure
    assert pure <= set(sources("rules are pure"))


@pytest.mark.parametrize("module", sources("rules are pure"))
def test_a_pure_module_neither_awaits_nor_reads_a_clock(module: str) -> None:
    tree = ast.parse(modules()[module].read_text())
    waiting = [
        node for node in ast.walk(tree) if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncWith)
    ]
    telling = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in TELLS_THE_TIME
    ]
    assert (waiting, telling) == ([], [])


def test_only_stores_and_the_database_room_import_a_database() -> None:
    breaches = [
        (name, used)
        for name, path in modules().items()
        if not path.stem.endswith("store") and not within(name, MAY_HOLD_SQL)
        for used in imported(path)
        if within(used, DATABASE)
    ]
    assert breaches == []


def test_only_api_modules_and_the_edge_import_a_web_framework() -> None:
    breaches = [
        (name, used)
        for name, path in modules().items()
        if path.name != "api.py" and not within(name, MAY_SPEAK_HTTP)
        for used in imported(path)
        if within(used, HTTP)
    ]
    assert breaches == []
