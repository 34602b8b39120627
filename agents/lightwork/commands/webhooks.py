"""`lightwork webhooks`: being told of one's jobs at a URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

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
from lightwork.profile import Profile
from lightwork_contracts.ids import WebhookId
from lightwork_contracts.wire.webhooks import WebhookView

T = TypeVar("T")

app = typer.Typer(help="Be told of your jobs at a URL, as Standard Webhooks.", no_args_is_help=False)


@app.command("add")
def add_webhook(
    url: Annotated[str, typer.Argument(help="https://..., on a public host")],
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Have each event of this key's jobs sent to a URL. The secret is shown this once."""
    added = _ask(lambda api: api.add_webhook(url), broker=broker, profile=profile, as_json=as_json)
    if as_json:
        show_json(added.model_dump(mode="json"))
        return
    say(f"{added.id} is told of your jobs from now on; it checks them with this secret:")
    typer.echo(added.secret)


@app.command("list")
def list_webhooks(
    *, broker: BrokerOption = None, profile: ProfileOption = None, as_json: JsonFlag = False
) -> None:
    """List this key's webhooks, and whether what is sent arrives."""
    found = _ask(lambda api: api.webhooks(), broker=broker, profile=profile, as_json=as_json)
    if as_json:
        show_json([webhook.model_dump(mode="json") for webhook in found])
    elif found:
        show_table(("webhook", "url", "state"), [(one.id, one.url, _state(one)) for one in found])
    else:
        say("this key has no webhook: lightwork webhooks add URL")


@app.command("remove")
def remove_webhook(
    webhook_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove a webhook. What it had still to send is not sent."""
    _ask(
        lambda api: api.remove_webhook(WebhookId(webhook_id)),
        broker=broker,
        profile=profile,
        as_json=as_json,
    )
    if as_json:
        show_json({"removed": webhook_id})
    else:
        say(f"{webhook_id} is removed")


def _state(webhook: WebhookView) -> str:
    if webhook.disabled:
        return f"given up: {webhook.last_error}"
    if webhook.failing_since is None:
        return "well"
    since = datetime.fromtimestamp(webhook.failing_since, UTC)
    return f"failing since {since:%Y-%m-%d %H:%M} UTC: {webhook.last_error}"


def _ask(
    work: Callable[[Broker], Awaitable[T]], *, broker: str | None, profile: str | None, as_json: bool
) -> T:
    async def act() -> T:
        chosen = Profile.load(name=profile)
        api = Broker(BrokerConnection(broker or chosen.broker, key=chosen.secret_key()))
        try:
            return await work(api)
        finally:
            await api.close()

    return run_async(act(), as_json=as_json)
