"""`lightwork jobs`: the jobs of this key, bought and sold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from lightwork.broker import Broker
from lightwork.commands.screen import (
    STYLE,
    BrokerOption,
    JsonFlag,
    ProfileOption,
    run_async,
    say,
    show_json,
    show_result,
    show_table,
)
from lightwork.connection import BrokerConnection
from lightwork.profile import Profile
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import format_msat
from lightwork_contracts.status import CAPABILITIES, JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer, JobPage, JobView

T = TypeVar("T")

app = typer.Typer(help="Jobs of this key: `lightwork jobs`, `lightwork jobs ID`.", no_args_is_help=False)

JobArgument = Annotated[str, typer.Argument(help="The job's id.", metavar="ID")]


@app.command("list")
def list_jobs(
    *,
    role: Annotated[str | None, typer.Option(help="buyer or provider.")] = None,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List jobs, newest first."""

    async def read(api: Broker) -> JobPage:
        return await api.jobs(role=role, status=status, limit=limit)

    page = run_async(_with_broker(read, broker, profile), as_json=as_json)
    if as_json:
        show_json([job.model_dump(mode="json") for job in page.jobs])
        return
    if not page.jobs:
        say("no jobs yet")
        return
    show_table(("job", "role", "task", "status", "amount", "when"), [_row(job) for job in page.jobs])


@app.command("show")
def show_job(
    job_id: JobArgument,
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show one job."""

    async def read(api: Broker) -> JobView:
        return await api.job(JobId(job_id))

    _show(run_async(_with_broker(read, broker, profile), as_json=as_json), as_json=as_json)


@app.command("cancel")
def cancel_job(
    job_id: JobArgument,
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Call off a job that nobody works on yet; what was paid comes back."""

    async def act(api: Broker) -> JobForBuyer:
        return await api.cancel(JobId(job_id))

    _show(run_async(_with_broker(act, broker, profile), as_json=as_json), as_json=as_json)


@app.command("accept")
def accept_job(
    job_id: JobArgument,
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept a delivered result: the provider is paid."""

    async def act(api: Broker) -> JobForBuyer:
        return await api.accept(JobId(job_id))

    _show(run_async(_with_broker(act, broker, profile), as_json=as_json), as_json=as_json)


@app.command("reject")
def reject_job(
    job_id: JobArgument,
    *,
    reason: Annotated[str, typer.Option(help="What is wrong with the result.")],
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Reject a delivered result within the review window: an arbiter rules."""

    async def act(api: Broker) -> JobForBuyer:
        return await api.reject(JobId(job_id), reason)

    _show(run_async(_with_broker(act, broker, profile), as_json=as_json), as_json=as_json)


async def _with_broker(
    work: Callable[[Broker], Awaitable[T]], url: str | None, profile_name: str | None
) -> T:
    profile = Profile.load(name=profile_name)
    broker = Broker(BrokerConnection(url or profile.broker, key=profile.secret_key()))
    try:
        return await work(broker)
    finally:
        await broker.close()


def _show(job: JobView, *, as_json: bool) -> None:
    if as_json:
        show_json(job.model_dump(mode="json"))
        return
    show_table(("job", "role", "task", "status", "amount", "when"), [_row(job)])
    say(CAPABILITIES[job.status].meaning, style=STYLE.get(job.status, "cyan"))
    if job.error is not None:
        say(f"{job.error.code}: {job.error.message}", style="yellow")
    if isinstance(job, JobForBuyer) and CAPABILITIES[job.status].result_visible:
        show_result(job.result)


def _row(job: JobView) -> tuple[str, str, str, Text, str, str]:
    mine = isinstance(job, JobForBuyer)
    return (
        job.id,
        job.role,
        job.quote.task if mine else job.task,
        Text(job.status.value, style=STYLE.get(job.status, "cyan")),
        format_msat(job.quote.total_msat if mine else job.price_msat),
        datetime.fromtimestamp(job.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
