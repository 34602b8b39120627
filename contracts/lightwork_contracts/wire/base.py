"""The base of every wire model: frozen, strict about unknown fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

API_VERSION = "v1"

type_name = r"^[a-z][a-z0-9-]{0,63}$"

UnixTime = Annotated[int, Field(ge=0, le=4_102_444_800, strict=True, description="Unix time in seconds")]
JsonInput = dict[str, JsonValue]
"""A task's input: one JSON object whose keys are the parameters of the task."""


class Wire(BaseModel):
    """Frozen; a field that we do not know is an error, so that a typing mistake is never silent."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="null", allow_inf_nan=False, hide_input_in_errors=True
    )


class Answer(BaseModel):
    """A response: frozen, but tolerant of fields that a newer broker adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class Page(Answer):
    """One page of a list. Pass `next_cursor` back as `cursor`; it is null on the last page."""

    next_cursor: str | None = None
