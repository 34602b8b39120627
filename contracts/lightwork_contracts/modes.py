"""The ways in which a job can be paid, and who could cheat in each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PaymentMode(StrEnum):
    """`escrow`: under the provider's own payment hash. `credit`: under the broker's, owed to the provider."""

    ESCROW = "escrow"
    CREDIT = "credit"


@dataclass(frozen=True, slots=True)
class Trust:
    """Who could take what, in words for people."""

    who_could_cheat: str
    meaning: str


TRUST: dict[PaymentMode, Trust] = {
    PaymentMode.ESCROW: Trust(
        who_could_cheat="not the broker; a provider whose own node lies on the buyer's route to the broker",
        meaning="the buyer's HTLC waits under the provider's payment hash, and the broker must pay the provider "
        "before it can take anything",
    ),
    PaymentMode.CREDIT: Trust(
        who_could_cheat="the broker: it could take the buyer's payment without a result, "
        "and keep what it owes the provider",
        meaning="the buyer's HTLC waits under the broker's payment hash, and the broker owes the provider the "
        "price until the provider withdraws it",
    ),
}
"""Read by the API, the command line and the pages, so that they say the same."""
