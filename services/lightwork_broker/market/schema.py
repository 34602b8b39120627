"""Checking inputs and outputs against a listing's JSON Schema, within a budget.

Schemas come from strangers and run in the broker, so nothing is fetched, patterns are not run (a hostile
regular expression can take for ever; the provider checks them itself), and work is counted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from lightwork_broker.errors import ListingInvalid
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.wire.problems import FieldError

_NO_REGISTRY: Any = cast("Any", Registry)()

QUICK_STEPS = 2_000
"""What is checked on the spot; a check that needs more goes on in a thread, beside everybody else's requests."""

STEP_BUDGET = 50_000
MOST_ERRORS = 5
BYTES_A_STEP = 256

# Not run here: hostile patterns and quadratic comparisons. The provider's own model still checks them.
_NOT_RUN = ("pattern", "patternProperties", "uniqueItems", "format")

_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
"""Keywords whose value maps names of the author's choice to schemas."""

_steps: ContextVar[int] = ContextVar("lightwork_schema_steps", default=0)
_budget: ContextVar[int] = ContextVar("lightwork_schema_budget", default=STEP_BUDGET)


_weights: ContextVar[Mapping[int, int]] = ContextVar("lightwork_schema_weights", default={})  # noqa: B039  (never written to)


class SchemaTooComplex(Exception):
    """Checking took more steps than any honest schema needs."""


_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(keyword: _Keyword) -> _Keyword:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        # A keyword costs as much as what it goes through, its own list and the value's, and as what the
        # library writes into an error message, which is both of them in full.
        weights = _weights.get()
        written = (weights.get(id(instance), 0) + weights.get(id(value), 0)) // BYTES_A_STEP
        steps = _steps.get() + 1 + _size(value) + _size(instance) + written
        if steps > _budget.get():
            raise SchemaTooComplex
        _steps.set(steps)
        yield from keyword(validator, value, instance, schema) or ()

    return run


def _passed(*_: object) -> tuple[ValidationError, ...]:
    return ()


_KEYWORDS = cast("dict[str, _Keyword]", Draft202012Validator.VALIDATORS)
_BudgetedValidator: Any = cast("Any", validators).extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in _KEYWORDS.items() if name not in _NOT_RUN}
    | {name: _passed for name in _NOT_RUN if name in _KEYWORDS},
)


def check_schema(schema: dict[str, JsonValue], *, what: str) -> None:
    """Refuse a schema that is none, that points outside of itself, or that cannot be checked safely.

    Raises:
        ListingInvalid: with what is wrong.
    """
    try:
        _check_keywords(schema, what=what)
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        message = error.message if isinstance(error, SchemaError) else "it is nested too deeply"
        raise ListingInvalid(f"the {what} is not a JSON Schema: {message[:200]}") from None


async def fit(value: JsonValue, schema: dict[str, JsonValue]) -> tuple[FieldError, ...]:
    """Return where a value does not fit a schema; empty when it fits. A long check does not hold others up."""
    try:
        return _errors(value, schema, budget=QUICK_STEPS)
    except SchemaTooComplex:
        return await asyncio.to_thread(errors_of, value, schema)


def errors_of(value: JsonValue, schema: dict[str, JsonValue]) -> tuple[FieldError, ...]:
    """Return where a value does not fit a schema, within the whole budget."""
    try:
        return _errors(value, schema, budget=STEP_BUDGET)
    except SchemaTooComplex:
        return (FieldError(pointer="", message="checking this against the schema takes too much work"),)


def _errors(value: JsonValue, schema: dict[str, JsonValue], *, budget: int) -> tuple[FieldError, ...]:
    steps, limit, weights = _steps.set(0), _budget.set(budget), _weights.set({})
    found: list[FieldError] = []
    try:
        validator = _validator(canonical_json(schema))
        heavy: dict[int, int] = {}
        _weigh(value, heavy)
        _weigh(cast("JsonValue", validator.schema), heavy)
        _weights.set(heavy)
        for error in validator.iter_errors(value):
            pointer = "".join(f"/{part}" for part in error.absolute_path)
            found.append(FieldError(pointer=pointer, message=str(error.message)[:300]))
            if len(found) >= MOST_ERRORS:
                break
    except SchemaTooComplex:
        raise
    except (
        RecursionError,
        Unresolvable,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ):
        # The schema and the value come from strangers: what the library trips over is a misfit, not a fault.
        found.append(FieldError(pointer="", message="this cannot be checked against the schema"))
    finally:
        _steps.reset(steps)
        _budget.reset(limit)
        _weights.reset(weights)
    return tuple(found)


@lru_cache(maxsize=256)
def _validator(schema_text: str | bytes) -> Any:
    return _BudgetedValidator(json.loads(schema_text), registry=_NO_REGISTRY)


def _weigh(value: JsonValue, weights: dict[int, int]) -> int:
    """Note how long each part of a value is when it is written out, about, by its identity."""
    if isinstance(value, dict):
        weight = 2 + sum(len(key) + 4 + _weigh(item, weights) for key, item in value.items())
    elif isinstance(value, list):
        weight = 2 + sum(2 + _weigh(item, weights) for item in value)
    elif isinstance(value, str):
        weight = len(value)
    else:
        return 8
    weights[id(value)] = weight
    return weight


def _size(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, list | dict) else 0


def _check_keywords(schema: dict[str, JsonValue], *, what: str) -> None:
    """Walk the schema as a schema: a property that is named like a keyword is none."""
    pending: list[JsonValue] = [schema]
    walked: set[int] = set()
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        if not isinstance(item, dict) or id(item) in walked:
            continue
        walked.add(id(item))
        for keyword in (
            "patternProperties",
            "$dynamicRef",
            "$recursiveRef",
            "$id",
            "$anchor",
            "$dynamicAnchor",
        ):
            if keyword in item:
                raise ListingInvalid(f"the {what} uses {keyword}, which this broker does not check")
        if "$ref" in item:
            # It may lead to what is otherwise no schema, such as a default.
            pending.append(_referred(item["$ref"], schema, what=what))
        for keyword, value in item.items():
            if keyword in _NAMED and isinstance(value, dict):
                pending.extend(value.values())
            elif keyword not in ("const", "enum", "default", "examples"):
                pending.append(value)


def _referred(target: JsonValue, schema: dict[str, JsonValue], *, what: str) -> JsonValue:
    """Return the schema that a reference leads to, within this one (`#` or `#/...`, RFC 6901)."""
    if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
        raise ListingInvalid(
            f"the {what} refers to {target!r}; only references within it (#/...) are allowed"
        )
    found: JsonValue = schema
    for part in unquote(target).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict | bool):
        raise ListingInvalid(f"the {what} refers to {target!r}, where there is no schema")
    return found
