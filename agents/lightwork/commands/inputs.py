"""A task's input from the command line: `--name value` pairs, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from pydantic import JsonValue

JsonSchema = dict[str, JsonValue]


def read_input(pairs: Sequence[str], *, document: str | None, schema: JsonSchema) -> dict[str, JsonValue]:
    """Put the input together; single parameters win over those of the document.

    Args:
        pairs: what is left of the command line: `--name value`, `--name=value`, or `--name` for true.
        document: JSON text, `@file`, or `-` for standard input.
        schema: the task's input schema, which tells text from numbers.

    Raises:
        typer.BadParameter: it is not that.
    """
    value = _read_document(document) if document is not None else {}
    words = list(pairs)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise typer.BadParameter(f"'{word}' is no parameter; write --NAME VALUE")
        name, has_value, text = word[2:].partition("=")
        name = _parameter_name(name, schema)
        if has_value:
            value[name] = _typed(text, _type_of(name, schema))
        elif words and not (words[0].startswith("--") and len(words[0]) > 2):
            value[name] = _typed(words.pop(0), _type_of(name, schema))
        elif _type_of(name, schema) == "boolean":
            value[name] = True
        else:
            raise typer.BadParameter(f"--{name} needs a value")
    return value


def _read_document(document: str) -> dict[str, JsonValue]:
    try:
        if document == "-":
            text = sys.stdin.read()
        elif document.startswith("@"):
            text = Path(document[1:]).read_text(encoding="utf-8")
        else:
            text = document
        value: JsonValue = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"--input: {document[1:]}: {error.strerror}") from None
    except ValueError as error:
        raise typer.BadParameter(f"--input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter('--input is one JSON object, as in {"text": "hi"}')
    return value


def _parameter_name(name: str, schema: JsonSchema) -> str:
    """Accept `--page-size` for a parameter `page_size`, as people write options."""
    properties = schema.get("properties")
    if isinstance(properties, dict) and name not in properties and name.replace("-", "_") in properties:
        return name.replace("-", "_")
    return name


def _type_of(name: str, schema: JsonSchema) -> str | None:
    properties = schema.get("properties")
    described = properties.get(name) if isinstance(properties, dict) else None
    kind = described.get("type") if isinstance(described, dict) else None
    return kind if isinstance(kind, str) else None


def _typed(text: str, kind: str | None) -> JsonValue:
    """Text stays text where text is wanted; elsewhere it is JSON if it reads as JSON."""
    if kind == "string":
        return text
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value
