"""Fixtures for every test, and the rule of where tests on real nodes may stand."""

from __future__ import annotations

from pathlib import Path

import pytest

# Its pytest plugin imports it at the end of a run otherwise, where CPython 3.11 can fail with "AST constructor
# recursion depth mismatch" after tests that went to the recursion limit.
from hypothesis.internal import observability
from regtest_network import network
from secret_search.plugin import (
    pytest_runtest_logreport,
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
)

__all__ = [
    "network",
    "observability",
    "pytest_runtest_logreport",
    "pytest_sessionfinish",
    "pytest_sessionstart",
    "pytest_terminal_summary",
]

_HERE = Path(__file__).parent
_REAL_NODE_FOLDERS = frozenset({"regtest", "contract", "e2e", "benchmarks"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that uses the network outside its folders; mark the others `regtest`."""
    for item in items:
        if not isinstance(item, pytest.Function) or "network" not in item.fixturenames:
            continue
        if item.path.relative_to(_HERE).parts[0] not in _REAL_NODE_FOLDERS:
            raise pytest.UsageError(
                f"{item.nodeid} uses real nodes: it belongs in tests/regtest or tests/e2e"
            )
        item.add_marker(pytest.mark.regtest)
