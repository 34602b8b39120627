"""network.json: everything about a network that another program needs to use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lightwork_regtest.binaries import Binary
from lightwork_regtest.errors import NetworkNotFoundError
from lightwork_regtest.ports import LOOPBACK

FILE_NAME = "network.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Process(_Part):
    """Where a node is reached and where it listens.

    An `external` one is run by somebody else, a container engine for one: it is asked, never started or
    stopped, and counts as running.
    """

    host: str = LOOPBACK
    listen: str = LOOPBACK
    external: bool = False


class BitcoindDescription(_Process):
    """Where bitcoind listens and how to log in to it."""

    folder: Path
    log: Path
    pid_file: Path
    pid: int | None = None
    rpc_port: int
    zmq_block_port: int
    zmq_tx_port: int
    rpc_user: str
    rpc_password: str = Field(repr=False)


class NodeDescription(_Process):
    """Where one LND node listens and the files to log in with; the pubkey is known after its first start."""

    name: str
    folder: Path
    log: Path
    pid_file: Path
    pid: int | None = None
    pubkey: str | None = None
    grpc_port: int
    rest_port: int
    p2p_port: int
    tls_cert: Path
    admin_macaroon: Path
    role_macaroon: Path | None = None


class ProgramDescription(_Part):
    """A program that runs the nodes, and how it was found."""

    path: Path
    version: str
    rung: str
    origin: str
    tools: dict[str, Path]
    refused: dict[str, str]

    @classmethod
    def of(cls, binary: Binary) -> ProgramDescription:
        """Return the description of a found program."""
        return cls(
            path=binary.path,
            version=binary.version,
            rung=binary.rung,
            origin=binary.origin,
            tools=dict(binary.tools),
            refused={refusal.rung: refusal.why for refusal in binary.refused},
        )


class NetworkDescription(_Part):
    """The whole network; `ready` once a first payment has gone through it."""

    version: Literal[1] = 1
    name: str
    folder: Path
    topology: str
    ready: bool = False
    programs: dict[str, ProgramDescription]
    bitcoind: BitcoindDescription
    nodes: dict[str, NodeDescription]

    def save(self) -> None:
        """Write network.json so that it is there whole or not at all, readable by its owner only."""
        scratch = self.folder / f".{FILE_NAME}.new"
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
        os.replace(scratch, self.folder / FILE_NAME)

    def with_node(self, node: NodeDescription) -> NetworkDescription:
        """Return the same network with this node's description replaced."""
        return self.model_copy(update={"nodes": {**self.nodes, node.name: node}})


def load_description(folder: Path) -> NetworkDescription:
    """Return what the state folder says.

    Raises:
        NetworkNotFoundError: there is none, or another version of this package wrote it.
    """
    try:
        return NetworkDescription.model_validate_json((folder / FILE_NAME).read_text())
    except FileNotFoundError:
        raise NetworkNotFoundError(
            f"no network {folder.name!r} here: start it with `lightwork-regtest up --name {folder.name}`"
        ) from None
    except ValidationError as error:
        raise NetworkNotFoundError(
            f"{folder / FILE_NAME} cannot be read ({error.error_count()} faults): "
            f"`lightwork-regtest down --name {folder.name} --delete` clears it"
        ) from None
