"""Invoices that nobody should wrap: signed by a key of our own, each wrong in one way."""

from __future__ import annotations

import hashlib
import secrets
import time

from lightwork_contracts.bolt11 import Network, RouteHint, write_invoice
from lightwork_contracts.money import Msat, sats

PAYEE_KEY = secrets.token_bytes(32)


def new_hash() -> str:
    """Return the hash of a preimage that nobody keeps."""
    return hashlib.sha256(secrets.token_bytes(32)).hexdigest()


def forged_invoice(
    *,
    network: Network = Network.REGTEST,
    amount_msat: Msat | None = sats(10),
    age_seconds: int = 0,
    expiry_seconds: int = 400_000,
    final_cltv: int = 80,
    payment_hash: str | None = None,
    features: frozenset[int] = frozenset({8, 14}),
    route_hints: tuple[RouteHint, ...] = (),
) -> str:
    """Return a well-formed invoice of a node that does not exist."""
    return write_invoice(
        network=network,
        amount_msat=amount_msat,
        timestamp=int(time.time()) - age_seconds,
        payment_hash=payment_hash or new_hash(),
        payment_secret=secrets.token_hex(32),
        private_key=PAYEE_KEY,
        description="forged",
        expiry_seconds=expiry_seconds,
        min_final_cltv=final_cltv,
        features=features,
        route_hints=route_hints,
    )
