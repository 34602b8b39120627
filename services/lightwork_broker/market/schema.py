"""Checking inputs and outputs against a listing's JSON Schema, within a budget.

Schemas come from strangers and run in the broker, so nothing is fetched, patterns are not run (a hostile
regular expression can take for ever; the provider checks them itself), and work is counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, cast

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from lightwork_broker.errors import ListingInvalid
from lightwork_contracts.signed.canonical import canonical_json
from lightwork_contracts.wire.problems import FieldError

_NO_REGISTRY: Any = cast("Any", Registry)()

STEP_BUDGET = 50_000
MOST_ERRORS = 5

# Not run here: hostile patterns and quadratic comparisons. The provider's own model still checks them.
_NOT_RUN = ("pattern", "patternProperties", "uniqueItems", "format")

_steps: ContextVar[int] = ContextVar("lightwork_schema_steps", default=0)


class SchemaTooComplex(Exception):
    """Checking took more steps than any honest schema needs."""


_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _counted(keyword: _Keyword) -> _Keyword:
    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        steps = _steps.get() + 1
        if steps > STEP_BUDGET:
            raise SchemaTooComplex
        _steps.set(steps)
        yield from keyword(validator, value, instance, schema) or ()

    return run


_KEYWORDS = cast("dict[str, _Keyword]", Draft202012Validator.VALIDATORS)
_BudgetedValidator: Any = cast("Any", validators).extend(
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in _KEYWORDS.items() if name not in _NOT_RUN}
    | {name: None for name in _NOT_RUN if name in _KEYWORDS},
)


def check_schema(schema: dict[str, JsonValue], *, what: str) -> None:
    """Refuse a schema that is none, or that points outside of itself.

    Raises:
        ListingInvalid: with what is wrong.
    """
    if (reference := _foreign_reference(schema)) is not None:
        raise ListingInvalid(
            f"the {what} refers to {reference!r}; only references within it (#/...) are allowed"
        )
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        message = error.message if isinstance(error, SchemaError) else "it is nested too deeply"
        raise ListingInvalid(f"the {what} is not a JSON Schema: {message[:200]}") from None


def errors_of(value: JsonValue, schema: dict[str, JsonValue]) -> tuple[FieldError, ...]:
    """Return where a value does not fit a schema; empty when it fits."""
    token = _steps.set(0)
    found: list[FieldError] = []
    try:
        validator = _validator(canonical_json(schema))
        for error in validator.iter_errors(value):
            pointer = "".join(f"/{part}" for part in error.absolute_path)
            found.append(FieldError(pointer=pointer, message=str(error.message)[:300]))
            if len(found) >= MOST_ERRORS:
                break
    except SchemaTooComplex:
        found.append(FieldError(pointer="", message="the schema needs too much work to check"))
    except (RecursionError, Unresolvable):
        found.append(FieldError(pointer="", message="the schema's references cannot be followed"))
    finally:
        _steps.reset(token)
    return tuple(found)


@lru_cache(maxsize=256)
def _validator(schema_text: str | bytes) -> Any:
    return _BudgetedValidator(json.loads(schema_text), registry=_NO_REGISTRY)


def _foreign_reference(node: JsonValue) -> str | None:
    pending: list[JsonValue] = [node]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key in ("$ref", "$dynamicRef"):
                target = item.get(key)
                if isinstance(target, str) and not target.startswith("#"):
                    return target
            if "$id" in item and isinstance(item["$id"], str):
                return item["$id"]
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return None
