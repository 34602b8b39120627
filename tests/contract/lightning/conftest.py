"""The contract of the Lightning ports, over each implementation in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from contract.lightning.world_lnd import LndWorld
from contract.lightning.worlds import LightningWorld


@pytest.fixture(scope="session", params=["lnd"])
async def lightning(request: pytest.FixtureRequest) -> AsyncIterator[LightningWorld]:
    """The network that the contract is tested on; a second implementation is a second parameter."""
    world = LndWorld(request.getfixturevalue("network"))
    yield world
    await world.close()
