"""LND behind the ports, on one gRPC channel per node."""

from __future__ import annotations

from lightwork_broker.lightning.lnd_closures import LndClosures
from lightwork_broker.lightning.lnd_connection import LndConnection
from lightwork_broker.lightning.lnd_connection import LndSettings as LndSettings
from lightwork_broker.lightning.lnd_info import LndInfo
from lightwork_broker.lightning.lnd_invoices import LndInvoices
from lightwork_broker.lightning.lnd_payouts import LndPayouts
from lightwork_broker.lightning.lnd_permissions import LndPermissions
from lightwork_broker.lightning.ports import LightningNode


class LndNode(LndInvoices, LndPayouts, LndInfo, LndClosures, LndPermissions):
    """One LND as a `LightningNode`. Make it inside the running event loop; no call is made yet.

    Raises:
        LightningUnavailable: certificate or macaroon cannot be read.
    """

    def __init__(self, settings: LndSettings) -> None:
        self._connection = LndConnection(settings)
        LndInfo.__init__(self, self._connection)
        LndClosures.__init__(self, self._connection)

    def __repr__(self) -> str:
        return f"LndNode({self._connection.settings.address!r})"

    async def close(self) -> None:
        """Close the connection; nothing on the node changes."""
        await self._connection.close()


def open_node(settings: LndSettings) -> LightningNode:
    """Return the node as the port that callers are written against."""
    return LndNode(settings)
