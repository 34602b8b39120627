"""Every refusal of the broker: one class per cause, with a stable code."""

from __future__ import annotations

from typing import ClassVar

from pydantic import JsonValue

from lightwork_contracts.wire.problems import FieldError, ProblemCode


class BrokerError(Exception):
    """The root of what the broker says no with. `detail` and `hint` are for people, `code` for programs."""

    code: ClassVar[ProblemCode] = ProblemCode.INTERNAL

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        errors: tuple[FieldError, ...] = (),
        context: dict[str, JsonValue] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.errors = errors
        self.context = context or {}


class NotFound(BrokerError):
    code = ProblemCode.NOT_FOUND


class Forbidden(BrokerError):
    code = ProblemCode.FORBIDDEN


class RequestInvalid(BrokerError):
    code = ProblemCode.REQUEST_INVALID


class AuthRefused(BrokerError):
    """The request's signature is missing, wrong, stale or used before; `auth_code` says which."""

    def __init__(self, detail: str, *, auth_code: ProblemCode, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.auth_code = auth_code


class IdempotencyConflict(BrokerError):
    code = ProblemCode.IDEMPOTENCY_CONFLICT


class ListingInvalid(BrokerError):
    code = ProblemCode.LISTING_INVALID


class ListingStale(BrokerError):
    code = ProblemCode.LISTING_STALE


class ListingLimit(BrokerError):
    code = ProblemCode.LISTING_LIMIT


class ListingRetired(BrokerError):
    code = ProblemCode.LISTING_RETIRED


class InputInvalid(BrokerError):
    code = ProblemCode.INPUT_INVALID


class OutputInvalid(BrokerError):
    code = ProblemCode.OUTPUT_INVALID


class PriceAboveMax(BrokerError):
    code = ProblemCode.PRICE_ABOVE_MAX


class ProviderOffline(BrokerError):
    code = ProblemCode.PROVIDER_OFFLINE


class ProviderUnresponsive(BrokerError):
    code = ProblemCode.PROVIDER_UNRESPONSIVE


class ProviderRefused(BrokerError):
    code = ProblemCode.PROVIDER_REFUSED


class QuoteExpired(BrokerError):
    code = ProblemCode.QUOTE_EXPIRED


class CommitmentInvalid(BrokerError):
    code = ProblemCode.COMMITMENT_INVALID


class ModeNotAllowed(BrokerError):
    code = ProblemCode.MODE_NOT_ALLOWED


class CreditCeiling(BrokerError):
    code = ProblemCode.CREDIT_CEILING


class BalanceTooLow(BrokerError):
    code = ProblemCode.BALANCE_TOO_LOW


class WithdrawalLimit(BrokerError):
    code = ProblemCode.WITHDRAWAL_LIMIT


class WithdrawalsStopped(BrokerError):
    """Withdrawals wait for the operator."""

    code = ProblemCode.WITHDRAWALS_STOPPED


class PayoutsStopped(BrokerError):
    """No job is taken on while the books do not hold."""

    code = ProblemCode.PAYOUTS_STOPPED


class InvoiceRefused(BrokerError):
    """The provider's invoice cannot be wrapped safely; `invoice_code` says which rule it breaks."""

    def __init__(self, detail: str, *, invoice_code: ProblemCode, hint: str | None = None) -> None:
        super().__init__(detail, hint=hint)
        self.invoice_code = invoice_code


class NoRoute(BrokerError):
    code = ProblemCode.NO_ROUTE


class WrongStatus(BrokerError):
    code = ProblemCode.WRONG_STATUS


class LeaseLost(BrokerError):
    code = ProblemCode.LEASE_LOST


class TooManyJobs(BrokerError):
    code = ProblemCode.TOO_MANY_JOBS


class Overloaded(BrokerError):
    code = ProblemCode.OVERLOADED


class WebhookRefused(BrokerError):
    code = ProblemCode.WEBHOOK_REFUSED


class LightningDown(BrokerError):
    code = ProblemCode.LIGHTNING_UNAVAILABLE


class IllegalTransition(BrokerError):
    """A change of state that the table does not list: a defect of ours, or a stale caller."""

    code = ProblemCode.WRONG_STATUS


def code_of(error: BrokerError) -> ProblemCode:
    """Return the stable code of an error, the per-cause one where the class covers several."""
    if isinstance(error, AuthRefused):
        return error.auth_code
    if isinstance(error, InvoiceRefused):
        return error.invoice_code
    return error.code
