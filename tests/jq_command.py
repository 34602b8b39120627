"""`jq` for machines without one: the library of that name behind the few options that the pages use."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import jq


def main() -> None:
    """Run a filter over a file or standard input, as the program would."""
    parser = argparse.ArgumentParser(prog="jq")
    parser.add_argument("-r", dest="raw", action="store_true")
    parser.add_argument("-c", dest="compact", action="store_true")
    parser.add_argument("filter")
    parser.add_argument("file", nargs="?")
    given = parser.parse_args()
    text = sys.stdin.read() if given.file is None else Path(given.file).read_text()
    for value in jq.compile(given.filter).input_text(text):
        print(value if given.raw and isinstance(value, str) else written(value, compact=given.compact))


def written(value: object, *, compact: bool) -> str:
    """Write a value in jq's own form."""
    if compact:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)


def provide(folder: Path) -> Path | None:
    """Put a `jq` into `folder` if this machine has none; return what to put on PATH, if anything."""
    if shutil.which("jq") is not None:
        return None
    return install(folder)


def install(folder: Path) -> Path:
    """Put a `jq` into `folder` and return the folder."""
    folder.mkdir(exist_ok=True)
    command = folder / "jq"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "$@"\n')
    command.chmod(0o755)
    return folder


if __name__ == "__main__":
    main()
