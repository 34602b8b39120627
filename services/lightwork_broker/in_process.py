"""A broker and a simulated network inside another program: what `lightwork.testing` runs an author's agent on.

It is found by its entry point, so the SDK does not import the broker.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import structlog

from lightwork_broker.app import create_app
from lightwork_broker.lightning.simulated import Fault, JumpingTime, PlannedFaults, SimulatedNetwork
from lightwork_broker.lightning.simulated.api import simulated_router
from lightwork_broker.lightning.simulated.wallets import SimulatedWallets
from lightwork_broker.logs import processors
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.signals import Signals
from lightwork_broker.streaming_transport import StreamingTransport

ORIGIN = "http://127.0.0.1:8402"
SWEEP_SECONDS = 0.1


class InProcessBroker:
    """One running broker. `transport` reaches it without a socket; times in seconds, heights in blocks."""

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        *,
        network: SimulatedNetwork,
        faults: PlannedFaults,
        clock: JumpingTime,
        signals: Signals,
    ) -> None:
        self._signals = signals
        self.url = ORIGIN
        self.transport = transport
        self._network = network
        self._faults = faults
        self._clock = clock

    @property
    def faults(self) -> tuple[str, ...]:
        """The names that `fault` takes."""
        return tuple(fault.name.lower() for fault in Fault)

    def now(self) -> float:
        """Return Unix time, moved on by `advance`."""
        return self._clock.now()

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._clock.advance(seconds)
        self._signals.stir()

    def mine(self, blocks: int) -> int:
        """Add blocks and return the height."""
        return self._network.mine(blocks)

    def fault(self, name: str, *, call: str, seconds: float) -> None:
        """Let the next call of the broker's node fail in this way, as in `lost_after` of `pay`.

        Raises:
            ValueError: there is no fault of this name.
        """
        try:
            fault = Fault[name.upper()]
        except KeyError:
            raise ValueError(f"there is no fault '{name}'; there are: {', '.join(self.faults)}") from None
        self._faults.plan(fault, method=call, node="broker", seconds=seconds)

    def revive(self) -> None:
        """Start the broker's node again after `node_down` or `wallet_locked`."""
        self._network.start("broker")


@asynccontextmanager
async def open_broker() -> AsyncGenerator[InProcessBroker]:
    """Run a broker on a new simulated network and an empty database; both are gone at the end."""
    if not structlog.is_configured():
        # By itself structlog prints an exception with each frame's variables, secret ones too.
        structlog.configure(processors=processors(as_json=False))
    clock, faults = JumpingTime(), PlannedFaults()
    wallets = SimulatedWallets(SimulatedNetwork(clock=clock, faults=faults))
    with tempfile.TemporaryDirectory(prefix="lightwork-testing-") as folder:
        settings = BrokerSettings(
            data_dir=Path(folder), sweep_seconds=SWEEP_SECONDS, origins=(ORIGIN,), guardian_margin_blocks=40
        )
        application = create_app(settings, wallets.hub, clock=clock)
        application.include_router(simulated_router(wallets))
        async with application.router.lifespan_context(application):
            yield InProcessBroker(
                StreamingTransport(application),
                network=wallets.network,
                faults=faults,
                clock=clock,
                signals=application.state.signals,
            )
            # Who waits in a long poll is told that the broker goes down, as the server does.
            application.state.signals.close()
