"""What a BOLT11 invoice says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

DEFAULT_EXPIRY_SECONDS = 3600
DEFAULT_MIN_FINAL_CLTV = 18
MAX_NUMBER_WORDS = 7
"""An expiry or a CLTV delta has at most 35 bits, as a timestamp has; LND's 64 bits overflow elsewhere."""
HOP_BYTES = 51

KNOWN_REQUIRED_FEATURES = frozenset({8, 14, 16, 24, 36, 48})
"""Even bits that BOLT 9 allows in an invoice. Not AMP (30): an AMP payment proves nothing by its hash."""

FEATURE_DEPENDENCIES = ((16, 14), (14, 8))
"""BOLT 9: the first of each pair has no meaning without the second (LND will not pay without both)."""


class Network(StrEnum):
    MAINNET = "mainnet"
    TESTNET = "testnet"
    SIGNET = "signet"
    REGTEST = "regtest"


PREFIXES: dict[str, Network] = {
    "bc": Network.MAINNET,
    "tb": Network.TESTNET,
    "tbs": Network.SIGNET,
    "bcrt": Network.REGTEST,
}


@dataclass(frozen=True, slots=True)
class Hop:
    """One channel of a route hint: `node` (33-byte compressed hex) is where the channel starts."""

    node: str
    short_channel_id: int
    fee_base_msat: Msat
    fee_proportional_millionths: int
    cltv_expiry_delta: int


RouteHint = tuple[Hop, ...]
"""The last hops to the payee, from a public node onwards."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """A BOLT11 invoice whose checksum and signature hold. Amounts are msat, times are Unix seconds."""

    text: str
    network: Network
    amount_msat: Msat | None
    timestamp: int
    expiry_seconds: int
    payment_hash: PaymentHash
    payment_secret: str
    description: str | None
    description_hash: str | None
    payee: str
    min_final_cltv: int
    features: frozenset[int]
    route_hints: tuple[RouteHint, ...]
    fallbacks: tuple[tuple[int, bytes], ...] = ()
    """Fallback addresses in the payee's order: version (0 to 18) and program, unchecked."""
    metadata: bytes | None = None

    @property
    def expires_at(self) -> int:
        """The first second at which the invoice can no longer be paid."""
        return self.timestamp + self.expiry_seconds

    def is_expired(self, now: int) -> bool:
        """Whether the invoice can no longer be paid at `now`, in Unix seconds."""
        return now >= self.expires_at
