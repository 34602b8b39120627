"""One value, one text, one hash."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwork_contracts.errors import CanonicalError
from lightwork_contracts.signed.canonical import canonical_json, input_hash, parse_canonical

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        ({"ü": "杯", "z": "/\u007f"}, '{"z":"/\u007f","ü":"杯"}'),
        ('"\\\n\x01', '"\\"\\\\\\n\\u0001"'),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (True, "true"),
        (2**64, "18446744073709551616"),
        ((1, 2), "[1,2]"),
    ],
)
def test_a_value_has_this_text(value: Any, text: str) -> None:
    assert canonical_json(value).decode() == text
    assert input_hash(value) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {None: 1},
        b"x",
        {1, 2},
        1 << 5000,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_without_a_form_in_json_is_refused(value: Any) -> None:
    with pytest.raises(CanonicalError) as caught:
        canonical_json(value)
    assert caught.value.code == "canonical_value"


def test_depth_and_size_are_bounded() -> None:
    deep: list[Any] = []
    for _ in range(64):
        deep = [deep]
    with pytest.raises(CanonicalError, match="canonical_depth"):
        canonical_json(deep)
    with pytest.raises(CanonicalError, match="canonical_size"):
        canonical_json("x" * 100, max_bytes=101)
    assert canonical_json("x" * 100, max_bytes=102)


@given(value=values)
def test_a_canonical_text_is_its_own_canonical_form(value: Any) -> None:
    text = canonical_json(value).decode()
    assert parse_canonical(text) == value
    assert canonical_json(parse_canonical(text)).decode() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a":1,"a":1}',
        '{"b":1,"a":1}',
        "[1, 2]",
        "1.0",
        "NaN",
        "Infinity",
        '"\\u0041"',
        " 1",
        "1e2",
        "[" * 100_000,
        "1" * 5000,
        '"\\ud800"',
        "-0",
    ],
    ids=range(15),
)
def test_a_text_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(CanonicalError):
        parse_canonical(text)
