"""The `debian` rung: bitcoin-knots of Debian unstable, unpacked into a folder and run by its own loader."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lightwork_regtest.binaries.command import run_tool
from lightwork_regtest.binaries.ladder import RungRefusedError
from lightwork_regtest.progress import Progress

_PACKAGE = "bitcoin-knots"
_PROGRAMS = ("bitcoind", "bitcoin-cli")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS = 300.0


def fetch_knots(folder: Path, *, env: Mapping[str, str], progress: Progress) -> dict[str, str]:
    """Fetch the package with every library it needs; nothing of the system's own apt is touched.

    apt checks the archive's signature and every package's hash.

    Raises:
        RungRefusedError: this machine has no apt or no Debian mirror, or apt fails.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise RungRefusedError(f"this machine has no {tool}")
    if not _KEYRING.is_file():
        raise RungRefusedError(f"there is no {_KEYRING} to verify packages with")
    mirror = env.get("LIGHTWORK_DEBIAN_MIRROR") or debian_mirror(_index_targets(env))
    apt, root = folder / "apt", folder / "root"
    private = dict(env) | {"APT_CONFIG": str(_write_config(apt, mirror)), "LC_ALL": "C.UTF-8"}
    with progress.step(f"Fetching {_PACKAGE} from Debian unstable") as detail:
        run_tool(["apt-get", "-q", "update"], env=private, timeout=_SECONDS, on_line=detail)
        install = ["apt-get", "-q", "-y", "--download-only", "install", _PACKAGE]
        run_tool(install, env=private, timeout=_SECONDS, on_line=detail)
        for package in sorted((apt / "cache" / "archives").glob("*.deb")):
            detail(f"unpacking {package.name}")
            run_tool(["dpkg-deb", "-x", str(package), str(root)], env=env, timeout=_SECONDS)
        shutil.rmtree(apt)
        return {program: _wrap(folder, root, program) for program in _PROGRAMS}


def debian_mirror(index_targets: str) -> str:
    """Return the first Debian mirror among apt's index targets (one `URI component` per line).

    Raises:
        RungRefusedError: none of them is a Debian archive (another distribution, or no sources at all).
    """
    for line in index_targets.splitlines():
        uri, _, component = line.strip().partition(" ")
        address = uri.rstrip("/")
        if (
            component == "main"
            and address.startswith(("http://", "https://"))
            and address.endswith("/debian")
        ):
            return address
    raise RungRefusedError("this machine's apt sources name no Debian mirror")


def _index_targets(env: Mapping[str, str]) -> str:
    answer = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return answer.stdout


def _write_config(apt: Path, mirror: str) -> Path:
    for sub in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "etc/parts",
    ):
        (apt / sub).mkdir(parents=True)
    # An empty status file makes apt believe that nothing is installed, so it fetches every library.
    (apt / "state" / "status").write_text("")
    (apt / "etc" / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror} unstable main\n")
    config = apt / "apt.conf"
    settings = {
        "Dir": apt,
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "state" / "status",
        "Dir::Cache": apt / "cache",
        "Dir::Etc": apt / "etc",
        "Dir::Etc::sourcelist": apt / "etc" / "sources.list",
        "Dir::Etc::sourceparts": apt / "etc" / "parts",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "10",
        "Acquire::https::Timeout": "10",
        # A frozen mirror is a week behind its own expiry date; signatures are verified all the same.
        "Acquire::Check-Valid-Until": "false",
    }
    config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return config


def _wrap(folder: Path, root: Path, program: str) -> str:
    loader = next(iter(sorted(root.glob("usr/lib/*/ld-linux*.so.*"))), None)
    binary = root / "usr" / "bin" / program
    if loader is None or not binary.is_file():
        raise RungRefusedError(f"the packages hold no loader or no {program}")
    libraries = loader.parent.relative_to(folder)
    target = folder / "bin" / program
    target.parent.mkdir(exist_ok=True)
    # Relative to the script, so that the folder can be moved into the cache as a whole.
    target.write_text(
        "#!/bin/sh\n"
        'here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd) || exit 1\n'
        f'exec "$here/{loader.relative_to(folder)}" --library-path "$here/{libraries}" '
        f'"$here/{binary.relative_to(folder)}" "$@"\n'
    )
    target.chmod(0o755)
    return f"bin/{program}"
