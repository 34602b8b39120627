"""Where one demo keeps its files: outside the repository, beside the regtest networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightwork_regtest.places import network_folder

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_NAME = "demo"


@dataclass(frozen=True)
class DemoFolder:
    """The state folder of the demo `name`; the network under it has the same name."""

    name: str
    path: Path

    @classmethod
    def of(cls, name: str, env: Mapping[str, str]) -> DemoFolder:
        """Return the folder for this name, made or not.

        Raises:
            UsageError: the name cannot be one of a network.
        """
        return cls(name, network_folder(name, env).parents[1] / "demo" / name)

    @property
    def lock(self) -> Path:
        return self.path.parent / f".{self.name}.lock"

    @property
    def broker_data(self) -> Path:
        return self.path / "broker"

    def log(self, child: str) -> Path:
        return self.path / "logs" / f"{child}.log"

    def pid_file(self, child: str) -> Path:
        return self.path / "run" / f"{child}.pid"

    def key_file(self, owner: str) -> Path:
        return self.path / "keys" / f"{owner}.key"

    def shell_file(self, role: str) -> Path:
        return self.path / f"{role}.sh"

    def make(self) -> None:
        """Make the folders, closed to others."""
        for folder in (self.path, self.path / "logs", self.path / "run", self.path / "keys"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove(self) -> None:
        """Remove everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def keep_books_of(self, node: str) -> bool:
        """Keep the broker's books only if they are those of this node (its public key); tell whether.

        A new network has new nodes: what was written down about others would be wrong about them.
        """
        mark = self.path / "node.json"
        if _read(mark) == node:
            return True
        shutil.rmtree(self.broker_data, ignore_errors=True)
        mark.write_text(json.dumps(node))
        return False


def _read(mark: Path) -> object:
    try:
        return json.loads(mark.read_text())
    except (OSError, ValueError):
        return None
