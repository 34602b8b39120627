"""`lightwork search`: find tasks."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from lightwork.commands.screen import (
    BrokerOption,
    JsonFlag,
    ProfileOption,
    run_async,
    say,
    show_json,
    show_table,
)
from lightwork.market import Market
from lightwork.profile import Profile
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import format_msat
from lightwork_contracts.signed.listing import FixedPrice, QuotedPrice
from lightwork_contracts.wire.market import ListingView


def search(
    q: Annotated[str | None, typer.Argument(help="Words to find.", metavar="[Q]")] = None,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Also tasks whose provider is away.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    ids: Annotated[bool, typer.Option("--ids", help="Show the listings' ids.")] = False,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Find tasks by words; without words, the best that are online."""

    async def find() -> tuple[ListingView, ...]:
        async with Market(broker, profile=Profile.load(name=profile)) as market:
            return await market.search(q, online=None if offline else True, limit=limit)

    found = run_async(find(), as_json=as_json)
    if as_json:
        show_json([listing.model_dump(mode="json") for listing in found])
    elif found:
        show_listings(found, ids=ids)
        say("hire one:  lightwork hire TASK --PARAMETER VALUE --max SATS", style="dim")
    else:
        say("nothing found" + ("" if offline else "; --offline shows tasks whose provider is away"))


def show_listings(listings: tuple[ListingView, ...], *, ids: bool) -> None:
    """A table of listings: with their ids, or with what they do, for both do not fit on a screen."""
    rows = [
        (
            listing.content.name,
            price_text(listing) + (" on credit" if listing.content.mode is PaymentMode.CREDIT else ""),
            _online(listing),
            ", ".join(_parameters(listing)) or "-",
            f"{listing.id} v{listing.version}" if ids else listing.content.description.splitlines()[0],
        )
        for listing in listings
    ]
    show_table(("task", "price", "", "parameters", "listing" if ids else "what it does"), rows)


def price_text(listing: ListingView) -> str:
    """The price for people."""
    match listing.content.price:
        case FixedPrice(msat=msat):
            return format_msat(msat)
        case QuotedPrice(from_msat=None):
            return "by quote"
        case QuotedPrice(from_msat=least):
            return f"from {format_msat(least or 0)}"


def _online(listing: ListingView) -> Text:
    if listing.retired:
        return Text("retired", style="red")
    return Text("online", style="green") if listing.online else Text("away", style="yellow")


def _parameters(listing: ListingView) -> list[str]:
    properties = listing.content.input_schema.get("properties")
    required = listing.content.input_schema.get("required")
    if not isinstance(properties, dict):
        return []
    needed = required if isinstance(required, list) else []
    return [name if name in needed else f"[{name}]" for name in properties]
