"""Invoices of a provider's wallet, made to order."""

from __future__ import annotations

import hashlib

from coincurve import PrivateKey

from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.money import Msat

NODE_KEY = bytes([0x44]) * 32
NODE_ID = PrivateKey(NODE_KEY).public_key.format().hex()
LND_021_FEATURES = frozenset({8, 14, 17, 25})
"""What LND 0.21 sets on an invoice: TLV onion and payment secret required, MPP and blinded routes optional."""


def provider_invoice(
    *,
    payment_hash: str = "ab" * 32,
    amount_msat: int | None = 10_000,
    timestamp: int = 1_800_000_000,
    expiry_seconds: int = 400_000,
    min_final_cltv: int = 24,
    network: Network = Network.REGTEST,
    features: frozenset[int] = LND_021_FEATURES,
) -> str:
    """Return a signed BOLT11 invoice; the amount in msat, times in seconds."""
    return write_invoice(
        network=network,
        amount_msat=None if amount_msat is None else Msat(amount_msat),
        timestamp=timestamp,
        payment_hash=payment_hash,
        payment_secret=hashlib.sha256(payment_hash.encode()).hexdigest(),
        private_key=NODE_KEY,
        description="a job",
        expiry_seconds=expiry_seconds,
        min_final_cltv=min_final_cltv,
        features=features,
    )
