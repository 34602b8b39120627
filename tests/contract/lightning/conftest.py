"""The contract of the Lightning ports, over each implementation in turn.

Where the simulated network is known to differ from LND 0.21.3, so that no test here can speak of it:
- it never splits a payment: more than one channel holds is NO_ROUTE (LND tries parts), and its invoices
  have the features 8 and 14 only (LND's have 17 and 25 too);
- an estimate goes by the announced capacities, and no failure is remembered (LND: mission control);
- whoever opens a channel pays no commitment fee, and dust is as safe as anything;
- a channel that counts as closed, since the chain has ended an HTLC of it, lives on; and what ends on the chain ends
  within a block, so nothing is on its way;
- a memo of 640 to 1,024 bytes is Refused; LND cannot write it either, but says so in words that our table does not
  know, which is LightningUnavailable;
- an estimate to oneself is None; LND finds a way round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from contract.lightning.world_lnd import LndWorld
from contract.lightning.world_remote import RemoteWorld
from contract.lightning.world_simulated import SimulatedWorld
from contract.lightning.worlds import LightningWorld


@pytest.fixture(
    scope="session", params=["simulated", "simulated-remote", pytest.param("lnd", marks=pytest.mark.regtest)]
)
async def lightning(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LightningWorld]:
    """The network that the contract is tested on. What the simulated one does otherwise is in its docstring."""
    world: LightningWorld
    match request.param:
        case "simulated":
            world = SimulatedWorld()
        case "simulated-remote":
            world = RemoteWorld(tmp_path_factory.mktemp("network"))
            await world.start()
        case _:
            world = LndWorld(request.getfixturevalue("network"))
    yield world
    await world.close()
