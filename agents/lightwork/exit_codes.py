"""The exit codes of the command line. Stable: scripts may rely on them."""

from __future__ import annotations

from enum import IntEnum

from lightwork.errors import (
    AuthRefused,
    BrokerAnswerInvalid,
    BrokerProblem,
    BrokerUnreachable,
    BudgetExceeded,
    CheckFailed,
    JobDisputed,
    JobFailed,
    LightworkError,
    NotFound,
    PaidWithoutResult,
    PaymentFailed,
    PaymentUnknown,
    PriceAboveMax,
    ProviderUnavailable,
    WalletRefused,
    WalletUnreachable,
    WebhookInvalid,
    WithdrawalFailed,
    WithdrawalUnknown,
)


class ExitCode(IntEnum):
    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    NOT_PAID = 3
    PAYMENT_FAILED = 4
    BROKER_UNREACHABLE = 5
    NOT_FOUND = 6
    REFUSED = 7
    PAID_WITHOUT_RESULT = 8
    INTERRUPTED = 130


MEANING = {
    ExitCode.OK: "done",
    ExitCode.JOB_FAILED: "the job failed, was refunded, expired or is in dispute",
    ExitCode.USAGE: "wrong use, or a wrong profile, key, wallet or agent file",
    ExitCode.NOT_PAID: "refused before paying: above --max, or a check failed",
    ExitCode.PAYMENT_FAILED: "the wallet could not pay, or does not know whether it did: look before you pay again",
    ExitCode.BROKER_UNREACHABLE: "no answer from the broker",
    ExitCode.NOT_FOUND: "no such task, listing or job, or its provider is not there",
    ExitCode.REFUSED: "the broker refused",
    ExitCode.PAID_WITHOUT_RESULT: "paid, and there is no result: keep the evidence that was printed",
    ExitCode.INTERRUPTED: "interrupted",
}

# The first that fits: subclasses stand before their bases.
_CODES: tuple[tuple[type[LightworkError], ExitCode], ...] = (
    (JobFailed, ExitCode.JOB_FAILED),
    (JobDisputed, ExitCode.JOB_FAILED),
    (PaidWithoutResult, ExitCode.PAID_WITHOUT_RESULT),
    (CheckFailed, ExitCode.NOT_PAID),
    (BudgetExceeded, ExitCode.NOT_PAID),
    (PriceAboveMax, ExitCode.NOT_PAID),
    (PaymentFailed, ExitCode.PAYMENT_FAILED),
    (PaymentUnknown, ExitCode.PAYMENT_FAILED),
    (WalletUnreachable, ExitCode.PAYMENT_FAILED),
    (WebhookInvalid, ExitCode.USAGE),
    (WithdrawalFailed, ExitCode.PAYMENT_FAILED),
    (WithdrawalUnknown, ExitCode.PAYMENT_FAILED),
    (WalletRefused, ExitCode.PAYMENT_FAILED),
    (BrokerUnreachable, ExitCode.BROKER_UNREACHABLE),
    (BrokerAnswerInvalid, ExitCode.BROKER_UNREACHABLE),
    (NotFound, ExitCode.NOT_FOUND),
    (ProviderUnavailable, ExitCode.NOT_FOUND),
    (AuthRefused, ExitCode.REFUSED),
    (BrokerProblem, ExitCode.REFUSED),
)


def exit_code_of(error: LightworkError) -> ExitCode:
    """Return how a command ends with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.USAGE)


def epilog() -> str:
    """The exit codes for `--help`."""
    return "Exit codes: " + "; ".join(f"{code.value} {MEANING[code]}" for code in ExitCode) + "."
