"""The broker as a provider sees it: hands out work, remembers what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import httpx2
from unit.sdk.signed_facts import BUYER, HASH, LISTING_ID, NOW, QUOTE_ID
from unit.sdk.stand_ins import answer, problem

from lightwork_contracts.ids import JobId, ListingId, QuoteId
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.http_auth import read_request_auth
from lightwork_contracts.signed.listing import content_hash, read_listing
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.base import JsonInput
from lightwork_contracts.wire.jobs import HeartbeatAnswer, JobWork, PollWork, WorkList
from lightwork_contracts.wire.market import ListingPage, ListingView, PublishListing, QuoteWork
from lightwork_contracts.wire.problems import ProblemCode


class Answering(Protocol):
    def __call__(self) -> httpx2.Response | Exception | None: ...


@dataclass
class ProvidersBroker:
    """`calls` holds (path, body) of everything but polls; a rule in `rules` may answer a path in its own way."""

    quotes: list[QuoteWork] = field(default_factory=list[QuoteWork])
    jobs: list[JobWork] = field(default_factory=list[JobWork])
    calls: list[tuple[str, dict[str, object]]] = field(default_factory=list[tuple[str, dict[str, object]]])
    polls: list[PollWork] = field(default_factory=list[PollWork])
    listed: dict[str, ListingView] = field(default_factory=dict[str, ListingView])
    rules: dict[str, Answering] = field(default_factory=dict[str, Answering])
    stop_at_heartbeat: bool = False
    _waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._handle)

    def give(self, *work: QuoteWork | JobWork) -> None:
        for item in work:
            if isinstance(item, QuoteWork):
                self.quotes.append(item)
            else:
                self.jobs.append(item)
        self._wake()

    def sent(self, ending: str) -> list[dict[str, object]]:
        return [body for path, body in self.calls if path.endswith(ending)]

    async def until(self, true: Callable[[], bool], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await self._next_change()

    async def _next_change(self) -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        await change

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for change in waiting:
            if not change.done():
                change.set_result(None)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if not (request.method == "GET" and path == "/v1/listings"):
            read_request_auth(
                request.headers.get("authorization"),
                url=str(request.url),
                method=request.method,
                body=request.content,
                now=NOW,
            )
        for ending, rule in self.rules.items():
            if path.endswith(ending):
                said = rule()
                if isinstance(said, Exception):
                    raise said
                if said is not None:
                    self._remember(path, request)
                    return said
        if path == "/v1/work/poll":
            return await self._poll(PollWork.model_validate_json(request.content))
        if request.method == "GET":
            return answer(ListingPage(listings=tuple(self.listed.values())))
        self._remember(path, request)
        if path == "/v1/listings":
            return answer(self._publish(PublishListing.model_validate_json(request.content)))
        if path.endswith("/heartbeat"):
            beat = HeartbeatAnswer(stop=self.stop_at_heartbeat, status=JobStatus.WORKING, deadline=NOW + 60)
            return answer(beat)
        return httpx2.Response(204)

    def _remember(self, path: str, request: httpx2.Request) -> None:
        self.calls.append((path, json.loads(request.content or b"{}")))
        self._wake()

    async def _poll(self, poll: PollWork) -> httpx2.Response:
        self.polls.append(poll)
        self._wake()
        while True:
            quotes, jobs = self.quotes[: poll.max_quotes], self.jobs[: poll.max_jobs]
            if quotes or jobs:
                del self.quotes[: len(quotes)], self.jobs[: len(jobs)]
                return answer(WorkList(work=(*quotes, *jobs)))
            await self._next_change()

    def _publish(self, body: PublishListing) -> ListingView:
        agent, content = read_listing(body.event)
        before = self.listed.get(content.name)
        number = len(self.listed) if before is None else list(self.listed).index(content.name)
        view = ListingView(
            id=listing_id(number),
            version=1 if before is None else before.version + 1,
            agent=agent,
            content=content,
            content_hash=content_hash(content),
            event=body.event,
            online=True,
            retired=False,
            published_at=NOW,
            updated_at=NOW,
        )
        self.listed[content.name] = view
        return view


def listing_id(number: int) -> ListingId:
    return LISTING_ID if number == 0 else ListingId(f"lst_{number:026d}")


def quote_work(
    value: JsonInput,
    *,
    quote_id: QuoteId = QUOTE_ID,
    listing: ListingId = LISTING_ID,
    version: int = 1,
    max_final_cltv: int = 144,
) -> QuoteWork:
    return QuoteWork(
        quote_id=quote_id,
        listing_id=listing,
        listing_version=version,
        task="echo",
        input=value,
        input_hash=input_hash(value),
        answer_by=NOW + 10,
        invoice_expiry_seconds=5_000,
        max_final_cltv=max_final_cltv,
        deadline_seconds=60,
    )


def job_work(
    value: JsonInput,
    *,
    number: int = 0,
    lease_seconds: int = 30,
    deadline: int = NOW + 60,
    price: int = 10_000,
    listing: ListingId = LISTING_ID,
) -> JobWork:
    return JobWork(
        job_id=JobId(f"job_{number:026d}"),
        epoch=1,
        lease_seconds=lease_seconds,
        deadline=deadline,
        quote_id=QUOTE_ID,
        listing_id=listing,
        listing_version=1,
        task="echo",
        buyer=BUYER.public,
        price_msat=Msat(price),
        payment_hash=HASH,
        input=value,
    )


def lease_lost() -> httpx2.Response:
    return problem(ProblemCode.LEASE_LOST, 409)
