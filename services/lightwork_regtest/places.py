"""Where downloads and running networks live: always outside the repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lightwork_regtest.errors import UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


def cache_folder(env: Mapping[str, str]) -> Path:
    """Return the folder for programs: LIGHTWORK_CACHE, else lightwork/ in the user's cache folder."""
    if chosen := env.get("LIGHTWORK_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home()) / ".cache"
    return Path(base).expanduser().absolute() / "lightwork"


def networks_folder(env: Mapping[str, str]) -> Path:
    """Return the folder that holds all networks: under LIGHTWORK_STATE, else in the user's state."""
    if chosen := env.get("LIGHTWORK_STATE"):
        return Path(chosen).expanduser().absolute() / "regtest"
    base = env.get("XDG_STATE_HOME") or Path(env.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base).expanduser().absolute() / "lightwork" / "regtest"


def network_folder(name: str, env: Mapping[str, str]) -> Path:
    """Return the state folder of the network `name`.

    Raises:
        UsageError: the name is not 1 to 32 lower-case letters, digits, `-` or `_`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"network name {name!r}: use 1 to 32 lower-case letters, digits, '-' or '_'")
    return networks_folder(env) / name
