"""Jobs over HTTP: the buyer's half, the provider's half, and the stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lightwork_broker.errors import Forbidden, RequestInvalid
from lightwork_broker.identity.api import Caller
from lightwork_broker.jobs.events import JobReader
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.jobs.store import Job
from lightwork_broker.market.api import QUOTE_PROBLEMS, IdempotencyKey
from lightwork_broker.market.quotes import Quotes
from lightwork_broker.problems import SIGNED, documented
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import (
    Deliver,
    Fail,
    Heartbeat,
    HeartbeatAnswer,
    Hire,
    JobForBuyer,
    JobForProvider,
    JobPage,
    PollWork,
    Reject,
    Rule,
    WorkList,
)
from lightwork_contracts.wire.problems import ProblemCode as P

router = APIRouter()

LAST_SEQ = 2**53
"""More events than there will ever be, and what every program's numbers can hold."""

JobIdPath = Annotated[str, Path(max_length=64, examples=["job_01k5..."])]
PARTY = (*SIGNED, P.NOT_FOUND)


def _jobs(request: Request) -> Jobs:
    return cast("Jobs", request.app.state.jobs)


def _reader(request: Request) -> JobReader:
    return cast("JobReader", request.app.state.reader)


def _queue(request: Request) -> WorkQueue:
    return cast("WorkQueue", request.app.state.queue)


async def _partys_job(request: Request, caller: Caller, job_id: JobIdPath) -> Job:
    """Return the job, before a stream has begun: a refusal must still be able to be one."""
    return await _jobs(request).of_party(caller, job_id)


PartysJob = Annotated[Job, Depends(_partys_job)]


@router.post(
    "/v1/jobs",
    tags=["jobs"],
    summary="Hire",
    status_code=201,
    responses=documented(*QUOTE_PROBLEMS, P.QUOTE_EXPIRED),
)
async def hire(
    request: Request, caller: Caller, body: Hire, key: IdempotencyKey = None
) -> JobForBuyer | JobForProvider:
    """By a quote that you hold, or by a request that is quoted and hired in one call.

    The answer holds the hold invoice. Check it against the quote and the provider's commitment, then pay it:
    the payment stays in flight until the job is released or refunded. The same quote or key gives the same job.
    """
    if (body.quote_id is None) == (body.request is None):
        raise RequestInvalid("hire by either quote_id or request")
    quotes = cast("Quotes", request.app.state.quotes)
    if body.request is not None:
        quote = await quotes.request(caller, body.request, key=key)
    else:
        quote = await quotes.of_buyer(body.quote_id or "", caller)
    return await _reader(request).view(caller, await _jobs(request).hire(caller, quote))


@router.get("/v1/jobs", tags=["jobs"], summary="List your jobs", responses=documented(*SIGNED))
async def mine(
    request: Request,
    caller: Caller,
    role: Annotated[Literal["buyer", "provider"], Query()] = "buyer",
    status: Annotated[JobStatus | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
) -> JobPage:
    """Newest first."""
    views, more = await _reader(request).mine(
        caller, as_buyer=role == "buyer", status=status, limit=limit, cursor=cursor
    )
    return JobPage(jobs=tuple(views), next_cursor=more)


@router.get(
    "/v1/jobs/{job_id}",
    tags=["jobs"],
    summary="Read a job, or wait for news of it",
    responses=documented(*PARTY),
)
async def read(
    request: Request,
    caller: Caller,
    job_id: JobIdPath,
    wait_seconds: Annotated[float, Query(ge=0, le=60)] = 0,
    after_event: Annotated[
        int | None, Query(ge=0, le=LAST_SEQ, description="wait for an event after this one")
    ] = None,
    until: Annotated[
        Literal["news", "result"],
        Query(description="`result` waits until there is one, or the job has ended"),
    ] = "news",
) -> JobForBuyer | JobForProvider:
    """Buyer and provider each see their own half. With `after_event`, answers as soon as there is news."""
    reader = _reader(request)
    if until == "result":
        return await reader.wait_for_result(caller, job_id, seconds=wait_seconds)
    return await reader.wait(caller, job_id, after_event=after_event, seconds=wait_seconds)


@router.get(
    "/v1/jobs/{job_id}/events",
    tags=["jobs"],
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=documented(*PARTY),
)
async def follow(
    request: Request,
    job: PartysJob,
    last_event_id: Annotated[int, Header(alias="Last-Event-ID", ge=0, le=LAST_SEQ)] = 0,
) -> AsyncGenerator[ServerSentEvent]:
    """Server-sent events, each stored and numbered; `Last-Event-ID` resumes. Ends when the job has ended."""
    async for event in _reader(request).stream(job.id, after_event=last_event_id):
        if event is None:
            yield ServerSentEvent(comment="still here")
        else:
            yield ServerSentEvent(data=event, event=event.kind, id=str(event.seq))


@router.post(
    "/v1/jobs/{job_id}/cancel",
    tags=["jobs"],
    summary="Cancel a job that nobody has started",
    responses=documented(*PARTY, P.FORBIDDEN, P.WRONG_STATUS),
)
async def cancel(request: Request, caller: Caller, job_id: JobIdPath) -> JobForBuyer | JobForProvider:
    """Possible until a provider takes the job; the HTLC, if any, is returned."""
    return await _reader(request).view(caller, await _jobs(request).cancel(caller, job_id))


@router.post(
    "/v1/jobs/{job_id}/accept",
    tags=["jobs"],
    summary="Accept a delivered result",
    responses=documented(*PARTY, P.FORBIDDEN, P.WRONG_STATUS),
)
async def accept(request: Request, caller: Caller, job_id: JobIdPath) -> JobForBuyer | JobForProvider:
    """Only for listings with `review`; silence accepts at the end of the window."""
    return await _reader(request).view(caller, await _jobs(request).accept(caller, job_id))


@router.post(
    "/v1/jobs/{job_id}/reject",
    tags=["jobs"],
    summary="Reject a delivered result",
    responses=documented(*PARTY, P.FORBIDDEN, P.WRONG_STATUS),
)
async def reject(
    request: Request, caller: Caller, job_id: JobIdPath, body: Reject
) -> JobForBuyer | JobForProvider:
    """The job is disputed until the operator rules, or until the HTLC comes close to its expiry, then refunded."""
    return await _reader(request).view(
        caller, await _jobs(request).reject(caller, job_id, reason=body.reason)
    )


@router.post(
    "/v1/jobs/{job_id}/ruling",
    tags=["operator"],
    summary="Rule on a disputed job",
    status_code=204,
    responses=documented(*PARTY, P.FORBIDDEN, P.WRONG_STATUS),
)
async def rule(request: Request, caller: Caller, job_id: JobIdPath, body: Rule) -> Response:
    """Only for the operator's keys."""
    if caller not in cast("frozenset[str]", request.app.state.operators):
        raise Forbidden("only the operator of this broker rules on disputes")
    await _jobs(request).rule(job_id, release=body.release, reason=body.reason)
    return Response(status_code=204)


@router.post("/v1/work/poll", tags=["work"], summary="Ask for work", responses=documented(*SIGNED))
async def poll(request: Request, caller: Caller, body: PollWork) -> WorkList:
    """Waits until there is a quote to answer or a job to do. Asking keeps your listings online."""
    return await _queue(request).poll(caller, body, gone=request.is_disconnected)


@router.post(
    "/v1/work/jobs/{job_id}/heartbeat",
    tags=["work"],
    summary="Keep a lease, report progress",
    responses=documented(*PARTY),
)
async def heartbeat(request: Request, caller: Caller, job_id: JobIdPath, body: Heartbeat) -> HeartbeatAnswer:
    """`stop` in the answer means that the work is not wanted any more."""
    return await _queue(request).heartbeat(
        caller, job_id, epoch=body.epoch, progress=body.progress, note=body.note
    )


@router.post(
    "/v1/work/jobs/{job_id}/deliver",
    tags=["work"],
    summary="Deliver a result",
    status_code=204,
    responses=documented(*PARTY, P.LEASE_LOST, P.OUTPUT_INVALID),
)
async def deliver(request: Request, caller: Caller, job_id: JobIdPath, body: Deliver) -> Response:
    """Safe to repeat. A result that does not fit the output schema changes nothing."""
    await _queue(request).deliver(caller, job_id, epoch=body.epoch, result=body.result)
    return Response(status_code=204)


@router.post(
    "/v1/work/jobs/{job_id}/fail",
    tags=["work"],
    summary="Give a job up",
    status_code=204,
    responses=documented(*PARTY, P.LEASE_LOST),
)
async def fail(request: Request, caller: Caller, job_id: JobIdPath, body: Fail) -> Response:
    """The buyer is refunded and told why. Safe to repeat."""
    await _queue(request).fail(caller, job_id, epoch=body.epoch, code=body.code, message=body.message)
    return Response(status_code=204)
