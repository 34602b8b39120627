"""Logging: structured lines on standard error, with whatever looks like a secret taken out."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = frozenset({"preimage", "macaroon", "authorization", "secret", "key", "password"})
_HEX = re.compile(r"\b[0-9a-fA-F]{64,}\b")
_KNOWN_HEX = frozenset({"payment_hash", "node", "pubkey", "provider", "buyer"})


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out secrets: fields named like one, and long hex in free text, which may be a preimage."""
    for name, value in event.items():
        if name in _SECRET_NAMES:
            event[name] = "[redacted]"
        elif isinstance(value, str) and name not in _KNOWN_HEX:
            event[name] = _HEX.sub("[redacted]", value)
    return event


def configure(*, as_json: bool) -> None:
    """Set up logging for a broker process."""
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        redact,
        renderer,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
