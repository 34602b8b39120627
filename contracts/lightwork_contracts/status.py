"""The states of a job, and what each one permits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobStatus(StrEnum):
    QUOTED = "quoted"
    OPEN = "open"
    FUNDED = "funded"
    WORKING = "working"
    DELIVERED = "delivered"
    RELEASING = "releasing"
    SETTLED = "settled"
    EXPIRED = "expired"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    DISPUTED = "disputed"


class Acceptance(StrEnum):
    """`auto`: a result that fits the output schema is accepted. `review`: the buyer may reject it."""

    AUTO = "auto"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What may be done with a job in one status, for the API, the CLI and people who read."""

    terminal: bool = False
    money_held: bool = False
    buyer_may_pay: bool = False
    buyer_may_cancel: bool = False
    buyer_may_rule: bool = False
    provider_may_work: bool = False
    result_visible: bool = False
    meaning: str = ""


CAPABILITIES: dict[JobStatus, Capabilities] = {
    JobStatus.QUOTED: Capabilities(meaning="the price is agreed and the hold invoice is being made"),
    JobStatus.OPEN: Capabilities(
        meaning="waiting for the buyer to pay the hold invoice", buyer_may_pay=True, buyer_may_cancel=True
    ),
    JobStatus.FUNDED: Capabilities(
        meaning="the buyer's HTLC is held; waiting for the provider", money_held=True, buyer_may_cancel=True
    ),
    JobStatus.WORKING: Capabilities(
        meaning="the provider holds the lease and works", money_held=True, provider_may_work=True
    ),
    JobStatus.DELIVERED: Capabilities(
        meaning="the result is here and fits the schema; the buyer may accept or reject it",
        money_held=True,
        buyer_may_rule=True,
        result_visible=True,
    ),
    JobStatus.RELEASING: Capabilities(
        meaning="accepted; the provider is being paid", money_held=True, result_visible=True
    ),
    JobStatus.SETTLED: Capabilities(
        meaning="the provider was paid and the buyer's HTLC settled", terminal=True, result_visible=True
    ),
    JobStatus.EXPIRED: Capabilities(meaning="never funded; no money moved", terminal=True),
    JobStatus.REFUNDING: Capabilities(meaning="the buyer's HTLC is being given back", money_held=True),
    JobStatus.REFUNDED: Capabilities(
        meaning="the buyer's HTLC was given back; no money moved", terminal=True
    ),
    JobStatus.DISPUTED: Capabilities(
        meaning="the buyer rejected the result; an arbiter decides", money_held=True, result_visible=True
    ),
}
