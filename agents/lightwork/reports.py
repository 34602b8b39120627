"""What a runner says of its own doings: one line per event, for people or as JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

logger = logging.getLogger("lightwork")


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened. `kind` is stable, for programs; `text` is for people."""

    kind: str
    text: str
    facts: Mapping[str, str | int] = field(default_factory=dict[str, str | int])


Tell = Callable[[Report], None]


def log_report(report: Report) -> None:
    """Write a report to the log `lightwork`."""
    logger.info("%s", report.text, extra={"kind": report.kind})
