"""`lightwork sign ...`: what must be signed to use a broker with curl, or from any language."""

from __future__ import annotations

import re
import secrets
import sys
import time
from typing import Annotated, NoReturn, TypeVar
from urllib.parse import urlsplit

import typer
from pydantic import BaseModel, ValidationError

from lightwork.commands.bodies import read_bytes
from lightwork.commands.screen import ProfileOption, report
from lightwork.errors import InputInvalid, LightworkError
from lightwork.profile import Profile
from lightwork_contracts.bolt11 import InvoiceError, read_invoice
from lightwork_contracts.errors import EventError
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import ListingContent, sign_listing
from lightwork_contracts.wire.market import AnswerQuote, PublishListing, QuoteWork

app = typer.Typer(help="Sign what curl sends: a request, a listing, a commitment.", no_args_is_help=True)

M = TypeVar("M", bound=BaseModel)

DocumentArgument = Annotated[
    str, typer.Argument(help="JSON, @file, or - for standard input.", metavar="JSON|@FILE|-")
]


@app.command("request")
def sign_one_request(
    method: Annotated[str, typer.Argument(help="GET, POST, PUT or DELETE.", metavar="METHOD")],
    url: Annotated[str, typer.Argument(help="Exactly what is requested, with its query.", metavar="URL")],
    *,
    body: Annotated[
        str,
        typer.Option(
            "--body", help="The body, byte for byte: text, @file, or - for standard input.", metavar="BODY"
        ),
    ] = "",
    profile: ProfileOption = None,
) -> None:
    """Print the Authorization header of one request: curl -H "$(lightwork sign request GET URL)" URL.

    It is good for one use, for this URL, method and body, and for one minute.
    """
    if not re.fullmatch(r"[A-Za-z]+", method):
        raise typer.BadParameter(f"'{method}' is no HTTP method")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"'{url}' is no whole URL, as in http://127.0.0.1:8402/v1/jobs")
    header = sign_request(
        key=_key(profile),
        url=url,
        method=method,
        body=read_bytes(body, name="--body"),
        created_at=int(time.time()),
        nonce=secrets.token_hex(16),
    )
    _print(f"Authorization: {header}")


@app.command("listing")
def sign_one_listing(document: DocumentArgument, *, profile: ProfileOption = None) -> None:
    """Print a signed listing: the body of PUT /v1/listings. What may be left out gets its default."""
    content = _read(ListingContent, document)
    try:
        event = sign_listing(content, key=_key(profile), created_at=int(time.time()))
    except EventError as error:
        _refuse(InputInvalid(error.message))
    _print(PublishListing(event=event).model_dump_json())


@app.command("commitment")
def sign_one_commitment(
    work: DocumentArgument,
    *,
    invoice: Annotated[
        str | None,
        typer.Option(
            "--invoice", help="An invoice of your own node; its amount is the price.", metavar="BOLT11"
        ),
    ] = None,
    price: Annotated[
        int | None,
        typer.Option(
            "--price-msat", min=1, help="The price, in credit mode, without an invoice.", metavar="MSAT"
        ),
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Print a signed commitment to a price: the body of POST /v1/work/quotes/{id}/answer.

    The document is one piece of work of kind `quote`, as POST /v1/work/poll gives it.
    """
    asked = _read(QuoteWork, work)
    if input_hash(asked.input) != asked.input_hash:
        _refuse(InputInvalid("the broker's input_hash is not that of the input: do not answer this"))
    now = int(time.time())
    event = sign_commitment(
        _commitment(asked, invoice=invoice, price=price, now=now), key=_key(profile), created_at=now
    )
    _print(AnswerQuote(commitment=event).model_dump_json())


def _commitment(asked: QuoteWork, *, invoice: str | None, price: int | None, now: int) -> Commitment:
    """Return what is promised, in the mode that was asked for.

    Raises:
        typer.BadParameter: the mode takes an invoice and there is none, or the other way round.
    """
    known = {
        "quote_id": asked.quote_id,
        "listing_id": asked.listing_id,
        "listing_version": asked.listing_version,
        "input_hash": asked.input_hash,
        "mode": asked.mode,
        "expires_at": now + asked.invoice_expiry_seconds,
    }
    match asked.mode:
        case PaymentMode.CREDIT:
            if price is None or invoice is not None:
                raise typer.BadParameter("this quote is in credit mode: give --price-msat, and no --invoice")
            return Commitment.model_validate(
                {**known, "price_msat": price, "payment_hash": None, "invoice": None}
            )
        case PaymentMode.ESCROW:
            if invoice is None or price is not None:
                raise typer.BadParameter("this quote is in escrow mode: give --invoice, and no --price-msat")
            text = invoice.strip().lower()
            amount, payment_hash = _invoice_facts(text)
            return Commitment.model_validate(
                {**known, "price_msat": amount, "payment_hash": payment_hash, "invoice": text}
            )


def _invoice_facts(text: str) -> tuple[Msat, str]:
    try:
        read = read_invoice(text)
    except InvoiceError as error:
        _refuse(InputInvalid(f"the invoice cannot be read: {error.message}"))
    if read.amount_msat is None:
        _refuse(InputInvalid("the invoice has no amount", hint="make one for exactly your price"))
    return read.amount_msat, read.payment_hash


def _read(model: type[M], document: str) -> M:
    try:
        return model.model_validate_json(read_bytes(document, name="the document"))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        _refuse(InputInvalid(f"this is no {model.__name__}: /{place}: {first['msg']}"))


def _key(profile: str | None) -> SecretKey:
    try:
        return Profile.load(name=profile).secret_key()
    except LightworkError as error:
        _refuse(error)


def _refuse(error: LightworkError) -> NoReturn:
    raise typer.Exit(report(error, as_json=False)) from None


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
