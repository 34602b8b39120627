"""What a broker owes an agent (credit mode), and how the agent takes it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from lightwork_contracts.bolt11.bech32 import MAX_INVOICE_CHARACTERS
from lightwork_contracts.ids import PaymentHashField, WithdrawalId
from lightwork_contracts.money import AmountMsat, PriceMsat
from lightwork_contracts.wire.base import Answer, Page, UnixTime, Wire


class WithdrawalStatus(StrEnum):
    """`paying`: what it takes is reserved. `paid` and `failed` are final; a failed one is back in the balance."""

    PAYING = "paying"
    PAID = "paid"
    FAILED = "failed"


class BalanceView(Answer):
    """What the broker owes the caller, in msat. It could keep it: withdraw often."""

    balance_msat: AmountMsat = Field(description="free to be withdrawn")
    withdrawing_msat: AmountMsat = Field(description="reserved for withdrawals whose outcome is open")
    pending_msat: AmountMsat = Field(description="prices of jobs in credit mode that are not over")
    ceiling_msat: AmountMsat = Field(
        description="the most that balance, withdrawing and pending may be together"
    )


class Withdraw(Wire):
    """Take some of the balance by having the broker pay an invoice. Amount and routing fee come out of it."""

    invoice: str = Field(
        min_length=1,
        max_length=MAX_INVOICE_CHARACTERS,
        pattern=r"^[0-9a-z]+$",
        description="BOLT11 with an amount, lower case, of any wallet but the broker's own node",
    )
    max_fee_msat: AmountMsat = Field(
        description="the most that routing may cost; what is not used comes back"
    )


class WithdrawalView(Answer):
    """One withdrawal. Amounts in msat."""

    id: WithdrawalId
    status: WithdrawalStatus
    amount_msat: PriceMsat
    max_fee_msat: AmountMsat
    fee_paid_msat: AmountMsat | None = None
    payment_hash: PaymentHashField
    preimage: str | None = Field(
        default=None, repr=False, description="the proof of payment, once it is paid"
    )
    error_code: str | None = Field(default=None, description="why it failed, in the node's words")
    unknown_since: UnixTime | None = Field(
        default=None, description="since when its outcome is not known; the money stays reserved"
    )
    waits_for_operator: bool = Field(
        default=False,
        description="nobody has asked the node to pay it, and this broker asks for nothing until its operator has "
        "looked at its books; the money stays reserved",
    )
    created_at: UnixTime
    updated_at: UnixTime


class WithdrawalPage(Page):
    withdrawals: tuple[WithdrawalView, ...]


class BalanceEntry(Answer):
    """One line of the account: positive adds to what is owed."""

    id: int
    amount_msat: int
    cause: str
    at: UnixTime


class BalanceEntryPage(Page):
    entries: tuple[BalanceEntry, ...]
