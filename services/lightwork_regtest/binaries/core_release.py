"""The `release` rung: Bitcoin Core's own archive, pinned by SHA-256."""

from __future__ import annotations

import platform
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from lightwork_regtest.binaries.download import download
from lightwork_regtest.binaries.ladder import RungRefusedError
from lightwork_regtest.progress import Progress

VERSION = "29.3"
_ORIGIN = "https://bitcoincore.org/bin"
# The same in the attestations of all sixteen builders of this release.
SHA256 = {
    "x86_64-linux-gnu": "3b7fbb5cf5f9009c578b0bbe8512e67309ec2266f69facf402bd59238322ed07",
    "aarch64-linux-gnu": "9b9269b396f629d29d449e1913587b56f8fa78393eb1db99314201938ccf8847",
    "arm64-apple-darwin": "db51d8962763662a1519351574921efd4f335b929e0bb41593d1f8aae4347595",
    "x86_64-apple-darwin": "3f1838c41b65604fe9e83e2502fb088513cda38c034138186dfeed00937afdbb",
}
_PROGRAMS = ("bitcoind", "bitcoin-cli")


def platform_key(system: str, machine: str) -> str:
    """Return the release's name for a platform.

    Raises:
        RungRefusedError: no archive is pinned for it.
    """
    arm = machine.lower() in ("arm64", "aarch64")
    known = {
        ("Linux", False): "x86_64-linux-gnu",
        ("Linux", True): "aarch64-linux-gnu",
        ("Darwin", True): "arm64-apple-darwin",
        ("Darwin", False): "x86_64-apple-darwin",
    }
    if not arm and machine.lower() not in ("x86_64", "amd64"):
        raise RungRefusedError(f"no archive is pinned for {system} on {machine}")
    try:
        return known[system, arm]
    except KeyError:
        raise RungRefusedError(f"no archive is pinned for {system} on {machine}") from None


def fetch_core(folder: Path, *, env: Mapping[str, str], progress: Progress) -> dict[str, str]:
    """Download, verify and unpack the two programs; LIGHTWORK_BITCOIN_RELEASES may name a mirror.

    Raises:
        RungRefusedError: not reachable, not the pinned bytes, or not for this platform.
    """
    key = platform_key(platform.system(), platform.machine())
    origin = env.get("LIGHTWORK_BITCOIN_RELEASES", _ORIGIN).rstrip("/")
    archive = folder / "archive.tar.gz"
    with progress.step(f"Fetching Bitcoin Core {VERSION}") as detail:
        url = f"{origin}/bitcoin-core-{VERSION}/bitcoin-{VERSION}-{key}.tar.gz"
        download(url, archive, sha256=SHA256[key], detail=detail)
        (folder / "bin").mkdir()
        with tarfile.open(archive) as tar:
            for program in _PROGRAMS:
                source = tar.extractfile(f"bitcoin-{VERSION}/bin/{program}")
                if source is None:
                    raise RungRefusedError(f"the archive holds no {program}")
                target = folder / "bin" / program
                with source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                target.chmod(0o755)
    archive.unlink()
    return {program: f"bin/{program}" for program in _PROGRAMS}
