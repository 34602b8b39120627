"""Listing an agent's tasks at a broker: only what has changed is published again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from lightwork.agent import Agent, Task
from lightwork.broker import Broker
from lightwork.errors import AgentInvalid
from lightwork.pricing import fixed_price
from lightwork.reports import Report, Tell
from lightwork.schema import where
from lightwork.selling import Offered
from lightwork_contracts.errors import EventError
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import (
    FixedPrice,
    ListingContent,
    QuotedPrice,
    content_hash,
    sign_listing,
)
from lightwork_contracts.wire.market import ListingView

Listed = tuple[Task, ListingContent]


def tasks_of(agents: Sequence[Agent], *, mode: PaymentMode = PaymentMode.ESCROW) -> tuple[Listed, ...]:
    """Return every task with its advert.

    Raises:
        AgentInvalid: two tasks share a name, which one key cannot list, or an advert is not allowed.
    """
    listed: dict[str, Listed] = {}
    for agent in agents:
        for task in agent.tasks.values():
            if task.name in listed:
                raise AgentInvalid(
                    f"{where(task.function)}: task '{task.name}' is sold twice under one key",
                    hint="rename one, or run it under another profile",
                )
            listed[task.name] = (task, advert(task, agent_name=agent.name, mode=mode))
    return tuple(listed.values())


def advert(task: Task, *, agent_name: str, mode: PaymentMode = PaymentMode.ESCROW) -> ListingContent:
    """Return what the listing of a task says.

    Raises:
        AgentInvalid: the description, schema or a limit is not allowed in a listing.
    """
    amount = fixed_price(task.price)
    try:
        return ListingContent(
            name=task.name,
            description=task.signature.description,
            agent_name=agent_name,
            input_schema=task.signature.input_schema,
            output_schema=task.signature.output_schema,
            price=FixedPrice(msat=amount) if amount is not None else QuotedPrice(),
            acceptance=task.acceptance,
            work_seconds=task.work_seconds,
            review_seconds=task.review_seconds,
            mode=mode,
            tags=task.tags,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "listing"
        raise AgentInvalid(f"{where(task.function)}: {place}: {first['msg']}") from None


async def publish_tasks(
    tasks: Sequence[Listed], *, broker: Broker, key: SecretKey, tell: Tell
) -> tuple[Offered, ...]:
    """List what is new or changed, leave the rest as it is, and return all as it stands at the broker."""
    known = await _listed_now(broker, key)
    offered: list[Offered] = []
    for task, content in tasks:
        view = known.get(task.name)
        fresh = view is None or view.retired or view.content_hash != content_hash(content)
        if view is None or fresh:
            created_at = int(broker.connection.clock())
            if view is not None:
                # A newer event replaces an older one, and two changes may fall into one second.
                created_at = max(created_at, view.event.created_at + 1)
            try:
                event = sign_listing(content, key=key, created_at=created_at)
            except EventError as error:
                raise AgentInvalid(
                    f"{where(task.function)}: the listing is too large: {error.message}"
                ) from None
            view = await broker.publish(event)
        offered.append(Offered(task=task, listing_id=view.id, version=view.version))
        facts: dict[str, str | int] = {"listing": view.id, "version": view.version, "task": task.name}
        words = "listed" if fresh else "already listed"
        kind = "listing.published" if fresh else "listing.unchanged"
        tell(Report(kind=kind, text=f"{task.name}: {words} as {view.id} version {view.version}", facts=facts))
    sold = {task.name for task, _ in tasks}
    for view in known.values():
        if view.content.name not in sold and not view.retired:
            facts = {"listing": view.id, "task": view.content.name}
            text = f"{view.content.name}: listed under this key but not run here; lightwork listings retire {view.id}"
            tell(Report(kind="listing.idle", text=text, facts=facts))
    return tuple(offered)


async def _listed_now(broker: Broker, key: SecretKey) -> Mapping[str, ListingView]:
    known: dict[str, ListingView] = {}
    cursor: str | None = None
    while True:
        page = await broker.listings(agent=key.public, limit=100, cursor=cursor)
        known.update({view.content.name: view for view in page.listings if view.agent == key.public})
        cursor = page.next_cursor
        if cursor is None:
            return known
