"""The flows of the matrix: what the parties of one job do, and how it ends when nobody is killed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.status import JobStatus

PRICE_MSAT = 10_000
FEE_MSAT = 1_100
ROUTING_MSAT = 1_000
"""The routing budget in escrow mode: the direct channel to the provider uses nothing of it."""
WORK_SECONDS = 30
REVIEW_SECONDS = 20
WITHDRAWN_MSAT = 7_000
WITHDRAWAL_FEE_MSAT = 1_000


class Work(StrEnum):
    DELIVER = "deliver"
    FAIL = "fail"
    DAWDLE = "dawdle"
    """Heartbeats, and no result in time."""
    NONE = "none"
    """The job is never taken."""


class Verdict(StrEnum):
    """What the buyer of a reviewed job makes of the result."""

    ACCEPT = "accept"
    SILENT = "silent"
    REJECT = "reject"


class CancelWhen(StrEnum):
    UNPAID = "unpaid"
    FUNDED = "funded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One way that a job can go. `refuses` has the provider decline the quote, so that no job comes to be."""

    name: str
    ends: JobStatus | None
    mode: PaymentMode = PaymentMode.ESCROW
    refuses: bool = False
    work: Work = Work.DELIVER
    verdict: Verdict | None = None
    release: bool = False
    cancel: CancelWhen | None = None
    pays: bool = True
    stuck: bool = False
    """The payout is stuck on its way for a while."""
    withdraws: bool = False
    from_the_quote: bool = False
    """Whether the steps before there is a job are cells too: until then all flows are alike."""

    @property
    def total_msat(self) -> int:
        """Return what the buyer pays."""
        routing = ROUTING_MSAT if self.mode is PaymentMode.ESCROW else 0
        return PRICE_MSAT + FEE_MSAT + routing


S = JobStatus

FLOWS = (
    Flow(name="settled", ends=S.SETTLED, from_the_quote=True),
    Flow(name="accepted after review", ends=S.SETTLED, verdict=Verdict.ACCEPT),
    Flow(name="accepted by silence", ends=S.SETTLED, verdict=Verdict.SILENT),
    Flow(name="payout stuck for a while", ends=S.SETTLED, stuck=True),
    Flow(name="refused by the provider", ends=None, refuses=True, from_the_quote=True),
    Flow(name="never paid", ends=S.EXPIRED, pays=False),
    Flow(name="failed", ends=S.REFUNDED, work=Work.FAIL),
    Flow(name="timed out", ends=S.REFUNDED, work=Work.DAWDLE),
    Flow(name="cancelled before funding", ends=S.EXPIRED, cancel=CancelWhen.UNPAID, pays=False),
    Flow(name="cancelled after funding", ends=S.REFUNDED, cancel=CancelWhen.FUNDED, work=Work.NONE),
    Flow(name="rejected, ruled refund", ends=S.REFUNDED, verdict=Verdict.REJECT),
    Flow(name="rejected, ruled release", ends=S.SETTLED, verdict=Verdict.REJECT, release=True),
    Flow(name="credit settled", ends=S.SETTLED, mode=PaymentMode.CREDIT, from_the_quote=True),
    Flow(name="credit failed", ends=S.REFUNDED, mode=PaymentMode.CREDIT, work=Work.FAIL),
    Flow(name="credit withdrawn", ends=S.SETTLED, mode=PaymentMode.CREDIT, withdraws=True),
)
