"""A plugin of pytest for each run: what is tested must come from the copy, or the run proves nothing."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

PACKAGES = ("lightwork", "lightwork_broker", "lightwork_contracts", "lightwork_regtest")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run when a package is imported from anywhere else."""
    for name in PACKAGES:
        place = Path(str(importlib.import_module(name).__file__)).resolve()
        if not place.is_relative_to(config.rootpath.resolve()):
            raise pytest.UsageError(f"{name} is imported from {place}, not from the copy {config.rootpath}")
