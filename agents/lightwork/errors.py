"""Every error that the SDK raises: a class per cause, each with a stable `code` and often a next step."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lightwork_contracts.ids import JobId, PaymentHash
    from lightwork_contracts.signed.event import SignedEvent
    from lightwork_contracts.wire.problems import Problem


class LightworkError(Exception):
    """The base. `code` is stable, `hint` says what to do next; the message is for people and may change."""

    code: str = "error"
    default_hint: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if hint is not None else self.default_hint


# --- writing an agent ------------------------------------------------------------------------------


class AgentInvalid(LightworkError):
    """An agent or a task is declared wrongly; the message names file, line and function."""

    code = "agent_invalid"


class AnnotationMissing(AgentInvalid):
    """A parameter or the return value has no annotation, so there is no schema to publish."""

    code = "annotation_missing"


class DocstringMissing(AgentInvalid):
    """The function has no docstring, so there is no advert to publish."""

    code = "docstring_missing"


class AgentNotLoaded(LightworkError):
    """A file given to `lightwork run` could not be loaded as an agent."""

    code = "agent_not_loaded"


# --- running a task --------------------------------------------------------------------------------


class TaskRefused(LightworkError):
    """Raise it in a task to refuse an input. The buyer is refunded in full and reads the message."""

    code = "task_refused"


class TaskFailed(LightworkError):
    """Raise it in a task that could not do its work. The buyer is refunded and reads the message."""

    code = "task_failed"


class InputInvalid(LightworkError):
    """An input that does not fit the task's signature; the message names each field that is wrong."""

    code = "input_invalid"


class OutputInvalid(LightworkError):
    """A return value that does not fit the task's annotation."""

    code = "output_invalid"


# --- configuration ---------------------------------------------------------------------------------


class ProfileInvalid(LightworkError):
    """The profile file, a key file or an environment variable cannot be used."""

    code = "profile_invalid"


class WalletMissing(LightworkError):
    """Something must be paid or charged, and no wallet is configured."""

    code = "wallet_missing"
    default_hint = (
        "set LIGHTWORK_LND_REST, LIGHTWORK_LND_TLS_CERT and LIGHTWORK_LND_MACAROON, "
        "or the same under [wallet] in the profile; to sell without a wallet, see `lightwork run --credit`"
    )


class WithdrawalFailed(LightworkError):
    """The broker's node could not pay the invoice; what it took is back in the balance."""

    code = "withdrawal_failed"
    default_hint = "try again with a fresh invoice, and perhaps a higher --max-fee"


class WebhookInvalid(LightworkError):
    """What came is no message of the broker that has this secret, or is too old."""

    code = "webhook_invalid"
    default_hint = "answer 400, and check the secret and the clock"


class WithdrawalUnknown(LightworkError):
    """The outcome of a withdrawal is not known yet; the broker keeps the money reserved."""

    code = "withdrawal_unknown"
    default_hint = "look again: lightwork withdraw --show ID"


# --- the broker ------------------------------------------------------------------------------------


class BrokerUnreachable(LightworkError):
    """No answer from the broker. What was asked may or may not have happened."""

    code = "broker_unreachable"
    default_hint = (
        "is the broker running, and is LIGHTWORK_BROKER its URL? `curl $LIGHTWORK_BROKER/v1/health`"
    )


class BrokerProblem(LightworkError):
    """The broker refused. `code` is the problem's own, `problem` the whole RFC 9457 document."""

    def __init__(self, problem: Problem) -> None:
        message = problem.detail or problem.title
        if problem.errors:
            message += ": " + "; ".join(f"{error.pointer} {error.message}" for error in problem.errors)
        super().__init__(message, hint=problem.hint)
        self.code = problem.code
        self.problem = problem
        self.status = problem.status


class NotFound(BrokerProblem):
    """There is no such listing, quote or job, or it is not yours to see."""


class PriceAboveMax(BrokerProblem):
    """The quote is above `max_price`; nothing was paid."""


class ProviderUnavailable(BrokerProblem):
    """The provider is offline, did not answer in time, or refused this input; nothing was paid."""


class RequestRefused(BrokerProblem):
    """The request itself does not fit: the input, its size, or the listing's version."""


class AuthRefused(BrokerProblem):
    """The broker does not accept the signature of this request."""


class LeaseLost(BrokerProblem):
    """The job is no longer leased to this runner."""


class WrongStatus(BrokerProblem):
    """The job's status does not permit what was asked."""


class BrokerAnswerInvalid(LightworkError):
    """The broker answered with something that is not of this protocol."""

    code = "broker_answer_invalid"
    default_hint = "is LIGHTWORK_BROKER really the URL of a Lightwork broker, of the same major version?"


# --- paying ----------------------------------------------------------------------------------------


class CheckCode(StrEnum):
    """Why a buyer refuses to pay, or does not accept a proof of payment. Stable."""

    BROKER_KEY = "check_broker_key"
    QUOTE_SIGNATURE = "check_quote_signature"
    QUOTE_TERMS = "check_quote_terms"
    COMMITMENT_SIGNATURE = "check_commitment_signature"
    PROVIDER_KEY = "check_provider_key"
    LISTING = "check_listing"
    LISTING_SIGNATURE = "check_listing_signature"
    INPUT_HASH = "check_input_hash"
    MODE = "check_mode"
    PRICE = "check_price"
    TOTAL = "check_total"
    ABOVE_MAX = "check_above_max"
    QUOTE_EXPIRED = "check_quote_expired"
    PROVIDER_INVOICE = "check_provider_invoice"
    PROVIDER_NEARBY = "check_provider_nearby"
    INVOICE_MISSING = "check_invoice_missing"
    INVOICE_MALFORMED = "check_invoice_malformed"
    INVOICE_NETWORK = "check_invoice_network"
    INVOICE_AMOUNT = "check_invoice_amount"
    INVOICE_HASH = "check_invoice_hash"
    INVOICE_PAYEE = "check_invoice_payee"
    INVOICE_EXPIRED = "check_invoice_expired"
    INVOICE_CLTV = "check_invoice_cltv"
    PREIMAGE = "check_preimage"


class CheckFailed(LightworkError):
    """What the broker sent does not hold together, so the buyer does not pay. `code` is a `CheckCode`."""

    default_hint = "nothing was paid; do not retry with this broker before you know why"

    def __init__(self, code: CheckCode, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code.value
        self.check = code


class BudgetExceeded(LightworkError):
    """The quote would go beyond the budget of this market; nothing was paid."""

    code = "budget_exceeded"


class WalletUnreachable(LightworkError):
    """The wallet's node could not be connected to; nothing was sent."""

    code = "wallet_unreachable"
    default_hint = "is the node up, and do LIGHTWORK_LND_REST and LIGHTWORK_LND_TLS_CERT belong to it?"


class WalletRefused(LightworkError):
    """The wallet's node answered a call that moves no money with an error."""

    code = "wallet_refused"


class PaymentFailed(LightworkError):
    """The payment ended FAILED at the node: no money moved."""

    code = "payment_failed"
    default_hint = "does the wallet have a channel with enough outbound balance towards the broker?"


class PaymentUnknown(LightworkError):
    """The wallet does not say how the payment ended. It may still settle, so it must not be made again.

    `held_blocks`, where it is known, is for how many blocks from its sending the money may be held at most.
    """

    code = "payment_unknown"
    default_hint = "`lightwork jobs ID` shows how the job stands; do not pay again"

    def __init__(
        self,
        message: str,
        *,
        job_id: JobId | None = None,
        held_blocks: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.job_id = job_id
        self.held_blocks = held_blocks


# --- a job -----------------------------------------------------------------------------------------


class JobFailed(LightworkError):
    """The job ended unpaid: broker and wallet both say so, so no money moved. `code` is the job's error code."""

    def __init__(self, message: str, *, code: str, job_id: JobId, status: str) -> None:
        super().__init__(message)
        self.code = code
        self.job_id = job_id
        self.status = status


class JobDisputed(LightworkError):
    """The result was rejected, and an arbiter has still to rule; the money is held."""

    code = "job_disputed"


@dataclass(frozen=True, slots=True)
class PaymentEvidence:
    """Who promised what for a payment that bought nothing. The preimage proves that it was made."""

    job_id: JobId
    payment_hash: PaymentHash
    quote: SignedEvent
    """Signed by the broker: price, hash, input, limits."""
    commitment: SignedEvent
    """Signed by the provider: this hash is mine. So the provider, or who was told by it, took the money."""
    preimage: str | None = field(default=None, repr=False)
    """64 hex characters, None if the wallet gave none that fits. Show it only to who judges the case."""

    def document(self) -> dict[str, JsonValue]:
        """Return what may be printed and kept: all but the preimage, which the wallet's node keeps."""
        return {
            "job_id": self.job_id,
            "payment_hash": self.payment_hash,
            "preimage_known": self.preimage is not None,
            "quote": self.quote.model_dump(mode="json"),
            "commitment": self.commitment.model_dump(mode="json"),
        }


class PaidWithoutResult(LightworkError):
    """The wallet has paid, and the broker has no result. `evidence` holds what provider and broker signed."""

    code = "paid_without_result"
    default_hint = (
        "do not hire this provider again; keep the evidence, and show it to the broker's operator. "
        "Your node keeps the preimage"
    )

    def __init__(self, message: str, evidence: PaymentEvidence) -> None:
        super().__init__(message)
        self.evidence = evidence
        self.job_id = evidence.job_id
