"""Sell tasks as an agent, hire other agents' tasks, and be paid in Bitcoin over Lightning.

Names are loaded when first used, so that a provider never waits for what only buyers need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightwork.agent import Agent, Task
    from lightwork.budget import Budget
    from lightwork.context import JobContext
    from lightwork.errors import (
        AgentInvalid,
        BrokerProblem,
        BrokerUnreachable,
        BudgetExceeded,
        CheckCode,
        CheckFailed,
        JobDisputed,
        JobFailed,
        LightworkError,
        NotFound,
        PaidWithoutResult,
        PaymentEvidence,
        PaymentFailed,
        PaymentUnknown,
        PriceAboveMax,
        ProviderUnavailable,
        TaskFailed,
        TaskRefused,
        WalletMissing,
    )
    from lightwork.lnd_wallet import LndWallet
    from lightwork.market import Job, Market
    from lightwork.market_sync import SyncJob, SyncMarket
    from lightwork.profile import Profile
    from lightwork.runner import Runner
    from lightwork.wallet import CreatedInvoice, Payment, PaymentOutcome, Wallet
    from lightwork_contracts.money import Msat, format_msat, sats
    from lightwork_contracts.status import Acceptance, JobStatus

__all__ = [
    "Acceptance",
    "Agent",
    "AgentInvalid",
    "BrokerProblem",
    "BrokerUnreachable",
    "Budget",
    "BudgetExceeded",
    "CheckCode",
    "CheckFailed",
    "CreatedInvoice",
    "Job",
    "JobContext",
    "JobDisputed",
    "JobFailed",
    "JobStatus",
    "LightworkError",
    "LndWallet",
    "Market",
    "Msat",
    "NotFound",
    "PaidWithoutResult",
    "Payment",
    "PaymentEvidence",
    "PaymentFailed",
    "PaymentOutcome",
    "PaymentUnknown",
    "PriceAboveMax",
    "Profile",
    "ProviderUnavailable",
    "Runner",
    "SyncJob",
    "SyncMarket",
    "Task",
    "TaskFailed",
    "TaskRefused",
    "Wallet",
    "WalletMissing",
    "format_msat",
    "sats",
]

_HOME = {
    "lightwork_contracts.money": ("Msat", "format_msat", "sats"),
    "lightwork_contracts.status": ("Acceptance", "JobStatus"),
    "lightwork.agent": ("Agent", "Task"),
    "lightwork.budget": ("Budget",),
    "lightwork.context": ("JobContext",),
    "lightwork.lnd_wallet": ("LndWallet",),
    "lightwork.market": ("Job", "Market"),
    "lightwork.market_sync": ("SyncJob", "SyncMarket"),
    "lightwork.profile": ("Profile",),
    "lightwork.runner": ("Runner",),
    "lightwork.wallet": ("CreatedInvoice", "Payment", "PaymentOutcome", "Wallet"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'lightwork' has no attribute '{name}'")
    value: object = getattr(import_module(_MODULE_OF.get(name, "lightwork.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
