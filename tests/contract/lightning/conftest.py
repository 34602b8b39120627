"""The contract of the Lightning ports, over each implementation in turn."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from contract.lightning.world_lnd import LndWorld
from contract.lightning.world_simulated import SimulatedWorld
from contract.lightning.worlds import LightningWorld


@pytest.fixture(scope="session", params=["simulated", pytest.param("lnd", marks=pytest.mark.regtest)])
async def lightning(request: pytest.FixtureRequest) -> AsyncIterator[LightningWorld]:
    """The network that the contract is tested on. What the simulated one does otherwise is in its docstring."""
    world = SimulatedWorld() if request.param == "simulated" else LndWorld(request.getfixturevalue("network"))
    yield world
    await world.close()
