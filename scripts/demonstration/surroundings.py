"""Environment variables: for the broker, for each agent, and for people's own shells."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from demonstration.folder import DemoFolder
from lightwork_regtest import Network

OURS = ("LIGHTWORK_", "CHAINWATCH_")
BUYER, PROVIDER = "buyer", "provider"


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of ours, which may belong to another broker or wallet."""
    return {name: value for name, value in env.items() if not name.startswith(OURS)}


def broker_variables(network: Network, folder: DemoFolder, *, port: int) -> dict[str, str]:
    """Return what a broker needs: its own LND with its least-privilege macaroon, a folder, a port."""
    node = network.node("broker")
    return {
        "LIGHTWORK_BROKER_LND_ADDRESS": node.grpc_address,
        "LIGHTWORK_BROKER_LND_TLS_CERT": str(node.tls_cert),
        "LIGHTWORK_BROKER_LND_MACAROON": str(node.role_macaroon),
        "LIGHTWORK_BROKER_DATA_DIR": str(folder.broker_data),
        "LIGHTWORK_BROKER_PORT": str(port),
    }


def party_variables(
    network: Network, folder: DemoFolder, *, broker: str, node: str, key: str
) -> dict[str, str]:
    """Return what a buyer or a provider needs: the broker's URL, a key, and its own LND as wallet."""
    own = network.node(node)
    return {
        # A profile that has no file, so that nothing of the user's own is mixed in.
        "LIGHTWORK_PROFILE": "lightwork-demo",
        "LIGHTWORK_BROKER": broker,
        "LIGHTWORK_PIN_NODE": network.node("broker").pubkey,
        "LIGHTWORK_KEY_FILE": str(folder.key_file(key)),
        "LIGHTWORK_LND_REST": own.rest_url,
        "LIGHTWORK_LND_TLS_CERT": str(own.tls_cert),
        "LIGHTWORK_LND_MACAROON": str(own.role_macaroon),
    }


def chain_variables(network: Network) -> dict[str, str]:
    """Return what chainwatch needs to ask bitcoind."""
    return {
        "CHAINWATCH_RPC_URL": network.bitcoind.rpc_url,
        "CHAINWATCH_RPC_USER": network.bitcoind.user,
        "CHAINWATCH_RPC_PASSWORD": network.bitcoind.password,
    }


def write_shell_file(path: Path, variables: Mapping[str, str]) -> None:
    """Write `export` lines to be sourced, with our commands first on PATH."""
    commands = shlex.quote(str(Path(sys.executable).parent))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'case ":$PATH:" in *:{commands}:*) ;; *) export PATH={commands}:"$PATH" ;; esac')
    # A new file each time: private before the first byte, whatever the umask and whatever was there.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
