"""A private copy of the source in which one place at a time is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mutants.mutation import Mutation

REPOSITORY = Path(__file__).parents[2]
PARTS = ("agents", "contracts", "services", "scripts", "tests", "pyproject.toml", "README.md")
IMPORTED = ("agents", "contracts", "services", "tests")
NOT_COPIED = shutil.ignore_patterns("__pycache__", ".hypothesis", ".pytest_cache", "node_modules")


class NotOnce(ValueError):
    """The text that a mutation replaces is not there exactly once: the catalogue has fallen behind the code."""


def mutate(mutation: Mutation, text: str) -> str:
    """Return the text of the mutation's file with the mistake in it.

    Raises:
        NotOnce
    """
    count = text.count(mutation.old)
    if count != 1:
        raise NotOnce(f"{mutation.name}: its text occurs {count} times in {mutation.file}, not once")
    return text.replace(mutation.old, mutation.new)


class SourceCopy:
    """The tree that tests are run in; what they import comes from here."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, root / part, ignore=NOT_COPIED)
            else:
                shutil.copy2(source, root / part)

    def environment(self) -> dict[str, str]:
        """Return the surroundings of a process whose imports come from this copy, before any installed ones."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTWORK_")}
        return kept | {"PYTHONPATH": os.pathsep.join(str(self.root / part) for part in IMPORTED)}

    @contextmanager
    def mutated(self, mutation: Mutation) -> Generator[None]:
        """Have the mistake in the copy for as long as this is open.

        Raises:
            NotOnce
        """
        path = self.root / mutation.file
        text = path.read_text()
        path.write_text(mutate(mutation, text))
        _forget_compiled(path)
        try:
            yield
        finally:
            path.write_text(text)
            _forget_compiled(path)

    def forget_examples(self) -> None:
        """Let no run profit from what hypothesis has found in an earlier one."""
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)


def _forget_compiled(path: Path) -> None:
    # Python takes a compiled file for current by size and second: two versions within a second may look alike.
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
