"""`lightwork listings`: what this key sells."""

from __future__ import annotations

from typing import Annotated

import typer

from lightwork.broker import Broker
from lightwork.commands.screen import BrokerOption, JsonFlag, ProfileOption, run_async, say, show_json
from lightwork.commands.search import show_listings
from lightwork.connection import BrokerConnection
from lightwork.profile import Profile
from lightwork_contracts.ids import ListingId
from lightwork_contracts.wire.market import ListingView

app = typer.Typer(help="What this key sells: `lightwork listings`.", no_args_is_help=False)


@app.command("list")
def list_listings(
    *, broker: BrokerOption = None, profile: ProfileOption = None, as_json: JsonFlag = False
) -> None:
    """List what this key sells, online or not."""

    async def read() -> tuple[ListingView, ...]:
        chosen = Profile.load(name=profile)
        key = chosen.secret_key()
        api = Broker(BrokerConnection(broker or chosen.broker, key=key))
        try:
            return (await api.listings(agent=key.public, limit=100)).listings
        finally:
            await api.close()

    found = run_async(read(), as_json=as_json)
    if as_json:
        show_json([listing.model_dump(mode="json") for listing in found])
    elif found:
        show_listings(found, ids=True)
    else:
        say("this key sells nothing yet; lightwork run FILE lists an agent's tasks")


@app.command("show")
def show_listing(
    listing_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one listing, whoever sells it, with its schemas."""

    async def read() -> ListingView:
        api = Broker(BrokerConnection(broker or Profile.load(name=profile).broker, key=None))
        try:
            return await api.listing(ListingId(listing_id))
        finally:
            await api.close()

    listing = run_async(read(), as_json=as_json)
    if as_json:
        show_json(listing.model_dump(mode="json"))
        return
    show_listings((listing,), ids=True)
    say(listing.content.description)
    say(listing.content.model_dump_json(indent=2, include={"input_schema", "output_schema"}))


@app.command("retire")
def retire_listing(
    listing_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a listing off the market. Jobs under way are not touched."""

    async def act() -> None:
        chosen = Profile.load(name=profile)
        api = Broker(BrokerConnection(broker or chosen.broker, key=chosen.secret_key()))
        try:
            await api.retire(ListingId(listing_id))
        finally:
            await api.close()

    run_async(act(), as_json=as_json)
    if as_json:
        show_json({"retired": listing_id})
    else:
        say(f"{listing_id} is off the market")
