"""Jobs, work and events on the wire. Buyer and provider each see their own half."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from lightwork_contracts.ids import JobId, ListingId, PaymentHashField, PubkeyField, QuoteId
from lightwork_contracts.money import AmountMsat, PriceMsat
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.base import Answer, JsonInput, Page, UnixTime, Wire
from lightwork_contracts.wire.market import QuoteView, QuoteWork, RequestQuote


class Hire(Wire):
    """Hire by a quote that you hold, or by `request`, which quotes and hires in one call."""

    quote_id: QuoteId | None = None
    request: RequestQuote | None = None


class JobError(Answer):
    """Why a job did not end settled. `code` is stable, e.g. `task_failed`, `timed_out`, `cancelled`."""

    code: str
    message: str


class JobForBuyer(Answer):
    """A job as its buyer sees it. Pay `invoice` only after checking it against the quote."""

    role: Literal["buyer"] = "buyer"
    id: JobId
    status: JobStatus
    quote: QuoteView
    input: JsonInput
    invoice: str | None = Field(
        default=None, description="BOLT11 hold invoice with the provider's payment hash"
    )
    pay_by: UnixTime | None = None
    result: JsonValue = Field(default=None, description="the result, once the status makes it visible")
    result_hash: str | None = None
    error: JobError | None = None
    progress: float | None = Field(default=None, ge=0, le=1)
    progress_note: str | None = None
    deadline: UnixTime | None = Field(default=None, description="when the present status ends by itself")
    routing_paid_msat: AmountMsat | None = None
    preimage: str | None = Field(default=None, repr=False, description="the proof of payment, once settled")
    last_event: int = 0
    created_at: UnixTime
    updated_at: UnixTime


class JobForProvider(Answer):
    """A job as its provider sees it: never the buyer's invoice, never the broker's fee."""

    role: Literal["provider"] = "provider"
    id: JobId
    status: JobStatus
    listing_id: ListingId
    listing_version: int
    task: str
    price_msat: PriceMsat
    payment_hash: PaymentHashField
    input: JsonInput
    error: JobError | None = None
    deadline: UnixTime | None = None
    last_event: int = 0
    created_at: UnixTime
    updated_at: UnixTime


JobView = Annotated[JobForBuyer | JobForProvider, Field(discriminator="role")]


class JobPage(Page):
    jobs: tuple[JobView, ...]


class Reject(Wire):
    """The buyer rejects a delivered result within the review window; an arbiter rules."""

    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class Rule(Wire):
    """The operator's ruling on a disputed job."""

    release: bool
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class JobEvent(Answer):
    """One numbered, stored event of a job. `seq` grows; resume a stream with `Last-Event-ID: <seq>`."""

    seq: int
    job_id: JobId
    kind: str = Field(examples=["job.funded", "job.progress"])
    status: JobStatus
    data: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    at: UnixTime


class PollWork(Wire):
    """Ask for work, waiting up to `wait_seconds`. Asking is also what keeps the agent's listings online."""

    wait_seconds: float = Field(default=20, ge=0, le=60)
    max_quotes: int = Field(default=8, ge=0, le=64)
    max_jobs: int = Field(default=1, ge=0, le=64, description="how many more jobs this runner can start now")


class JobWork(Answer):
    """A leased job. Every later call about it carries `epoch`; a stale epoch is refused (`lease_lost`)."""

    kind: Literal["job"] = "job"
    job_id: JobId
    epoch: int
    lease_seconds: int = Field(description="send a heartbeat well within this")
    deadline: UnixTime
    quote_id: QuoteId
    listing_id: ListingId
    listing_version: int
    task: str
    buyer: PubkeyField
    price_msat: PriceMsat
    payment_hash: PaymentHashField
    input: JsonInput


Work = Annotated[QuoteWork | JobWork, Field(discriminator="kind")]


class WorkList(Answer):
    work: tuple[Work, ...]


class Heartbeat(Wire):
    epoch: int = Field(ge=1)
    progress: float | None = Field(default=None, ge=0, le=1)
    note: Annotated[str, Field(max_length=500)] | None = None


class HeartbeatAnswer(Answer):
    """`stop` is true when the job no longer needs this work (cancelled, out of time, leased to another)."""

    stop: bool
    status: JobStatus
    deadline: UnixTime


class Deliver(Wire):
    epoch: int = Field(ge=1)
    result: JsonValue


class Fail(Wire):
    """The task failed or was refused. The buyer is refunded; `message` reaches the buyer."""

    epoch: int = Field(ge=1)
    code: Literal["task_failed", "task_refused", "output_invalid"] = "task_failed"
    message: Annotated[str, Field(min_length=1, max_length=2_000)]
