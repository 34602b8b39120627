"""A provider and a buyer by hand: each step of the protocol as one call, and each step can be left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import httpx2
from e2e_client import SignedClient, accepted, new_key
from e2e_waiting import until
from e2e_world import World
from pydantic import JsonValue

from lightwork import Payment
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, QuotedPrice, sign_listing
from lightwork_contracts.status import Acceptance, JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer, JobWork, WorkList
from lightwork_contracts.wire.market import ListingView, QuoteView, QuoteWork

PRICE = sats(10)
TEXT_INPUT: dict[str, JsonValue] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
TEXT_OUTPUT: dict[str, JsonValue] = {"type": "string"}


def advert(
    name: str = "by-hand",
    *,
    price: FixedPrice | QuotedPrice | None = None,
    description: str = "Whatever the test does by hand.",
    work_seconds: int = 60,
    review_seconds: int = 0,
    input_schema: dict[str, JsonValue] | None = None,
    output_schema: dict[str, JsonValue] | None = None,
) -> ListingContent:
    """Return what a listing says; `review_seconds` above zero makes it one with review."""
    return ListingContent(
        name=name,
        description=description,
        agent_name="by-hand",
        input_schema=TEXT_INPUT if input_schema is None else input_schema,
        output_schema=TEXT_OUTPUT if output_schema is None else output_schema,
        price=price or FixedPrice(msat=PRICE),
        acceptance=Acceptance.REVIEW if review_seconds else Acceptance.AUTO,
        work_seconds=work_seconds,
        review_seconds=review_seconds,
    )


class HandProvider:
    """A key that sells one task, with the provider node's wallet."""

    def __init__(self, world: World, *, key: SecretKey | None = None) -> None:
        self.client = world.seller(key or new_key())
        self.mode = world.mode
        self.wallet = world.wallets["provider"]
        self._listing: ListingView | None = None

    @property
    def listing(self) -> ListingView:
        if self._listing is None:
            raise AssertionError("nothing is listed yet")
        return self._listing

    async def publish(self, content: ListingContent, *, created_at: int | None = None) -> httpx2.Response:
        """Send a listing and return the answer, accepted or not."""
        when = int(time.time()) if created_at is None else created_at
        content = content.model_copy(update={"mode": self.mode})
        event = sign_listing(content, key=self.client.key, created_at=when)
        return await self.client.call("PUT", "/v1/listings", {"event": event.model_dump(mode="json")})

    async def offer(self, content: ListingContent | None = None) -> ListingView:
        """List a task and come online without asking for any job."""
        answer = await self.publish(content or advert())
        self._listing = ListingView.model_validate(accepted(answer))
        await self.ask(max_jobs=0, wait_seconds=0)
        return self._listing

    async def ask(
        self, *, max_jobs: int = 1, max_quotes: int = 8, wait_seconds: float = 5
    ) -> tuple[QuoteWork | JobWork, ...]:
        """Ask for work once."""
        body: dict[str, JsonValue] = {
            "wait_seconds": wait_seconds,
            "max_quotes": max_quotes,
            "max_jobs": max_jobs,
        }
        return WorkList.model_validate(await self.client.post("/v1/work/poll", body)).work

    async def next_quote(self) -> QuoteWork:
        """Wait for a quote to answer; jobs are left alone."""

        async def asked() -> QuoteWork | None:
            return next((w for w in await self.ask(max_jobs=0) if isinstance(w, QuoteWork)), None)

        return await until(asked, what="a quote is asked for")

    async def next_job(self) -> JobWork:
        """Wait for a job and take its lease."""

        async def leased() -> JobWork | None:
            return next((w for w in await self.ask(max_quotes=0) if isinstance(w, JobWork)), None)

        return await until(leased, what="a job is leased")

    async def invoice(self, work: QuoteWork, *, price: Msat = PRICE, final_cltv: int = 80) -> str:
        """Return a plain invoice of the provider's node that this quote can take."""
        created = await self.wallet.create_invoice(
            amount_msat=price,
            expiry_seconds=work.invoice_expiry_seconds,
            memo="by hand",
            final_cltv=final_cltv,
        )
        return created.invoice

    def commit(
        self,
        work: QuoteWork,
        invoice: str | None,
        *,
        price: Msat = PRICE,
        payment_hash: str | None = None,
        key: SecretKey | None = None,
        changes: Mapping[str, str | int] | None = None,
    ) -> SignedEvent:
        """Sign a commitment to an invoice, or to none for a quote in credit mode, with some fields falsified."""
        fields: dict[str, str | int | None] = {
            "quote_id": work.quote_id,
            "listing_id": work.listing_id,
            "listing_version": work.listing_version,
            "input_hash": work.input_hash,
            "price_msat": price,
            "mode": work.mode,
            "payment_hash": payment_hash or (None if invoice is None else read_invoice(invoice).payment_hash),
            "invoice": invoice,
            "expires_at": int(time.time()) + work.invoice_expiry_seconds,
            **(changes or {}),
        }
        commitment = Commitment.model_validate(fields)
        return sign_commitment(commitment, key=key or self.client.key, created_at=int(time.time()))

    async def send(self, work: QuoteWork, event: SignedEvent) -> httpx2.Response:
        """Answer a quote with a commitment, and return what the broker says to that."""
        return await self.client.call(
            "POST",
            f"/v1/work/quotes/{work.quote_id}/answer",
            {"commitment": event.model_dump(mode="json")},
        )

    async def answer_next(self) -> QuoteWork:
        """Answer the next quote as an honest provider would."""
        work = await self.next_quote()
        invoice = None if work.mode is PaymentMode.CREDIT else await self.invoice(work)
        accepted(await self.send(work, self.commit(work, invoice)))
        return work

    async def deliver(self, work: JobWork, result: JsonValue, *, epoch: int | None = None) -> httpx2.Response:
        body: dict[str, JsonValue] = {"epoch": epoch or work.epoch, "result": result}
        return await self.client.call("POST", f"/v1/work/jobs/{work.job_id}/deliver", body)

    async def heartbeat(self, work: JobWork, *, epoch: int | None = None) -> httpx2.Response:
        body: dict[str, JsonValue] = {"epoch": epoch or work.epoch}
        return await self.client.call("POST", f"/v1/work/jobs/{work.job_id}/heartbeat", body)

    async def fail(self, work: JobWork, *, code: str = "task_failed") -> httpx2.Response:
        body: dict[str, JsonValue] = {"epoch": work.epoch, "code": code, "message": "no"}
        return await self.client.call("POST", f"/v1/work/jobs/{work.job_id}/fail", body)


class HandBuyer:
    """A key that hires by hand and pays with the buyer node's wallet."""

    def __init__(self, world: World) -> None:
        self.client: SignedClient = world.client()
        self.mode = world.mode
        self.wallet = world.wallets["buyer"]

    def request(self, listing: ListingView, text: str = "hello") -> dict[str, JsonValue]:
        return {"listing_id": listing.id, "input": {"text": text}, "modes": [self.mode.value]}

    async def ask(self, listing: ListingView, text: str = "hello") -> httpx2.Response:
        """Ask for a quote, and return the answer whatever it is."""
        return await self.client.call("POST", "/v1/quotes", self.request(listing, text))

    async def quote(self, provider: HandProvider, text: str = "hello") -> QuoteView:
        """Ask for a quote that the provider answers honestly."""
        answer, _ = await asyncio.gather(self.ask(provider.listing, text), provider.answer_next())
        return QuoteView.model_validate(accepted(answer))

    async def hire(self, provider: HandProvider, text: str = "hello") -> JobForBuyer:
        """Hire by an honest quote; nothing is paid yet."""
        quote = await self.quote(provider, text)
        return JobForBuyer.model_validate(await self.client.post("/v1/jobs", {"quote_id": quote.id}))

    async def hire_task(self, task: str, text: str, *, key: str) -> JobForBuyer:
        """Hire in one call under an Idempotency-Key; the same call again gives the same job."""
        request: dict[str, JsonValue] = {
            "task": task,
            "input": {"text": text},
            "modes": [self.mode.value],
        }
        answer = await self.client.post("/v1/jobs", {"request": request}, headers={"Idempotency-Key": key})
        return JobForBuyer.model_validate(answer)

    def pay(self, job: JobForBuyer) -> asyncio.Task[Payment]:
        """Begin to pay; the payment ends when the job does."""
        assert job.invoice is not None
        paying = self.wallet.pay(job.invoice, payment_hash=job.quote.payment_hash, max_fee_msat=Msat(1_000))
        return asyncio.create_task(paying)

    async def read(self, job_id: str) -> JobForBuyer:
        return JobForBuyer.model_validate(await self.client.get(f"/v1/jobs/{job_id}"))

    async def until(self, job_id: str, *wanted: JobStatus) -> JobForBuyer:
        """Wait until the job is in one of these statuses."""

        async def reached() -> JobForBuyer | None:
            job = await self.read(job_id)
            return job if job.status in wanted else None

        return await until(reached, what=f"{job_id} is {' or '.join(wanted)}")

    async def fund(self, provider: HandProvider) -> tuple[JobForBuyer, asyncio.Task[Payment]]:
        """Hire, pay, and wait until the broker holds the HTLC."""
        job = await self.hire(provider)
        paying = self.pay(job)
        return await self.until(job.id, JobStatus.FUNDED), paying
