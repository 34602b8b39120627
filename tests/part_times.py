"""How long each folder of tests took, below pytest's own summary; `make` loads it with `-p part_times`."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from _pytest.terminal import TerminalReporter

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count set-up and tear-down to the folder of the test, too: the network's start is part of it."""
    part = "/".join(report.nodeid.split("/")[:2])
    _seconds[part] += report.duration
    if report.when == "call":
        _tests[part] += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """One line for each folder, in the order in which they ran."""
    if not _seconds:
        return
    terminalreporter.section("time by part")
    for part, seconds in _seconds.items():
        terminalreporter.write_line(f"{part:24} {_tests[part]:5} tests {seconds:8.1f} s")
