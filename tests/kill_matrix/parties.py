"""The buyer, the provider and the operator of one job. They outlive the broker and never tire of asking it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from kill_matrix.flows import (
    PRICE_MSAT,
    REVIEW_SECONDS,
    WITHDRAWAL_FEE_MSAT,
    WITHDRAWN_MSAT,
    WORK_SECONDS,
    CancelWhen,
    Flow,
    Verdict,
    Work,
)
from kill_matrix.process import Host
from kill_matrix.virtual_time import LoopTime

from lightwork_broker.errors import (
    BrokerError,
    NotFound,
    ProviderRefused,
    ProviderUnresponsive,
    QuoteExpired,
    WithdrawalsStopped,
)
from lightwork_broker.jobs.store import Job
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_broker.market.quote_store import Quote
from lightwork_broker.watchdog import acknowledge
from lightwork_contracts.ids import ListingId, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, sign_listing
from lightwork_contracts.status import Acceptance, JobStatus
from lightwork_contracts.wire.accounts import WithdrawalStatus
from lightwork_contracts.wire.jobs import JobWork, PollWork
from lightwork_contracts.wire.market import QuoteWork, RequestQuote

BUYER_KEY = SecretKey.from_hex("22" * 32)
PROVIDER_KEY = SecretKey.from_hex("33" * 32)
BUYER, PROVIDER = BUYER_KEY.public, PROVIDER_KEY.public
POLL_SECONDS = 2.0
LOOK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
LOST_QUOTES = 3
"""A buyer that the provider refuses, or whose quotes vanish, so often gives up."""

STOPPED = "withdrawals were stopped until the operator had looked"
OVER = frozenset({JobStatus.SETTLED, JobStatus.REFUNDED, JobStatus.EXPIRED})


@dataclass
class Provider:
    """Publishes one listing, answers quotes with invoices of its own node, and does what the flow says."""

    host: Host
    network: SimulatedNetwork
    flow: Flow
    invoices: dict[QuoteId, SignedEvent] = field(default_factory=dict[QuoteId, SignedEvent])
    called_operator: str | None = None
    """Why the operator had to let withdrawals go on, if so."""

    async def publish(self) -> ListingId:
        flow = self.flow
        content = ListingContent(
            name="echo",
            description="Return the text unchanged.",
            agent_name="echo",
            input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
            output_schema={"type": "string"},
            price=FixedPrice(msat=Msat(PRICE_MSAT)),
            acceptance=Acceptance.AUTO if flow.verdict is None else Acceptance.REVIEW,
            work_seconds=WORK_SECONDS,
            review_seconds=0 if flow.verdict is None else REVIEW_SECONDS,
            mode=flow.mode,
        )
        event = sign_listing(content, key=PROVIDER_KEY, created_at=int(LoopTime().now()))
        return (await self.host.ask(lambda rooms: rooms.market.publish(PROVIDER, event))).id

    async def run(self) -> None:
        """Ask for work until cancelled."""
        jobs = 0 if self.flow.work is Work.NONE else 1
        while True:
            request = PollWork(wait_seconds=POLL_SECONDS, max_jobs=jobs)
            found = await self.host.ask(
                lambda rooms, request=request: rooms.queue.poll(PROVIDER, request, gone=_still_there)
            )
            for work in found.work:
                try:
                    await (self._quote(work) if isinstance(work, QuoteWork) else self._do(work))
                except BrokerError:
                    continue  # taken away meanwhile; there will be another one

    async def _quote(self, work: QuoteWork) -> None:
        if self.flow.refuses:
            await self.host.ask(lambda rooms: rooms.quotes.refuse(PROVIDER, work.quote_id, reason="busy"))
            return
        event = self.invoices.get(work.quote_id)
        if event is None:
            event = self.invoices[work.quote_id] = await self._commit(work)
        await self.host.ask(lambda rooms: rooms.quotes.answer(PROVIDER, work.quote_id, event))

    async def _commit(self, work: QuoteWork) -> SignedEvent:
        now = int(LoopTime().now())
        invoice = payment_hash = None
        if work.mode is PaymentMode.ESCROW:
            made = await self.network.node("provider").add_invoice(
                value_msat=Msat(PRICE_MSAT),
                expiry_seconds=work.invoice_expiry_seconds,
                memo="a job",
                final_cltv=24,
            )
            invoice, payment_hash = made.payment_request, made.payment_hash
        commitment = Commitment(
            quote_id=work.quote_id,
            listing_id=work.listing_id,
            listing_version=work.listing_version,
            input_hash=work.input_hash,
            price_msat=Msat(PRICE_MSAT),
            mode=work.mode,
            payment_hash=payment_hash,
            invoice=invoice,
            expires_at=now + 60,
        )
        return sign_commitment(commitment, key=PROVIDER_KEY, created_at=now)

    async def _do(self, work: JobWork) -> None:
        job, epoch = work.job_id, work.epoch
        match self.flow.work:
            case Work.DELIVER:
                await self.host.ask(
                    lambda rooms: rooms.queue.deliver(PROVIDER, job, epoch=epoch, result="hi")
                )
            case Work.FAIL:
                await self.host.ask(
                    lambda rooms: rooms.queue.fail(PROVIDER, job, epoch=epoch, code="failed", message="no")
                )
            case Work.DAWDLE:
                while True:
                    answer = await self.host.ask(
                        lambda rooms: rooms.queue.heartbeat(
                            PROVIDER, job, epoch=epoch, progress=None, note=None
                        )
                    )
                    if answer.stop:
                        return
                    await asyncio.sleep(HEARTBEAT_SECONDS)
            case Work.NONE:
                return

    async def withdraw(self) -> None:
        """Withdraw a part of what is owed, by a new invoice when one could not be paid for good."""
        tries = 0
        while True:
            tries += 1
            made = await self.network.node("provider").add_invoice(
                value_msat=Msat(WITHDRAWN_MSAT), expiry_seconds=1_000_000, memo="", final_cltv=24
            )
            if await self._withdraw(made.payment_request, key=f"withdrawal {tries}"):
                return

    async def _withdraw(self, invoice: str, *, key: str) -> bool:
        """Ask until the broker has paid this invoice, or says that it never will."""
        while True:
            try:
                asked = await self.host.ask(
                    lambda rooms: rooms.accounts.withdraw(
                        PROVIDER, invoice=invoice, max_fee_msat=Msat(WITHDRAWAL_FEE_MSAT), key=key
                    )
                )
            except WithdrawalsStopped:
                await self._call_operator()
            except BrokerError:
                pass  # with an older database, it is not owed again yet
            else:
                if asked.status is not WithdrawalStatus.PAYING:
                    return asked.status is WithdrawalStatus.PAID
            await asyncio.sleep(LOOK_SECONDS)

    async def _call_operator(self) -> None:
        """Do what docs/operating.md tells: this agent asks for the invoice that was paid, and for no other."""
        self.called_operator = STOPPED
        await self.host.ask(lambda rooms: acknowledge(rooms.database, now=LoopTime().now()))


@dataclass
class Buyer:
    """Asks for a quote, hires, pays, and looks again and again how the job stands. Rules as the operator too."""

    host: Host
    network: SimulatedNetwork
    flow: Flow
    listing: ListingId
    job: Job | None = None

    @property
    def is_settled(self) -> bool:
        return self.job is not None and self.job.status is JobStatus.SETTLED

    async def run(self) -> None:
        """Return when the job is over, or when there will never be one."""
        tries = 0
        while tries < LOST_QUOTES:
            tries += 1
            quote = await self._quote(tries)
            if quote is None:
                continue
            try:
                await self._follow(quote)
            except (QuoteExpired, NotFound):
                continue  # it was never opened, or the broker's database does not know of it any more
            return

    async def _quote(self, tries: int) -> Quote | None:
        request = RequestQuote(
            listing_id=self.listing,
            input={"text": "hi"},
            modes=tuple(PaymentMode),
            max_price_msat=Msat(self.flow.total_msat),
        )
        try:
            return await self.host.ask(
                lambda rooms: rooms.quotes.request(BUYER, request, key=f"hire {tries}")
            )
        except ProviderRefused:
            return None
        except (ProviderUnresponsive, BrokerError):
            await asyncio.sleep(LOOK_SECONDS)
            return None

    async def _follow(self, quote: Quote) -> None:
        while True:
            self.job = job = await self.host.ask(lambda rooms: rooms.jobs.hire(BUYER, quote))
            if job.status in OVER:
                return
            with suppress(BrokerError):  # the job has moved on meanwhile
                await self._act(job)
            await asyncio.sleep(LOOK_SECONDS)

    async def _act(self, job: Job) -> None:
        flow, ask = self.flow, self.host.ask
        match job.status:
            case JobStatus.OPEN if flow.cancel is CancelWhen.UNPAID:
                await ask(lambda rooms: rooms.jobs.cancel(BUYER, job.id))
            case JobStatus.OPEN if flow.pays and job.invoice is not None:
                await self._pay(job)
            case JobStatus.FUNDED if flow.cancel is CancelWhen.FUNDED:
                await ask(lambda rooms: rooms.jobs.cancel(BUYER, job.id))
            case JobStatus.DELIVERED if flow.verdict is Verdict.ACCEPT:
                await ask(lambda rooms: rooms.jobs.accept(BUYER, job.id))
            case JobStatus.DELIVERED if flow.verdict is Verdict.REJECT:
                await ask(lambda rooms: rooms.jobs.reject(BUYER, job.id, reason="wrong"))
            case JobStatus.DISPUTED:
                await ask(lambda rooms: rooms.jobs.rule(job.id, release=flow.release, reason="looked at it"))
            case _:
                return

    async def _pay(self, job: Job) -> None:
        """Begin to pay; a payment that is on its way or was made is not made again."""
        if job.invoice is None:
            return
        await self.network.node("buyer").begin(
            invoice=job.invoice, payment_hash=job.payment_hash, fee_limit_msat=Msat(0), cltv_limit=0
        )


async def _still_there() -> bool:
    return False
