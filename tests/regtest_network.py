"""The session's regtest network: real bitcoind and LND, one for all tests that ask for `network`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from secret_search.harvest import sweep

from lightwork_regtest import Network
from lightwork_regtest.errors import NetworkNotFoundError
from lightwork_regtest.launch import take_down
from lightwork_regtest.progress import SilentProgress

REUSE = "LIGHTWORK_TEST_NETWORK"


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A fresh network, taken down at the end; or the running one that LIGHTWORK_TEST_NETWORK names.

    A node that cannot be had or does not start fails the test: there is no skip.
    """
    if name := os.environ.get(REUSE):
        with Network.up(name=name) as running:
            yield running
        return
    with fresh_network(tmp_path_factory.mktemp("network")) as made:
        yield made


@contextmanager
def fresh_network(folder: Path, *, topology: str = "market") -> Generator[Network]:
    """A network of its own under `folder`, gone at the end of the `with` even if its start failed."""
    env = {**os.environ, "LIGHTWORK_STATE": str(folder)}
    name = f"test-{secrets.token_hex(4)}"
    try:
        with Network.up(name=name, topology=topology, env=env) as made:
            yield made
    finally:
        # A test may have deleted it, and a machine without bitcoind never made it.
        with suppress(NetworkNotFoundError):
            take_down(name, delete=False, env=env, progress=SilentProgress())
            sweep(folder, of_nodes=True)
            take_down(name, delete=True, env=env, progress=SilentProgress())
