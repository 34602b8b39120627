"""RFC 9457 problem details, and the stable codes that programs may match on."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class ProblemCode(StrEnum):
    """Stable: a code is never renamed or reused. `PROBLEMS` says what each one means."""

    # who is asking
    AUTH_MISSING = "auth_missing"
    AUTH_MALFORMED = "auth_malformed"
    AUTH_KIND = "auth_kind"
    AUTH_URL_MISMATCH = "auth_url_mismatch"
    AUTH_METHOD_MISMATCH = "auth_method_mismatch"
    AUTH_PAYLOAD_MISMATCH = "auth_payload_mismatch"
    AUTH_STALE = "auth_stale"
    AUTH_SIGNATURE = "auth_signature"
    AUTH_REPLAYED = "auth_replayed"
    FORBIDDEN = "forbidden"
    # the request itself
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_INVALID = "request_invalid"
    BODY_TOO_LARGE = "body_too_large"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    # the market
    LISTING_INVALID = "listing_invalid"
    LISTING_STALE = "listing_stale"
    LISTING_LIMIT = "listing_limit"
    LISTING_RETIRED = "listing_retired"
    INPUT_INVALID = "input_invalid"
    OUTPUT_INVALID = "output_invalid"
    PRICE_ABOVE_MAX = "price_above_max"
    PROVIDER_OFFLINE = "provider_offline"
    PROVIDER_UNRESPONSIVE = "provider_unresponsive"
    PROVIDER_REFUSED = "provider_refused"
    QUOTE_EXPIRED = "quote_expired"
    COMMITMENT_INVALID = "commitment_invalid"
    MODE_NOT_ALLOWED = "mode_not_allowed"
    CREDIT_CEILING = "credit_ceiling"
    BALANCE_TOO_LOW = "balance_too_low"
    WITHDRAWAL_LIMIT = "withdrawal_limit"
    WITHDRAWALS_STOPPED = "withdrawals_stopped"
    PAYOUTS_STOPPED = "payouts_stopped"
    # the provider's invoice
    INVOICE_MALFORMED = "invoice_malformed"
    INVOICE_NETWORK = "invoice_network"
    INVOICE_NO_AMOUNT = "invoice_no_amount"
    INVOICE_AMOUNT = "invoice_amount"
    INVOICE_EXPIRED = "invoice_expired"
    INVOICE_EXPIRES_TOO_SOON = "invoice_expires_too_soon"
    INVOICE_EXPIRES_TOO_LATE = "invoice_expires_too_late"
    INVOICE_CLTV = "invoice_cltv"
    INVOICE_FEATURES = "invoice_features"
    INVOICE_HASH = "invoice_hash"
    INVOICE_HASH_USED = "invoice_hash_used"
    INVOICE_OWN_NODE = "invoice_own_node"
    NO_ROUTE = "no_route"
    # a job
    WRONG_STATUS = "wrong_status"
    TOO_MANY_JOBS = "too_many_jobs"
    LEASE_LOST = "lease_lost"
    # webhooks
    WEBHOOK_REFUSED = "webhook_refused"
    # the broker
    LIGHTNING_UNAVAILABLE = "lightning_unavailable"
    DATABASE_UNAVAILABLE = "database_unavailable"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class FieldError(BaseModel):
    """Where a request or a value did not fit: a JSON pointer, and what was wrong there."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    pointer: str = Field(examples=["/input/text"])
    message: str = Field(examples=["Input should be a valid string"])


class Problem(BaseModel):
    """An RFC 9457 problem. `code` is stable; `title` and `detail` are for people and may change."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: str = Field(examples=["urn:lightwork:problem:price_above_max"])
    title: str
    status: int
    code: str
    detail: str
    hint: str | None = Field(default=None, description="What to do next")
    instance: str | None = None
    errors: tuple[FieldError, ...] = ()
    context: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
