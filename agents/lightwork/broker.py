"""The broker's HTTP API, one method per endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from lightwork.connection import CALL_SECONDS, BrokerConnection
from lightwork.errors import BrokerAnswerInvalid
from lightwork_contracts.ids import JobId, ListingId, Pubkey, QuoteId, WebhookId, WithdrawalId
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.accounts import BalanceView, Withdraw, WithdrawalPage, WithdrawalView
from lightwork_contracts.wire.info import BrokerInfo
from lightwork_contracts.wire.jobs import (
    Deliver,
    Fail,
    Heartbeat,
    HeartbeatAnswer,
    Hire,
    JobEvent,
    JobForBuyer,
    JobPage,
    JobView,
    PollWork,
    Reject,
    WorkList,
)
from lightwork_contracts.wire.market import (
    AnswerQuote,
    ListingPage,
    ListingView,
    PublishListing,
    QuoteView,
    RefuseQuote,
    RequestQuote,
)
from lightwork_contracts.wire.webhooks import AddWebhook, NewWebhook, WebhookList, WebhookView

_INFO = TypeAdapter(BrokerInfo)
_LISTING = TypeAdapter(ListingView)
_LISTINGS = TypeAdapter(ListingPage)
_QUOTE = TypeAdapter(QuoteView)
_BUYER_JOB = TypeAdapter(JobForBuyer)
_JOB: TypeAdapter[JobView] = TypeAdapter(JobView)
_JOBS = TypeAdapter(JobPage)
_BALANCE = TypeAdapter(BalanceView)
_WITHDRAWAL = TypeAdapter(WithdrawalView)
_WITHDRAWALS = TypeAdapter(WithdrawalPage)
_WORK = TypeAdapter(WorkList)
_HEARTBEAT = TypeAdapter(HeartbeatAnswer)
_NEW_WEBHOOK = TypeAdapter(NewWebhook)
_WEBHOOKS = TypeAdapter(WebhookList)
_ANYTHING: TypeAdapter[object] = TypeAdapter(object)

QUOTE_SECONDS = 30.0
"""A quote waits for the provider, so its answer may take longer than another's."""


class Broker:
    """Typed calls over one connection. Every method may raise what `BrokerConnection.call` raises."""

    def __init__(self, connection: BrokerConnection) -> None:
        self.connection = connection

    async def close(self) -> None:
        await self.connection.close()

    # --- anyone ---

    async def info(self) -> BrokerInfo:
        return await self.connection.call("GET", "/v1/info", answer=_INFO, signed=False, safe=True)

    async def listings(
        self,
        *,
        q: str | None = None,
        agent: Pubkey | None = None,
        online: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ListingPage:
        params = _params(q=q, agent=agent, online=online, limit=limit, cursor=cursor)
        return await self.connection.call(
            "GET", "/v1/listings", answer=_LISTINGS, params=params, signed=False, safe=True
        )

    async def listing(self, listing_id: ListingId) -> ListingView:
        return await self.connection.call(
            "GET", f"/v1/listings/{listing_id}", answer=_LISTING, signed=False, safe=True
        )

    # --- a buyer ---

    async def quote(self, request: RequestQuote, *, idempotency_key: str) -> QuoteView:
        return await self.connection.call(
            "POST",
            "/v1/quotes",
            answer=_QUOTE,
            body=request,
            headers={"Idempotency-Key": idempotency_key},
            safe=True,
            seconds=QUOTE_SECONDS,
        )

    async def hire(self, hire: Hire, *, idempotency_key: str) -> JobForBuyer:
        return await self.connection.call(
            "POST",
            "/v1/jobs",
            answer=_BUYER_JOB,
            body=hire,
            headers={"Idempotency-Key": idempotency_key},
            safe=True,
            seconds=QUOTE_SECONDS,
        )

    async def my_job(
        self,
        job_id: JobId,
        *,
        wait_seconds: float | None = None,
        after_event: int | None = None,
        until: Literal["news", "result"] | None = None,
    ) -> JobForBuyer:
        """Read a job of one's own as its buyer, waiting for something newer than `after_event` or the result."""
        return await self.connection.call(
            "GET",
            f"/v1/jobs/{job_id}",
            answer=_BUYER_JOB,
            params=_params(wait_seconds=wait_seconds, after_event=after_event, until=until),
            safe=True,
            seconds=CALL_SECONDS + (wait_seconds or 0),
        )

    async def cancel(self, job_id: JobId) -> JobForBuyer:
        return await self.connection.call("POST", f"/v1/jobs/{job_id}/cancel", answer=_BUYER_JOB, safe=False)

    async def accept(self, job_id: JobId) -> JobForBuyer:
        return await self.connection.call("POST", f"/v1/jobs/{job_id}/accept", answer=_BUYER_JOB, safe=False)

    async def reject(self, job_id: JobId, reason: str) -> JobForBuyer:
        return await self.connection.call(
            "POST", f"/v1/jobs/{job_id}/reject", answer=_BUYER_JOB, body=Reject(reason=reason), safe=False
        )

    # --- buyer or provider ---

    async def job(self, job_id: JobId) -> JobView:
        return await self.connection.call("GET", f"/v1/jobs/{job_id}", answer=_JOB, safe=True)

    async def jobs(
        self,
        *,
        role: str | None = None,
        status: JobStatus | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> JobPage:
        params = _params(role=role, status=status, limit=limit, cursor=cursor)
        return await self.connection.call("GET", "/v1/jobs", answer=_JOBS, params=params, safe=True)

    async def events(self, job_id: JobId, *, after: int) -> AsyncIterator[JobEvent]:
        """Yield the events after number `after`, until the job has ended or the connection is lost."""
        stream = self.connection.stream(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(after)})
        async for event in stream:
            if not event.data:
                continue
            try:
                yield JobEvent.model_validate_json(event.data)
            except ValidationError:
                raise BrokerAnswerInvalid("the broker sent an event that is none") from None

    # --- an agent in credit mode ---

    async def balance(self) -> BalanceView:
        """Ask what the broker owes this key, in msat."""
        return await self.connection.call("GET", "/v1/balance", answer=_BALANCE, safe=True)

    async def withdraw(self, withdraw: Withdraw, *, idempotency_key: str) -> WithdrawalView:
        """Have an invoice paid from the balance; the same key again gives the same withdrawal."""
        return await self.connection.call(
            "POST",
            "/v1/withdrawals",
            answer=_WITHDRAWAL,
            body=withdraw,
            headers={"Idempotency-Key": idempotency_key},
            safe=True,
        )

    async def withdrawal(self, withdrawal_id: WithdrawalId, *, wait_seconds: float = 0) -> WithdrawalView:
        """Read a withdrawal, or wait for its end."""
        return await self.connection.call(
            "GET",
            f"/v1/withdrawals/{withdrawal_id}",
            answer=_WITHDRAWAL,
            params=_params(wait_seconds=wait_seconds),
            safe=True,
            seconds=CALL_SECONDS + wait_seconds,
        )

    async def withdrawals(self, *, limit: int = 20, cursor: str | None = None) -> WithdrawalPage:
        """List this key's withdrawals, newest first."""
        return await self.connection.call(
            "GET",
            "/v1/withdrawals",
            answer=_WITHDRAWALS,
            params=_params(limit=limit, cursor=cursor),
            safe=True,
        )

    # --- webhooks ---

    async def add_webhook(self, url: str) -> NewWebhook:
        """Have each event of this key's jobs sent to a URL; the answer alone shows the secret."""
        # Not repeated after a lost answer: each call adds another one.
        return await self.connection.call(
            "POST", "/v1/webhooks", answer=_NEW_WEBHOOK, body=AddWebhook(url=url), safe=False
        )

    async def webhooks(self) -> tuple[WebhookView, ...]:
        """List this key's webhooks."""
        listed = await self.connection.call("GET", "/v1/webhooks", answer=_WEBHOOKS, safe=True)
        return listed.webhooks

    async def remove_webhook(self, webhook_id: WebhookId) -> None:
        await self.connection.call("DELETE", f"/v1/webhooks/{webhook_id}", answer=_ANYTHING, safe=True)

    # --- a provider ---

    async def publish(self, event: SignedEvent) -> ListingView:
        return await self.connection.call(
            "PUT", "/v1/listings", answer=_LISTING, body=PublishListing(event=event), safe=True
        )

    async def retire(self, listing_id: ListingId) -> None:
        await self.connection.call("DELETE", f"/v1/listings/{listing_id}", answer=_ANYTHING, safe=True)

    async def poll(self, poll: PollWork) -> WorkList:
        return await self.connection.call(
            "POST",
            "/v1/work/poll",
            answer=_WORK,
            body=poll,
            safe=False,
            seconds=CALL_SECONDS + poll.wait_seconds,
        )

    async def answer_quote(self, quote_id: QuoteId, commitment: SignedEvent) -> None:
        await self.connection.call(
            "POST",
            f"/v1/work/quotes/{quote_id}/answer",
            answer=_ANYTHING,
            body=AnswerQuote(commitment=commitment),
            safe=True,
        )

    async def refuse_quote(self, quote_id: QuoteId, reason: str) -> None:
        await self.connection.call(
            "POST",
            f"/v1/work/quotes/{quote_id}/refuse",
            answer=_ANYTHING,
            body=RefuseQuote(reason=reason[:500]),
            safe=True,
        )

    async def heartbeat(self, job_id: JobId, heartbeat: Heartbeat) -> HeartbeatAnswer:
        return await self.connection.call(
            "POST", f"/v1/work/jobs/{job_id}/heartbeat", answer=_HEARTBEAT, body=heartbeat, safe=False
        )

    async def deliver(self, job_id: JobId, deliver: Deliver) -> None:
        await self.connection.call(
            "POST", f"/v1/work/jobs/{job_id}/deliver", answer=_ANYTHING, body=deliver, safe=True
        )

    async def fail(self, job_id: JobId, fail: Fail) -> None:
        await self.connection.call(
            "POST", f"/v1/work/jobs/{job_id}/fail", answer=_ANYTHING, body=fail, safe=True
        )


def _params(**values: str | float | bool | None) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if value is not None
    }
