"""Which calls of LND a broker makes, and how to let it make them and no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

NEEDED: Final = (
    "/invoicesrpc.Invoices/AddHoldInvoice",
    "/invoicesrpc.Invoices/CancelInvoice",
    "/invoicesrpc.Invoices/LookupInvoiceV2",
    "/invoicesrpc.Invoices/SettleInvoice",
    "/invoicesrpc.Invoices/SubscribeSingleInvoice",
    "/lnrpc.Lightning/GetInfo",
    "/lnrpc.Lightning/QueryRoutes",
    "/routerrpc.Router/SendPaymentV2",
    "/routerrpc.Router/TrackPaymentV2",
)
"""The calls without any of which a broker does not start."""

WISHED: Final = (
    "/lnrpc.Lightning/ChannelBalance",
    "/lnrpc.Lightning/ClosedChannels",
    "/lnrpc.Lightning/GetDebugInfo",
    "/lnrpc.Lightning/ListChannels",
    "/lnrpc.Lightning/ListInvoices",
    "/lnrpc.Lightning/ListPayments",
    "/lnrpc.Lightning/LookupHtlcResolution",
    "/lnrpc.Lightning/PendingChannels",
)
"""What a broker can do without: comparing its books with the channels, and with the chain where channels were closed;
reading the running `invoices.holdexpirydelta`, seeing how full the channels are, and finding what came in or went out
that its database forgot."""

PERMISSIONS: Final = (*NEEDED, *WISHED)
"""All that a broker's macaroon is for."""


def bake_command(uris: Iterable[str] = PERMISSIONS) -> str:
    """Return the command that makes a macaroon for these calls and no others."""
    return " ".join(("lncli bakemacaroon --save_to broker.macaroon", *(f"uri:{uri}" for uri in uris)))
