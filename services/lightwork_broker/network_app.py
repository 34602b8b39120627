"""A simulated network as an application of its own, and the way to it from the brokers that are attached."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse

from lightwork_broker.body_limit import BodyLimit
from lightwork_broker.refusals import add_refusals
from lightwork_broker.signals import Signals
from lightwork_contracts.wire.simulated import SIMULATED_PATH

if TYPE_CHECKING:
    from lightwork_broker.lightning.simulated import PlannedFaults, SimulatedNetwork


def create_network_app(
    network: SimulatedNetwork, faults: PlannedFaults, *, network_id: str, max_body_bytes: int = 262_144
) -> FastAPI:
    """Return a simulated network as an ASGI application: wallets, nodes for brokers elsewhere, and faults."""
    from lightwork_broker.lightning.simulated.api import simulated_router
    from lightwork_broker.lightning.simulated.remote.api import control, port
    from lightwork_broker.lightning.simulated.wallets import SimulatedWallets

    app = FastAPI(
        title="Lightwork simulated network",
        version=version("lightwork"),
        summary="A Lightning network of play money, in a process of its own.",
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.network, app.state.faults, app.state.network_id = network, faults, network_id
    app.state.signals = NetworkSignals(network)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.include_router(simulated_router(SimulatedWallets(network)))
    app.include_router(port)
    app.include_router(control)
    add_refusals(app)
    return app


def redirect_wallets(app: FastAPI, network_url: str) -> None:
    """Let wallets that know only the broker find the network that it is attached to."""

    async def elsewhere(request: Request) -> RedirectResponse:
        url = request.url
        query = f"?{url.query}" if url.query else ""
        return RedirectResponse(f"{network_url.rstrip('/')}{url.path}{query}", 307)

    app.add_route(f"{SIMULATED_PATH}/{{rest:path}}", elsewhere, methods=["GET", "POST"])


class NetworkSignals(Signals):
    """Of a simulated network's process: when it goes down its nodes do, so that nobody waits for them."""

    def __init__(self, network: SimulatedNetwork) -> None:
        super().__init__()
        self._network = network

    def close(self) -> None:
        super().close()
        for name in self._network.names:
            self._network.stop(name)
