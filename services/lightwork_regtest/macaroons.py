"""Least-privilege macaroons: for each role the calls it needs, each role under a root key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Role:
    """The calls that a role may make, and the root key that revokes all its macaroons at once."""

    root_key_id: int
    uris: tuple[str, ...]


def _uris(service: str, *methods: str) -> tuple[str, ...]:
    return tuple(f"/{service}/{method}" for method in methods)


_LIGHTNING = "lnrpc.Lightning"
_ROUTER = "routerrpc.Router"

BROKER = Role(
    root_key_id=101,
    uris=(
        *_uris(
            "invoicesrpc.Invoices",
            "AddHoldInvoice",
            "SettleInvoice",
            "CancelInvoice",
            "LookupInvoiceV2",
            "SubscribeSingleInvoice",
        ),
        *_uris(
            _LIGHTNING,
            "GetInfo",
            "GetDebugInfo",  # the only way to read the running invoices.holdexpirydelta
            "ListInvoices",
            "ListPayments",
            "ChannelBalance",
            "ListChannels",
            "PendingChannels",
            "ClosedChannels",
            "LookupHtlcResolution",
            "QueryRoutes",
        ),
        *_uris(_ROUTER, "SendPaymentV2", "TrackPaymentV2"),
    ),
)
# GetInfo reads who the node is, so that whoever has a macaroon can see which node it opens.
PROVIDER = Role(root_key_id=102, uris=_uris(_LIGHTNING, "AddInvoice", "GetInfo"))
BUYER = Role(
    root_key_id=103,
    uris=(*_uris(_ROUTER, "SendPaymentV2", "TrackPaymentV2"), *_uris(_LIGHTNING, "GetInfo")),
)
ROLES: Mapping[str, Role] = {"broker": BROKER, "provider": PROVIDER, "buyer": BUYER}
"""The role that is baked on the node of the same name."""
