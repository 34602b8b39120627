"""The cache of programs: a slot is there whole, with its manifest, or it is not there at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightwork_regtest.binaries.inspection import Requirement, inspect
from lightwork_regtest.binaries.ladder import RungRefusedError, Served

_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Slot:
    """One folder of the cache, named after what was pinned to fill it."""

    cache: Path
    key: str

    @property
    def folder(self) -> Path:
        """The folder's final place."""
        return self.cache / "nodes" / self.key

    def find(self, requirement: Requirement) -> Served:
        """Return the program kept here.

        Raises:
            RungRefusedError: the slot is empty, or what it holds does not run.
        """
        try:
            manifest = json.loads((self.folder / _MANIFEST).read_text())
            origin = str(manifest["rung"])
            tools = {str(name): self.folder / str(path) for name, path in manifest["tools"].items()}
            program = self.folder / str(manifest["program"])
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise RungRefusedError(f"nothing in {self.folder}") from error
        version = inspect(program, requirement)
        return Served(path=program, version=version, origin=origin, tools=tools)

    def fill(self, requirement: Requirement, rung: str, make: Callable[[Path], dict[str, str]]) -> Served:
        """Let `make` fill a scratch folder and move it into place only when the program in it works.

        The caller holds the program's lock.
        `make` returns relative paths by program name, `requirement.name` among them.

        Raises:
            RungRefusedError: from `make`, or because what it made does not run.
        """
        parent = self.folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f".{self.key}-*"):
            # Of a process that was killed: the caller holds the lock, so nobody works in it.
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{self.key}-", dir=parent))
        try:
            programs = make(scratch)
            program = programs.pop(requirement.name)
            inspect(scratch / program, requirement)
            manifest = {"rung": rung, "program": program, "tools": programs}
            (scratch / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            scratch.chmod(0o755)
            if self.folder.exists():
                # A network may run from the old files: unlinking keeps them alive for it.
                shutil.rmtree(self.folder)
            os.rename(scratch, self.folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return self.find(requirement)
