"""A folder for the databases of tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from secret_search.harvest import sweep


@contextmanager
def fast_folder() -> Generator[Path]:
    """Lend a folder in memory where there is one: the crashes in here are those of a process, not of a disk."""
    memory = Path("/dev/shm")  # noqa: S108  (the folders made in it are private)
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        try:
            yield Path(folder)
        finally:
            sweep(Path(folder))  # it is gone when the run's end searches the others
