"""A function's signature as JSON Schema: what a task takes, what it returns, and the checks for both."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from lightwork.context import JobContext
from lightwork.errors import AgentInvalid, AnnotationMissing, DocstringMissing, InputInvalid, OutputInvalid
from lightwork_contracts.wire.base import JsonInput

JsonSchema = dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a task's function takes and returns, ready to be published and to check values with."""

    description: str
    input_schema: JsonSchema
    output_schema: JsonSchema
    parameters: tuple[str, ...]
    context_parameter: str | None
    _input: type[BaseModel]
    _fields: Mapping[str, str]
    _output: TypeAdapter[object]

    def read_input(self, value: JsonInput) -> dict[str, object]:
        """Turn JSON into the function's keyword arguments.

        Raises:
            InputInvalid: it does not fit; the message names each field.
        """
        try:
            model = self._input.model_validate_json(json.dumps(value), strict=True)
        except (ValidationError, ValueError) as error:
            raise InputInvalid(_complaints(error)) from None
        return {name: getattr(model, field) for field, name in self._fields.items()}

    def write_output(self, value: object) -> JsonValue:
        """Turn the function's return value into JSON.

        Raises:
            OutputInvalid: it does not fit the annotation, or JSON cannot hold it.
        """
        try:
            checked = self._output.validate_python(value)
            result = cast("JsonValue", self._output.dump_python(checked, mode="json", by_alias=True))
            # NaN and infinity would reach the buyer as null, and a lone surrogate not at all.
            json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
        except (ValidationError, ValueError) as error:
            raise OutputInvalid(_complaints(error)) from None
        return result


def where(function: Callable[..., object]) -> str:
    """Name a function for an error message: `echo.py:6: echo()`."""
    code = inspect.unwrap(function).__code__ if inspect.isfunction(function) else None
    place = f"{Path(code.co_filename).name}:{code.co_firstlineno}: " if code is not None else ""
    return f"{place}{getattr(function, '__name__', repr(function))}()"


def read_signature(function: Callable[..., object]) -> Signature:
    """Read a function's annotations and docstring.

    Raises:
        AnnotationMissing: a parameter or the return value has no annotation.
        DocstringMissing: there is no docstring.
        AgentInvalid: an annotation cannot be resolved or has no JSON Schema, or a parameter has no name.
    """
    place = where(function)
    description = (inspect.getdoc(function) or "").strip()
    if not description:
        raise DocstringMissing(
            f"{place} has no docstring",
            hint="the docstring is the advert: say what the task does for a buyer",
        )
    try:
        hints = cast("dict[str, object]", get_type_hints(function, include_extras=True))
    except (NameError, TypeError, SyntaxError) as error:
        raise AgentInvalid(f"{place}: an annotation cannot be resolved: {error}") from None
    context, fields, names = _parameters(function, hints=hints, place=place)
    if "return" not in hints:
        raise AnnotationMissing(
            f"{place}: the return value has no annotation", hint="write for example `-> str`"
        )
    model, output = _models(function, fields=fields, returned=hints["return"], place=place)
    return Signature(
        description=description,
        input_schema=cast("JsonSchema", model.model_json_schema(by_alias=True)),
        output_schema=cast("JsonSchema", output.json_schema(by_alias=True, mode="serialization")),
        parameters=tuple(names.values()),
        context_parameter=context,
        _input=model,
        _fields=names,
        _output=output,
    )


def _parameters(
    function: Callable[..., object], *, hints: Mapping[str, object], place: str
) -> tuple[str | None, dict[str, tuple[object, object]], dict[str, str]]:
    """Return the context parameter, the model's fields, and which parameter each field stands for.

    Fields get neutral names with the parameter's name as alias, so that a parameter may be called
    `schema` or `copy` without hiding a method of the model.
    """
    context: str | None = None
    fields: dict[str, tuple[object, object]] = {}
    names: dict[str, str] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise AgentInvalid(f"{place}: parameter '{name}' cannot be sent by name; use plain parameters")
        if name not in hints:
            raise AnnotationMissing(
                f"{place}: parameter '{name}' has no annotation", hint=f"write for example `{name}: str`"
            )
        if hints[name] is JobContext:
            if context is not None:
                raise AgentInvalid(f"{place}: '{context}' and '{name}' are both a JobContext; one is enough")
            context = name
            continue
        default: object = ... if parameter.default is parameter.empty else parameter.default
        field = f"p{len(fields)}"
        fields[field] = (Annotated[hints[name], Field(alias=name)], default)
        names[field] = name
    return context, fields, names


def _models(
    function: Callable[..., object],
    *,
    fields: Mapping[str, tuple[object, object]],
    returned: object,
    place: str,
) -> tuple[type[BaseModel], TypeAdapter[object]]:
    name = getattr(function, "__name__", "task")
    try:
        create = cast("Callable[..., type[BaseModel]]", create_model)
        model = create(name, __config__=ConfigDict(extra="forbid", allow_inf_nan=False), **fields)
        output = TypeAdapter(cast("type[object]", returned))
        model.model_json_schema()
        output.json_schema(mode="serialization")
    except (PydanticUserError, PydanticSchemaGenerationError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise AgentInvalid(
            f"{place}: an annotation has no JSON Schema: {first}",
            hint="use str, int, float, bool, list, dict, a pydantic model or a dataclass",
        ) from None
    return model, output


def _complaints(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    lines = (
        f"{'/'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:10]
    )
    return "; ".join(lines)
