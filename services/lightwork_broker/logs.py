"""Logging: lines on standard error, with whatever looks like a secret taken out of them.

What is secret is kept in types that do not print. This is the net below: for a secret that somebody logs all the same,
and for what other people's code logs.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, cast

import structlog

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:preimage|macaroon|authorization|secret|key|password|token|seed|database)(?:$|_(?!hash))",
    re.IGNORECASE,
)
_KNOWN_HEX = frozenset({"payment_hash", "node", "pubkey", "provider", "buyer"})
_TAKEN_OUT: Final = "[redacted]"
_SHAPES: Final = (
    (re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{64,}"), _TAKEN_OUT),  # a preimage, a key, a macaroon
    (re.compile(r"AgEDbG5k[A-Za-z0-9+/=_-]+"), _TAKEN_OUT),  # a macaroon of LND in base64
    (
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{43}=(?![A-Za-z0-9+/=_-])"),
        _TAKEN_OUT,
    ),  # 32 bytes in base64
    (re.compile(r"whsec_[A-Za-z0-9+/=_-]+"), _TAKEN_OUT),
    (re.compile(r"(Nostr|Bearer|Basic|L402) [A-Za-z0-9+/=_:.-]{8,}"), rf"\1 {_TAKEN_OUT}"),
    (re.compile(r"(://[^\s:/@]+):[^\s/@]+@"), rf"\1:{_TAKEN_OUT}@"),  # a password in a URL
    (re.compile(r"""\bb(['"])(?=[^'"\n]*\\x)(?:[^\\\n]|\\.)*?\1"""), _TAKEN_OUT),  # bytes
)


def scrubbed(text: str) -> str:
    """Return a text without whatever in it has the shape of a secret."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out secrets: fields named like one, at any depth, and whatever has the shape of one."""
    for name, value in event.items():
        event[name] = _clean(value, name=name)
    return event


def _clean(value: object, *, name: str) -> object:
    if _SECRET_NAME.search(name):
        return _TAKEN_OUT
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return value if name in _KNOWN_HEX else scrubbed(value)
        case bytes() | bytearray():
            return _TAKEN_OUT
        case Mapping():
            inner = cast("Mapping[object, object]", value)
            return {str(key): _clean(part, name=str(key)) for key, part in inner.items()}
        case list() | tuple() | set() | frozenset():
            return [_clean(part, name=name) for part in cast("Iterable[object]", value)]
        case _:
            return scrubbed(str(value))


class ScrubbingFormatter(logging.Formatter):
    """Formats what other people's code logs, tracebacks included, without whatever has the shape of a secret."""

    def format(self, record: logging.LogRecord) -> str:
        return scrubbed(super().format(record))


def processors(*, as_json: bool) -> list[Any]:
    """Return what an event goes through; exceptions become text, without any frame's variables, before the net."""
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
        redact,
        renderer,
    ]


def configure(*, as_json: bool) -> None:
    """Set up logging for a broker process."""
    structlog.configure(
        processors=processors(as_json=as_json),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ScrubbingFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
