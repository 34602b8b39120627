"""Schemas and values made to hurt: each is answered within a bounded time and with a clear error.

A check that hangs is stopped from outside, in a process of its own: a regular expression cannot be interrupted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from pydantic import JsonValue

from lightwork_broker.errors import ListingInvalid
from lightwork_broker.market.schema import check_schema, errors_of

PATIENCE_SECONDS = 20
"""By the real clock, with room for a busy machine; a check that hangs would need years."""

EVIL_PATTERN = "^(a+)+$"
EVIL_NAME = "a" * 40 + "!"
HIDDEN: dict[str, JsonValue] = {"patternProperties": {EVIL_PATTERN: {}}, "additionalProperties": False}

CHECK = """
import json, sys
from lightwork_broker.errors import ListingInvalid
from lightwork_broker.market.schema import check_schema, errors_of
schema, value = json.load(sys.stdin)
try:
    check_schema(schema, what="schema")
    print(len(errors_of(value, schema)))
except ListingInvalid as error:
    print("refused")
"""


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "object", **HIDDEN}, id="beside additionalProperties"),
        pytest.param(
            {"patternProperties": {EVIL_PATTERN: {}}, "unevaluatedProperties": False},
            id="beside unevaluatedProperties",
        ),
        pytest.param({"$ref": "#/$defs/x", "$defs": {"x": HIDDEN}}, id="behind a reference"),
        pytest.param({"allOf": [{"if": True, "then": HIDDEN}]}, id="behind a condition"),
        pytest.param({"$ref": "#/default", "default": HIDDEN}, id="a default read as a schema"),
        pytest.param({"$ref": "#/properties", "properties": HIDDEN}, id="names read as a schema"),
    ],
)
def test_no_pattern_of_a_stranger_ever_runs(schema: dict[str, JsonValue]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps([schema, {EVIL_NAME: 1}]),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert done.stdout.strip()


def _nested(depth: int, key: str) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {}
    for _ in range(depth):
        found = {key: found}
    return found


def test_a_schema_nested_ten_thousand_deep_is_refused() -> None:
    with pytest.raises(ListingInvalid, match="nested too deeply"):
        check_schema(_nested(10_000, "not"), what="input schema")


@pytest.mark.parametrize(
    "schema",
    [{"properties": {"x": {"$ref": "#"}}}, {"type": "string"}, {"additionalProperties": {"type": "integer"}}],
)
def test_a_value_nested_ten_thousand_deep_is_answered(schema: dict[str, JsonValue]) -> None:
    assert errors_of(_nested(10_000, "x"), schema) != ()


def test_a_reference_to_another_machine_is_refused_wherever_it_stands() -> None:
    foreign: dict[str, JsonValue] = {"$ref": "https://example.com/schema"}
    places: list[dict[str, JsonValue]] = [
        foreign,
        {"allOf": [foreign]},
        {"properties": {"x": {"items": foreign}}},
        {"$defs": {"x": foreign}},
        {"dependentSchemas": {"x": foreign}},
    ]
    for schema in places:
        with pytest.raises(ListingInvalid, match="within it"):
            check_schema(schema, what="input schema")


def test_a_schema_that_refers_to_itself_for_ever_is_a_misfit() -> None:
    loop: dict[str, JsonValue] = {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    }
    check_schema(loop, what="input schema")
    assert errors_of({"x": 1}, loop) != ()


@pytest.mark.parametrize(("keyword", "last"), [("allOf", "object"), ("anyOf", "string"), ("oneOf", "object")])
def test_references_that_double_at_each_step_end_within_the_budget(keyword: str, last: str) -> None:
    defs: dict[str, JsonValue] = {
        f"a{i}": {keyword: [{"$ref": f"#/$defs/a{i + 1}"}, {"$ref": f"#/$defs/a{i + 1}"}]} for i in range(50)
    }
    schema: dict[str, JsonValue] = {"$ref": "#/$defs/a0", "$defs": {**defs, "a50": {"type": last}}}
    check_schema(schema, what="input schema")
    began = time.monotonic()
    assert errors_of({}, schema) != ()
    assert time.monotonic() - began < PATIENCE_SECONDS


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": True, "items": {"type": "integer"}},
        {"type": "array", "contains": {"const": -1}},
        {"type": "array", "items": {"anyOf": [{"const": -number} for number in range(1, 500)]}},
    ],
)
def test_a_huge_array_is_answered_in_a_bounded_time(schema: dict[str, JsonValue]) -> None:
    began = time.monotonic()
    numbers: list[JsonValue] = list(range(1, 100_001))
    assert errors_of(numbers, schema) != ()
    assert time.monotonic() - began < PATIENCE_SECONDS


RULES: list[dict[str, JsonValue]] = [
    {"multipleOf": 0.5},
    {"maximum": 5},
    {"type": "integer"},
    {"enum": [1, 2]},
]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_a_number_that_is_none_is_answered_and_never_raises(number: float) -> None:
    for rule in RULES:
        schema: dict[str, JsonValue] = {"properties": {"x": rule}}
        assert all(error.message for error in errors_of({"x": number}, schema))
