"""`lightwork pay`: pay a plain invoice with the profile's wallet."""

from __future__ import annotations

from typing import Annotated

import typer

from lightwork.commands.screen import BrokerOption, JsonFlag, ProfileOption, run_async, say, show_json
from lightwork.errors import InputInvalid, PaymentFailed, PaymentUnknown
from lightwork.profile import Profile
from lightwork.wallet import Payment, PaymentOutcome
from lightwork_contracts.bolt11 import InvoiceError, read_invoice
from lightwork_contracts.money import Msat, format_msat, sats


def pay(
    invoice: Annotated[str, typer.Argument(help="A BOLT11 invoice with an amount.")],
    *,
    max_fee: Annotated[
        int, typer.Option("--max-fee", min=0, help="The most that routing may cost.", metavar="SATS")
    ] = 5,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Pay an invoice: the faucet of `lightwork dev`, in its buyer's shell. For jobs, use `lightwork hire`."""
    amount, payment = run_async(
        _pay(invoice.lower(), max_fee=sats(max_fee), broker=broker, profile=profile), as_json=as_json
    )
    if as_json:
        show_json({"amount_msat": amount, "fee_msat": payment.fee_msat, "payment_hash": payment.payment_hash})
    else:
        say(f"{format_msat(amount)} paid, routing {format_msat(payment.fee_msat or 0)}", style="green")


async def _pay(
    invoice: str, *, max_fee: Msat, broker: str | None, profile: str | None
) -> tuple[Msat, Payment]:
    try:
        read = read_invoice(invoice)
    except InvoiceError as error:
        raise InputInvalid(f"this is no invoice: {error.message}") from None
    if read.amount_msat is None:
        raise InputInvalid("the invoice names no amount", hint="make one that does")
    wallet = Profile.load(name=profile).wallet(broker=broker)
    try:
        payment = await wallet.pay(invoice, payment_hash=read.payment_hash, max_fee_msat=max_fee)
    finally:
        await wallet.close()
    match payment.outcome:
        case PaymentOutcome.SUCCEEDED:
            return Msat(read.amount_msat), payment
        case PaymentOutcome.FAILED:
            raise PaymentFailed(f"the wallet could not pay: {payment.reason or 'no reason given'}")
        case PaymentOutcome.IN_FLIGHT | PaymentOutcome.UNKNOWN:
            raise PaymentUnknown("the wallet does not know yet whether it paid")
