"""Schemas come from strangers: whatever they hold, checking ends soon, and with an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lightwork_broker.errors import ListingInvalid
from lightwork_broker.market.schema import check_schema, errors_of, fit


def _chain(length: int) -> dict[str, Any]:
    defs: dict[str, Any] = {
        f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}, {"$ref": f"#/$defs/a{i + 1}"}]}
        for i in range(length)
    }
    return {"type": "object", "$defs": {**defs, f"a{length}": {}}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "patternProperties": {"^(a+)+$": {}}}, "patternProperties"),
        ({"type": "object", "properties": {"x": {"patternProperties": {"a": {}}}}}, "patternProperties"),
        ({"$ref": "http://127.0.0.1/schema"}, "only references within it"),
        ({"$ref": "#/type", "type": "object"}, "no schema"),
        ({"$ref": "#/nowhere"}, "no schema"),
        ({"$id": "http://127.0.0.1/schema"}, "$id"),
        ({"$dynamicRef": "#x"}, "$dynamicRef"),
        ({"type": "nothing"}, "not a JSON Schema"),
    ],
)
def test_a_schema_that_cannot_be_checked_safely_is_refused_when_it_is_published(
    schema: dict[str, Any], says: str
) -> None:
    with pytest.raises(ListingInvalid, match=says.replace("$", r"\$")):
        check_schema(schema, what="input schema")


def test_a_property_may_be_named_like_a_keyword() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"patternProperties": {"type": "integer"}}}
    check_schema(schema, what="input schema")
    assert errors_of({"patternProperties": 1}, schema) == ()
    assert errors_of({"patternProperties": "1"}, schema) != ()


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({}, _chain(60)),
        ({"x": [[2999]] * 30_000}, {"properties": {"x": {"items": {"enum": [[i] for i in range(3_000)]}}}}),
        (
            {"x": [{}] * 60_000},
            {"properties": {"x": {"items": {"properties": {str(i): {} for i in range(999)}}}}},
        ),
    ],
)
def test_a_check_that_would_take_for_ever_ends_and_says_so(value: Any, schema: dict[str, Any]) -> None:
    assert "too much work" in errors_of(value, schema)[0].message


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"x": 10**400}, {"properties": {"x": {"multipleOf": 0.5}}}),
        ({}, {"$ref": "#"}),
    ],
)
def test_a_value_that_the_library_trips_over_is_a_misfit(value: Any, schema: dict[str, Any]) -> None:
    assert "cannot be checked" in errors_of(value, schema)[0].message


def test_patterns_of_strangers_are_not_run() -> None:
    assert errors_of("a" * 60 + "!", {"type": "string", "pattern": "^(a+)+$"}) == ()
    assert errors_of({"a" * 60 + "!": 1}, {"type": "object", "propertyNames": {"pattern": "^(a+)+$"}}) == ()


def test_the_rest_of_a_schema_is_checked_and_errors_point_at_the_place() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"n": {"type": "array", "items": {"type": "integer"}}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert errors_of({"n": [1, 2]}, schema) == ()
    assert [e.pointer for e in errors_of({"n": [1, "2"]}, schema)] == ["/n/1"]
    assert errors_of({"n": [], "more": 1}, schema) != ()
    assert errors_of({}, schema) != ()


async def test_a_long_check_leaves_the_loop_to_others() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    found = await fit({}, _chain(60))
    beside.cancel()
    assert "too much work" in found[0].message
    assert turns > 1
