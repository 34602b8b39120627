"""Canonical JSON: one value, one text, so that a hash or a signature of it means one thing."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import cast

from pydantic import JsonValue

from lightwork_contracts.errors import CanonicalCode, CanonicalError

MAX_DEPTH = 64
MAX_BYTES = 4 * 1024 * 1024
MAX_INTEGER_BITS = 4096
MAX_EXACT_FLOAT = 2.0**53


def canonical_json(value: JsonValue, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the value as UTF-8 JSON: keys sorted by code point, no spaces, nothing escaped that need not be.

    A float without a fraction is written as the integer it equals, as other languages do; any other float in
    the shortest form that Python reads back as the same number.

    Raises:
        CanonicalError: NaN, infinity, a lone surrogate, an integer above 4,096 bits, or too deep or large.
    """
    settled = _settle(value, depth_left=max_depth)
    try:
        text = json.dumps(
            settled, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except UnicodeEncodeError:
        raise CanonicalError(CanonicalCode.VALUE, "a text holds half of a surrogate pair") from None
    if len(text) > max_bytes:
        raise CanonicalError(
            CanonicalCode.SIZE, f"{len(text)} bytes of JSON, at most {max_bytes} are allowed"
        )
    return text


def parse_canonical(text: str, *, max_depth: int = MAX_DEPTH, max_bytes: int = MAX_BYTES) -> JsonValue:
    """Return the value of a text that is already canonical; a key twice or a needless space is refused.

    Raises:
        CanonicalError: not JSON, or not its canonical form.
    """
    if len(text) > max_bytes:
        raise CanonicalError(
            CanonicalCode.SIZE, f"{len(text)} characters of JSON, at most {max_bytes} allowed"
        )
    try:
        value: JsonValue = json.loads(text)
    except RecursionError:
        raise CanonicalError(CanonicalCode.DEPTH, "the JSON is nested too deeply") from None
    except ValueError:
        raise CanonicalError(CanonicalCode.VALUE, "the text is not JSON") from None
    if canonical_json(value, max_depth=max_depth, max_bytes=max_bytes) != text.encode(errors="replace"):
        raise CanonicalError(CanonicalCode.VALUE, "the JSON is not in its canonical form")
    return value


def input_hash(value: JsonValue) -> str:
    """Return the SHA-256 of a task's input in canonical JSON, as 64 lower-case hex characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _settle(value: object, *, depth_left: int) -> JsonValue:
    match value:
        case None | bool() | str():
            return value
        case int():
            if value.bit_length() > MAX_INTEGER_BITS:
                raise CanonicalError(CanonicalCode.VALUE, f"an integer has at most {MAX_INTEGER_BITS} bits")
            return int(value)
        case float():
            return _settle_float(value)
        case _:
            pass
    if depth_left <= 0:
        raise CanonicalError(CanonicalCode.DEPTH, "the value is nested too deeply")
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        return {_key(key): _settle(item, depth_left=depth_left - 1) for key, item in members.items()}
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        return [_settle(item, depth_left=depth_left - 1) for item in items]
    raise CanonicalError(CanonicalCode.VALUE, f"{type(value).__name__} has no form in JSON")


def _settle_float(value: float) -> int | float:
    if not math.isfinite(value):
        raise CanonicalError(CanonicalCode.VALUE, "JSON has no NaN and no infinity")
    if value.is_integer() and abs(value) <= MAX_EXACT_FLOAT:
        return int(value)
    return float(value)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise CanonicalError(CanonicalCode.VALUE, "the keys of a JSON object are texts")
    return key
