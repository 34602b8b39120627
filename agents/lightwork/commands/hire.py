"""`lightwork hire`: pay for one run of a task, and watch it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import JsonValue

from lightwork.commands.inputs import read_input
from lightwork.commands.screen import (
    STYLE,
    BrokerOption,
    JsonFlag,
    ProfileOption,
    run_async,
    say,
    show_json,
    show_result,
)
from lightwork.errors import LightworkError, NotFound, PaidWithoutResult
from lightwork.exit_codes import ExitCode
from lightwork.job import Job
from lightwork.market import Market
from lightwork.profile import Profile
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat, format_msat, sats
from lightwork_contracts.status import CAPABILITIES, Acceptance, JobStatus
from lightwork_contracts.wire.jobs import JobEvent
from lightwork_contracts.wire.market import ListingView, QuoteView
from lightwork_contracts.wire.problems import Problem, ProblemCode

LAST_EVENTS_SECONDS = 3.0

UNCONFIRMED = {
    JobStatus.EXPIRED: "never funded, says the broker",
    JobStatus.REFUNDED: "the buyer's HTLC was given back, says the broker",
}
"""An event is the broker's word. That no money moved is told when the wallet says so."""

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def hire(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A task's name, or a listing's id.")],
    most: Annotated[
        int,
        typer.Option(
            "--max",
            min=1,
            help="The most to pay, in satoshis; your own node's routing comes on top.",
            metavar="SATS",
        ),
    ],
    *,
    document: Annotated[
        str | None,
        typer.Option(
            "--input", help="The whole input: JSON, @file, or - for standard input.", metavar="JSON"
        ),
    ] = None,
    quote_only: Annotated[bool, typer.Option("--quote-only", help="Ask for the price and stop.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Accept a result under review at once.")] = False,
    credit: Annotated[
        bool,
        typer.Option(
            "--credit",
            help="Also hire in credit mode, where the broker could take the money without a result.",
        ),
    ] = False,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hire a task: `lightwork hire echo --text hi --max 20`.

    The task's own parameters are options: --NAME VALUE. Everything is checked before anything is paid, and
    a job that is refunded costs nothing.
    """
    work = _hire(
        task,
        context.args,
        document=document,
        most=sats(most),
        quote_only=quote_only,
        accept=accept,
        market=Market(broker, profile=Profile.load(name=profile), allow_credit=credit),
        as_json=as_json,
    )
    run_async(work, as_json=as_json)


async def _hire(
    task: str,
    pairs: Sequence[str],
    *,
    document: str | None,
    most: Msat,
    quote_only: bool,
    accept: bool,
    market: Market,
    as_json: bool,
) -> None:
    async with market:
        listing = await _find(market, task)
        value = read_input(pairs, document=document, schema=listing.content.input_schema)
        if quote_only:
            quote = await market.quote(listing, value, max_price=most)
            _show_quote(quote, as_json=as_json)
            return
        job = await market.start(listing, value, max_price=most)
        try:
            await _follow(job, accept=accept, as_json=as_json)
        except PaidWithoutResult as error:
            show_evidence(error, as_json=as_json)
            raise
        finally:
            await job.close()


async def _follow(job: Job, *, accept: bool, as_json: bool) -> None:
    if not as_json:
        _show_quote(job.view.quote, as_json=False)
        say(f"job {job.id}", style="bold")
    watching = asyncio.create_task(_watch(job)) if not as_json else None
    try:
        if job.view.quote.acceptance is Acceptance.REVIEW:
            await job.result()
            if accept:
                await job.accept()
        if accept or job.view.quote.acceptance is Acceptance.AUTO:
            await job.wait()
    except asyncio.CancelledError:
        if not as_json:
            say(f"interrupted; the job goes on: lightwork jobs {job.id}", style="bold")
        raise
    finally:
        if watching is not None:
            # The end is known; the event that says so is on its way.
            over = job.view.quote.acceptance is Acceptance.AUTO or accept
            await asyncio.wait({watching}, timeout=LAST_EVENTS_SECONDS if over else 0)
            watching.cancel()
            await asyncio.wait({watching})
    if as_json:
        show_json((await job.refresh()).model_dump(mode="json"))
        return
    show_result(job.view.result)
    if job.status is JobStatus.DELIVERED:
        say(
            f"lightwork jobs accept {job.id}   or   lightwork jobs reject {job.id} --reason ...", style="bold"
        )


async def _watch(job: Job) -> None:
    seen: JobStatus | None = None
    try:
        async for event in job.events():
            _show_event(event, fresh=event.status is not seen)
            seen = event.status
    except LightworkError as error:
        say(f"  (no more events: {error.message})", style="dim")


def _show_event(event: JobEvent, *, fresh: bool) -> None:
    progress, note = event.data.get("progress"), event.data.get("note")
    if isinstance(progress, int | float):
        say(f"  {progress:>10.0%}  {note if isinstance(note, str) else ''}".rstrip(), style="dim")
    elif fresh:
        say(
            f"  {event.status.value:<10}  {UNCONFIRMED.get(event.status, CAPABILITIES[event.status].meaning)}",
            style=STYLE.get(event.status, "cyan"),
        )


def show_evidence(error: PaidWithoutResult, *, as_json: bool) -> None:
    """Print what was signed; no later command can show it if the broker does not want to."""
    evidence = error.evidence.document()
    if as_json:
        told: dict[str, JsonValue] = {"code": error.code, "message": error.message, "hint": error.hint}
        show_json({"error": {**told, "evidence": evidence}})
        raise typer.Exit(ExitCode.PAID_WITHOUT_RESULT) from None
    say("evidence, signed by broker and provider:", style="bold")
    show_json(evidence)


def _show_quote(quote: QuoteView, *, as_json: bool) -> None:
    if as_json:
        show_json(quote.model_dump(mode="json"))
        return
    say(
        f"{quote.task}: {format_msat(quote.total_msat)} in all "
        f"(price {format_msat(quote.price_msat)}, broker {format_msat(quote.fee_msat)}, "
        f"routing up to {format_msat(quote.routing_msat)})"
    )
    if quote.mode is PaymentMode.CREDIT:
        say(f"paid in credit mode; who could cheat: {quote.who_could_cheat}", style="yellow")


async def _find(market: Market, task: str) -> ListingView:
    """The listing by its id, or the broker's first choice among the online ones of that name."""
    if "_" in task:
        return await market.listing(task)
    found = await market.search(task, online=True, limit=100)
    named = [listing for listing in found if listing.content.name == task]
    # What this buyer does not allow comes last: then it is refused with the reason.
    for listing in sorted(named, key=lambda listing: listing.content.mode not in market.modes):
        return listing
    problem = Problem(
        type="urn:lightwork:problem:not_found",
        title="Not found",
        status=404,
        code=ProblemCode.NOT_FOUND,
        detail=f"nobody sells '{task}' here now",
        hint="lightwork search --offline",
    )
    raise NotFound(problem)
