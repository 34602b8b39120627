"""`lightwork balance` and `lightwork withdraw`: what the broker owes this key, and taking it."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from lightwork.broker import Broker
from lightwork.commands.screen import (
    BrokerOption,
    JsonFlag,
    ProfileOption,
    run_async,
    say,
    show_json,
    show_table,
)
from lightwork.connection import BrokerConnection
from lightwork.errors import InputInvalid, WithdrawalFailed, WithdrawalUnknown
from lightwork.profile import Profile
from lightwork_contracts.ids import WithdrawalId
from lightwork_contracts.money import Msat, format_msat, sats
from lightwork_contracts.wire.accounts import BalanceView, Withdraw, WithdrawalStatus, WithdrawalView

INVOICE_SECONDS = 600
FINAL_CLTV = 80
WAIT_SECONDS = 20.0
LOOKS = 6
"""How often the end of a withdrawal is waited for: two minutes, about as long as a node tries."""


def balance(*, broker: BrokerOption = None, profile: ProfileOption = None, as_json: JsonFlag = False) -> None:
    """Show what the broker owes this key for jobs in credit mode."""

    async def read() -> BalanceView:
        api = _open(broker, profile)
        try:
            return await api.balance()
        finally:
            await api.close()

    view = run_async(read(), as_json=as_json)
    if as_json:
        show_json(view.model_dump(mode="json"))
        return
    show_table(
        ("free", "being withdrawn", "in jobs under way", "ceiling"),
        [
            (
                format_msat(view.balance_msat),
                format_msat(view.withdrawing_msat),
                format_msat(view.pending_msat),
                format_msat(view.ceiling_msat),
            )
        ],
    )
    if view.balance_msat:
        say("the broker could keep it: lightwork withdraw --amount SATS", style="dim")


def withdraw(
    invoice: Annotated[
        str | None,
        typer.Argument(help="A BOLT11 invoice with an amount, of any wallet.", metavar="[INVOICE]"),
    ] = None,
    *,
    amount: Annotated[
        int | None,
        typer.Option(
            "--amount", min=1, help="Satoshis to take to this profile's own wallet.", metavar="SATS"
        ),
    ] = None,
    max_fee: Annotated[
        int, typer.Option("--max-fee", min=0, help="The most that routing may cost.", metavar="SATS")
    ] = 5,
    show: Annotated[
        str | None, typer.Option("--show", help="Only look at a withdrawal that was begun.", metavar="ID")
    ] = None,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take what the broker owes: have an invoice paid, or one that the profile's own wallet makes."""
    if [invoice is not None, amount is not None, show is not None].count(True) != 1:
        raise typer.BadParameter("give an invoice, --amount, or --show")
    view = run_async(
        _withdraw(invoice, amount=amount, max_fee=max_fee, show=show, broker=broker, profile=profile),
        as_json=as_json,
    )
    if as_json:
        show_json(view.model_dump(mode="json"))
    else:
        fee = format_msat(view.fee_paid_msat or 0)
        say(f"{view.id}: {format_msat(view.amount_msat)} paid, routing {fee}", style="green")


async def _withdraw(
    invoice: str | None,
    *,
    amount: int | None,
    max_fee: int,
    show: str | None,
    broker: str | None,
    profile: str | None,
) -> WithdrawalView:
    api = _open(broker, profile)
    try:
        if show is not None:
            return await _follow(api, await api.withdrawal(WithdrawalId(show)))
        if amount is not None:
            invoice = await _own_invoice(sats(amount), broker=broker, profile=profile)
        if invoice is None:
            raise InputInvalid("there is no invoice to withdraw to")
        body = Withdraw(invoice=invoice.lower(), max_fee_msat=sats(max_fee))
        return await _follow(api, await api.withdraw(body, idempotency_key=secrets.token_hex(16)))
    finally:
        await api.close()


async def _follow(api: Broker, view: WithdrawalView) -> WithdrawalView:
    """Wait for the end.

    Raises:
        WithdrawalFailed: the money is back in the balance.
        WithdrawalUnknown: there is no end yet; the money stays reserved.
    """
    for _ in range(LOOKS):
        if view.status is not WithdrawalStatus.PAYING or view.waits_for_operator:
            break
        view = await api.withdrawal(view.id, wait_seconds=WAIT_SECONDS)
    match view.status:
        case WithdrawalStatus.PAID:
            return view
        case WithdrawalStatus.FAILED:
            raise WithdrawalFailed(f"{view.id} failed: {view.error_code}; the money is in the balance again")
        case WithdrawalStatus.PAYING if view.waits_for_operator:
            raise WithdrawalUnknown(
                f"{view.id} has not begun: this broker pays nothing out until its operator has looked at its books; "
                "the money stays reserved",
                hint=f"lightwork withdraw --show {view.id}",
            )
        case WithdrawalStatus.PAYING:
            raise WithdrawalUnknown(
                f"{view.id} is still being paid; the money stays reserved until the node says what became of it",
                hint=f"lightwork withdraw --show {view.id}",
            )


async def _own_invoice(amount: Msat, *, broker: str | None, profile: str | None) -> str:
    wallet = Profile.load(name=profile).wallet(broker=broker)
    try:
        made = await wallet.create_invoice(
            amount_msat=amount,
            expiry_seconds=INVOICE_SECONDS,
            memo="lightwork withdrawal",
            final_cltv=FINAL_CLTV,
        )
    finally:
        await wallet.close()
    return made.invoice


def _open(broker: str | None, profile: str | None) -> Broker:
    chosen = Profile.load(name=profile)
    return Broker(BrokerConnection(broker or chosen.broker, key=chosen.secret_key()))
