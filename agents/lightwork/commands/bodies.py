"""A body or a document from the command line: the text itself, `@file`, or `-` for standard input."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def read_bytes(given: str, *, name: str) -> bytes:
    """Return the bytes as they are: a signature is of these and no others.

    Raises:
        typer.BadParameter: the file cannot be read. `name` says of which option or argument.
    """
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode()
    try:
        return Path(given[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{name}: {given[1:]}: {error.strerror}") from None
