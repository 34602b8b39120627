"""docker-compose.yml as the tests read it: services, their volumes, and the order in which they start."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
PLAN_FILE = REPOSITORY / "docker" / "network.toml"

HEALTHY, COMPLETED = "service_healthy", "service_completed_successfully"


@dataclass(frozen=True)
class Service:
    """One service with its YAML anchors resolved."""

    name: str
    raw: Mapping

    @property
    def image(self) -> str:
        return self.raw["image"]

    @property
    def command(self) -> list[str]:
        return list(self.raw.get("command", []))

    @property
    def environment(self) -> dict[str, str]:
        return dict(self.raw.get("environment", {}))

    @property
    def after(self) -> dict[str, str]:
        """The services that it waits for, and in which condition."""
        return {name: wait["condition"] for name, wait in self.raw.get("depends_on", {}).items()}

    @property
    def mounts(self) -> dict[str, str]:
        """Where each named volume stands: target by volume."""
        return {volume: target for volume, target, *_ in (text.split(":") for text in self.volumes)}

    @property
    def volumes(self) -> list[str]:
        return list(self.raw.get("volumes", []))

    @property
    def ports(self) -> list[str]:
        return list(self.raw.get("ports", []))

    @property
    def health(self) -> list[str]:
        """The words of the health check, or none."""
        return list(self.raw.get("healthcheck", {}).get("test", ["CMD"]))[1:]

    @property
    def runs_once(self) -> bool:
        return self.raw.get("restart") == "no"


def document() -> dict:
    """Return the whole file."""
    return yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))


def services() -> dict[str, Service]:
    """Return the services by name."""
    return {name: Service(name, raw) for name, raw in document()["services"].items()}


def in_order() -> Iterator[Service]:
    """Yield each service after those that it waits for."""
    known = services()
    for name in TopologicalSorter({name: one.after.keys() for name, one in known.items()}).static_order():
        yield known[name]


def plan() -> dict:
    """Return docker/network.toml."""
    return tomllib.loads(PLAN_FILE.read_text(encoding="utf-8"))
