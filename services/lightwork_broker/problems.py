"""Refusals on the wire: the one table from codes to HTTP, and RFC 9457 answers made from it."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from lightwork_broker.errors import BrokerError, code_of
from lightwork_contracts.wire.problems import FieldError, Problem, ProblemCode

MEDIA_TYPE = "application/problem+json"

P = ProblemCode

HTTP: dict[ProblemCode, tuple[int, str]] = {
    P.AUTH_MISSING: (401, "The request is not signed"),
    P.AUTH_MALFORMED: (401, "The Authorization header cannot be read"),
    P.AUTH_KIND: (401, "The signed event is not an HTTP authorization"),
    P.AUTH_URL_MISMATCH: (401, "The signature is for another URL"),
    P.AUTH_METHOD_MISMATCH: (401, "The signature is for another method"),
    P.AUTH_PAYLOAD_MISMATCH: (401, "The signature is for another body"),
    P.AUTH_STALE: (401, "The signature is too old or from the future"),
    P.AUTH_SIGNATURE: (401, "The signature is wrong"),
    P.AUTH_REPLAYED: (401, "The signature was used before"),
    P.FORBIDDEN: (403, "This is not yours to do"),
    P.NOT_FOUND: (404, "There is no such thing"),
    P.METHOD_NOT_ALLOWED: (405, "This cannot be done here"),
    P.REQUEST_INVALID: (422, "The request does not fit the API"),
    P.BODY_TOO_LARGE: (413, "The request is too large"),
    P.IDEMPOTENCY_CONFLICT: (409, "The Idempotency-Key was used for something else"),
    P.LISTING_INVALID: (422, "The listing is not valid"),
    P.LISTING_STALE: (409, "The listing has changed"),
    P.LISTING_LIMIT: (409, "Too many listings"),
    P.LISTING_RETIRED: (410, "The listing is retired"),
    P.INPUT_INVALID: (422, "The input does not fit the task"),
    P.OUTPUT_INVALID: (422, "The result does not fit the task"),
    P.PRICE_ABOVE_MAX: (409, "The price is above your maximum"),
    P.PROVIDER_OFFLINE: (503, "The provider is offline"),
    P.PROVIDER_UNRESPONSIVE: (504, "The provider did not answer"),
    P.PROVIDER_REFUSED: (409, "The provider refused"),
    P.QUOTE_EXPIRED: (410, "The quote has expired"),
    P.COMMITMENT_INVALID: (422, "The commitment is not valid"),
    P.MODE_NOT_ALLOWED: (409, "The job would be paid in another mode"),
    P.CREDIT_CEILING: (409, "The broker would owe the provider too much"),
    P.BALANCE_TOO_LOW: (409, "The balance is too low"),
    P.WITHDRAWAL_LIMIT: (409, "Too much is being withdrawn"),
    P.PAYOUTS_STOPPED: (503, "The broker takes on no job"),
    P.WITHDRAWALS_STOPPED: (503, "Withdrawals are stopped"),
    P.INVOICE_MALFORMED: (422, "The invoice cannot be read"),
    P.INVOICE_NETWORK: (422, "The invoice is for another network"),
    P.INVOICE_NO_AMOUNT: (422, "The invoice names no amount"),
    P.INVOICE_AMOUNT: (422, "The invoice's amount is wrong"),
    P.INVOICE_EXPIRED: (422, "The invoice has expired"),
    P.INVOICE_EXPIRES_TOO_SOON: (422, "The invoice expires too soon"),
    P.INVOICE_EXPIRES_TOO_LATE: (422, "The invoice can be paid for far longer than the job"),
    P.INVOICE_CLTV: (422, "The invoice locks money for too long"),
    P.INVOICE_FEATURES: (422, "The invoice needs unknown features"),
    P.INVOICE_HASH: (422, "The invoice has another payment hash"),
    P.INVOICE_HASH_USED: (409, "The payment hash is in use"),
    P.INVOICE_OWN_NODE: (422, "The invoice is payable at the broker's own node"),
    P.NO_ROUTE: (422, "There is no affordable route to the provider"),
    P.TOO_MANY_JOBS: (409, "Too many jobs are under way"),
    P.WRONG_STATUS: (409, "The job's status does not permit this"),
    P.LEASE_LOST: (409, "The lease is lost"),
    P.WEBHOOK_REFUSED: (422, "The webhook is refused"),
    P.LIGHTNING_UNAVAILABLE: (503, "The Lightning node is not available"),
    P.DATABASE_UNAVAILABLE: (503, "The database is not available"),
    P.OVERLOADED: (429, "Too much at once"),
    P.INTERNAL: (500, "The broker made a mistake"),
}


def problem(
    code: ProblemCode,
    detail: str,
    *,
    hint: str | None = None,
    instance: str | None = None,
    errors: tuple[FieldError, ...] = (),
    context: dict[str, Any] | None = None,
) -> JSONResponse:
    """Return the answer for one code."""
    status, title = HTTP[code]
    body = Problem(
        type=f"urn:lightwork:problem:{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        hint=hint,
        instance=instance,
        errors=errors,
        context=context or {},
    )
    headers = {"WWW-Authenticate": "Nostr"} if status == 401 else {}
    if status in (429, 503):
        headers["Retry-After"] = "1"
    return JSONResponse(
        body.model_dump(mode="json", exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE
    )


def problem_of(error: BrokerError, *, instance: str | None = None) -> JSONResponse:
    """Return the answer for a refusal of ours."""
    return problem(
        code_of(error),
        error.detail,
        hint=error.hint,
        instance=instance,
        errors=error.errors,
        context=dict(error.context),
    )


def documented(*codes: ProblemCode) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may refuse with these codes, for OpenAPI."""
    by_status: dict[int, list[ProblemCode]] = {}
    for code in codes:
        by_status.setdefault(HTTP[code][0], []).append(code)
    return {
        status: {
            "model": Problem,
            "description": "; ".join(f"`{code}`: {HTTP[code][1].lower()}" for code in found),
            "content": {
                MEDIA_TYPE: {
                    "example": {
                        "type": f"urn:lightwork:problem:{found[0]}",
                        "title": HTTP[found[0]][1],
                        "status": status,
                        "code": found[0].value,
                        "detail": HTTP[found[0]][1] + ".",
                    }
                }
            },
        }
        for status, found in sorted(by_status.items())
    }


SIGNED = (
    P.AUTH_MISSING,
    P.AUTH_SIGNATURE,
    P.AUTH_STALE,
    P.AUTH_REPLAYED,
    P.REQUEST_INVALID,
    P.BODY_TOO_LARGE,
)
"""What every signed route may refuse with."""
