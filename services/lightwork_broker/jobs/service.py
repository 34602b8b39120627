"""Hiring, and what buyer, node, clock and operator make of a job."""

from __future__ import annotations

from typing import assert_never

import structlog
from pydantic import JsonValue

from lightwork_broker.clock import Clock, Ids
from lightwork_broker.db.engine import Database, Transaction
from lightwork_broker.errors import BrokerError, Forbidden, LightningDown, NotFound, WrongStatus
from lightwork_broker.escrow.ceiling import require_below_ceiling
from lightwork_broker.escrow.incoming import PEER_FULL, REASON
from lightwork_broker.escrow.machine import EscrowEvent, EscrowState
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.escrow.terms import Terms
from lightwork_broker.escrow.wrap import Limits
from lightwork_broker.jobs import store
from lightwork_broker.jobs.caps import DEFAULT_CAPS, Caps, require_slot
from lightwork_broker.jobs.machine import Actor, JobChange, may
from lightwork_broker.jobs.store import Job
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.market.quote_store import Quote
from lightwork_broker.market.quotes import hireable, signed_terms
from lightwork_broker.signals import Signals
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import JobId, Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.status import CAPABILITIES, JobStatus

log = structlog.stdlib.get_logger()

MOST_LEASES_LOST = 3
REVIEW_AGAIN_SECONDS = 120
"""A buyer has so long to reject a result after its broker was away, if the review window is not shorter."""
UNPAID_GRACE_SECONDS = 5
"""LND expires the hold invoice by itself; this much later the broker cancels it, in case that was missed."""


class Jobs:
    """The jobs of this broker, and the listener of their escrows."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        signals: Signals,
        escrows: EscrowService,
        limits: Limits,
        caps: Caps = DEFAULT_CAPS,
    ) -> None:
        self._caps = caps
        self._limits = limits
        self._database = database
        self._clock = clock
        self._ids = ids
        self._signals = signals
        self._escrows = escrows

    # --- the buyer --------------------------------------------------------------------------------------

    async def hire(self, buyer: Pubkey, quote: Quote) -> Job:
        """Open a job on an answered quote and make its hold invoice; the same quote gives the same job.

        Raises:
            NotFound, QuoteExpired, CreditCeiling, TooManyJobs, LightningDown
        """
        if quote.buyer != buyer:
            raise NotFound(f"there is no quote {quote.id}")
        async with self._database.read() as tx:
            known = await store.by_quote(tx, quote.id)
        if known is None:
            known = await self._open(quote)
        if known.status is JobStatus.QUOTED:
            await self._escrows.drive(known.id)
        return await self.get(known.id)

    async def _open(self, quote: Quote) -> Job:
        now = self._clock.now()
        hireable(quote, now=now)
        if quote.event is None or quote.outgoing_cltv_blocks is None:
            raise WrongStatus("the quote was not answered")
        terms = signed_terms(quote.event)[1]
        job = Job(
            id=JobId(self._ids.new("job")),
            status=JobStatus.QUOTED,
            quote_id=quote.id,
            buyer=quote.buyer,
            provider=quote.provider,
            listing_id=quote.listing_id,
            listing_version=quote.listing_version,
            task=quote.task,
            price_msat=terms.price_msat,
            payment_hash=terms.payment_hash,
            acceptance=terms.acceptance,
            work_seconds=terms.work_seconds,
            review_seconds=terms.review_seconds,
            input=quote.input,
            created_at=now,
            updated_at=now,
        )
        async with self._database.write() as tx:
            if (known := await store.by_quote(tx, quote.id)) is not None:
                return known
            await require_slot(tx, quote.buyer, caps=self._caps, escrows=self._escrows, now=now)
            if terms.mode is PaymentMode.CREDIT:
                await require_below_ceiling(
                    tx, quote.provider, price_msat=terms.price_msat, limits=self._limits
                )
            await store.insert(tx, job)
            await self._escrows.open(
                tx,
                Terms(
                    id=job.id,
                    payment_hash=terms.payment_hash,
                    price_msat=terms.price_msat,
                    fee_msat=terms.fee_msat,
                    routing_msat=terms.routing_msat,
                    provider_invoice=quote.provider_invoice or "",
                    credited_to=quote.provider if terms.mode is PaymentMode.CREDIT else None,
                    credit_seed=quote.id if terms.mode is PaymentMode.CREDIT else None,
                    hold_cltv_blocks=terms.hold_cltv_blocks,
                    outgoing_cltv_blocks=quote.outgoing_cltv_blocks,
                    pay_seconds=terms.pay_seconds,
                    forward_seconds=terms.forward_seconds,
                    memo=f"Lightwork {quote.task} {job.id}",
                ),
            )
        return job

    async def cancel(self, caller: Pubkey, job_id: str) -> Job:
        """Take back a job that no provider has started; the HTLC, if any, is returned.

        Raises:
            NotFound, Forbidden, WrongStatus
        """
        job = await self._cancellable(caller, job_id)
        if job.status is JobStatus.OPEN:
            if await self._cancelled_unpaid(job):
                return await self._settled_down(job.id)
            job = await self._cancellable(caller, job_id)  # the payment came meanwhile
        await self._refund(
            job, JobChange.CANCELLED, actor=Actor.BUYER, code="cancelled", message="cancelled by the buyer"
        )
        return await self._settled_down(job.id)

    async def _cancellable(self, caller: Pubkey, job_id: str) -> Job:
        job = await self.of_buyer(caller, job_id)
        if not CAPABILITIES[job.status].buyer_may_cancel:
            raise WrongStatus(
                f"a job that is {job.status} cannot be cancelled any more",
                hint=CAPABILITIES[job.status].meaning,
                context={"status": job.status.value},
            )
        return job

    async def _cancelled_unpaid(self, job: Job) -> bool:
        """Cancel an open job; False if it is open no more."""
        async with self._database.write() as tx:
            if not await self._is_still(tx, job):
                return False
            await store.note_error(tx, job, code="cancelled", message="cancelled by the buyer")
            await self._escrows.ask_cancel(tx, job.id, reason="cancelled by the buyer")
        return True

    async def accept(self, caller: Pubkey, job_id: str) -> Job:
        """Accept a delivered result before the review window ends.

        Raises:
            NotFound, Forbidden, WrongStatus
        """
        job = await self.of_buyer(caller, job_id)
        await self.release(job, JobChange.ACCEPTED, actor=Actor.BUYER)
        return await self.get(job.id)

    async def reject(self, caller: Pubkey, job_id: str, *, reason: str) -> Job:
        """Reject a delivered result within the review window; the operator rules.

        Raises:
            NotFound, Forbidden, WrongStatus
        """
        job = await self.of_buyer(caller, job_id)
        async with self._database.write() as tx:
            moved = await store.change(
                tx,
                job,
                JobChange.REJECTED,
                actor=Actor.BUYER,
                now=self._clock.now(),
                data={"reason": reason},
                deadline=None,
            )
            if moved is None:
                raise WrongStatus("the job has moved on meanwhile", hint="read it again")
            self._told(tx, moved)
        return await self.get(job.id)

    # --- the operator -----------------------------------------------------------------------------------

    async def rule(self, job_id: str, *, release: bool, reason: str) -> Job:
        """Decide a disputed job.

        Raises:
            NotFound, WrongStatus
        """
        job = await self.get(job_id)
        if release:
            escrow = await self._escrows.get(job.id)
            paid_out = escrow.mode is PaymentMode.ESCROW
            if paid_out and read_invoice(escrow.provider_invoice).is_expired(int(self._clock.now())):
                raise WrongStatus("the provider's invoice has expired, so it cannot be paid any more: refund")
            await self.release(job, JobChange.RULED_RELEASE, actor=Actor.OPERATOR, reason=reason)
        else:
            await self._refund(
                job, JobChange.RULED_REFUND, actor=Actor.OPERATOR, code="ruled_refund", message=reason
            )
        return await self.get(job.id)

    # --- the clock --------------------------------------------------------------------------------------

    async def give_time(self, *, lease_seconds: int) -> None:
        """Give everybody time to be heard: while the broker was away, no heartbeat and no rejection could reach it.

        Each running job has a fresh lease. No result is accepted by silence for REVIEW_AGAIN_SECONDS, or for its
        whole review window where that is shorter. The blocks of an HTLC wait for nobody: the guardian goes first.
        """
        now = self._clock.now()
        async with self._database.write() as tx:
            await store.keep_leases(tx, until=now + lease_seconds)
            await store.keep_reviews(tx, now=now, seconds=REVIEW_AGAIN_SECONDS)

    async def tick(self) -> None:
        """Act on every job whose present status, or whose lease, has run out of time."""
        now = self._clock.now()
        async with self._database.read() as tx:
            late = await store.overdue(tx, now=now)
        for job in late:
            try:
                await self._out_of_time(job, now=now)
            except BrokerError as error:
                log.info("job.not_moved", job=job.id, detail=error.detail)
            except Exception as error:
                log.error("job.tick_failed", job=job.id, exc_info=error)

    async def _out_of_time(self, job: Job, *, now: float) -> None:
        over = job.deadline is not None and job.deadline <= now
        match job.status:
            case JobStatus.OPEN if over:
                async with self._database.write() as tx:
                    await self._still(tx, job)
                    await store.clear_deadline(tx, job)
                    await self._escrows.ask_cancel(tx, job.id, reason="not paid in time")
            case JobStatus.FUNDED | JobStatus.WORKING if over:
                await self._refund(
                    job,
                    JobChange.TIMED_OUT,
                    actor=Actor.CLOCK,
                    code="timed_out",
                    message=f"there was no result within {job.work_seconds} s",
                )
            case JobStatus.WORKING if job.leases_lost + 1 >= MOST_LEASES_LOST:
                await self._refund(
                    job,
                    JobChange.FAILED,
                    actor=Actor.CLOCK,
                    code="provider_lost",
                    message="the provider stopped answering, again and again",
                )
            case JobStatus.WORKING:
                async with self._database.write() as tx:
                    moved = await store.change(
                        tx,
                        job,
                        JobChange.LEASE_LOST,
                        actor=Actor.CLOCK,
                        now=now,
                        leases_lost=job.leases_lost + 1,
                        lease_until=None,
                    )
                    self._told(tx, moved)
                    tx.after_commit(lambda: self._signals.notify(f"work:{job.provider}"))
            case JobStatus.DELIVERED if over:
                await self.release(job, JobChange.ACCEPTED, actor=Actor.CLOCK)
            case _:
                return

    async def escrow_out_of_time(self, escrow_id: JobId) -> None:
        """The chain has come close to the HTLC's expiry: release what is delivered, refund the rest."""
        job = await self.get(escrow_id)
        match job.status:
            case JobStatus.DELIVERED:
                await self.release(job, JobChange.ACCEPTED, actor=Actor.CLOCK)
            case JobStatus.FUNDED | JobStatus.WORKING:
                await self._refund(
                    job,
                    JobChange.TIMED_OUT,
                    actor=Actor.CLOCK,
                    code="timed_out",
                    message="the HTLC came close to its expiry before there was a result",
                )
            case JobStatus.DISPUTED:
                await self._refund(
                    job,
                    JobChange.RULED_REFUND,
                    actor=Actor.CLOCK,
                    code="not_ruled",
                    message="nobody ruled before the HTLC came close to its expiry",
                )
            case _:
                return

    # --- the node, inside the escrow's transaction ------------------------------------------------------

    async def escrow_changed(self, tx: Transaction, escrow: Escrow, event: EscrowEvent) -> None:
        """Make of an escrow's change what it means for the job."""
        job = await store.get(tx, escrow.id)
        if job is None:
            return
        now = self._clock.now()
        change: JobChange | None = None
        actor = Actor.NODE
        values: dict[str, str | int | float | Preimage | None] = {}
        match event:
            case EscrowEvent.HOLD_ADDED:
                change, actor = JobChange.INVOICE_MADE, Actor.BROKER
                values = {
                    "invoice": escrow.hold_invoice,
                    "pay_by": escrow.pay_by,
                    "deadline": escrow.pay_by + UNPAID_GRACE_SECONDS,
                }
            case EscrowEvent.HOLD_REFUSED:
                change = JobChange.INVOICE_REFUSED
                values = {"error_code": "hold_refused", "error_message": "the hold invoice could not be made"}
            case EscrowEvent.HTLC_ACCEPTED:
                change = JobChange.FUNDED
                by = now + job.work_seconds
                values = {"deadline": by, "work_deadline": by}
                tx.after_commit(lambda: self._signals.notify(f"work:{job.provider}"))
            case EscrowEvent.CANCEL_ASKED if job.status is JobStatus.RELEASING:
                change, actor = JobChange.UNPAYABLE, Actor.BROKER
                values = {"error_code": "payout_failed", "error_message": escrow.reason, "result": None}
            case EscrowEvent.CANCEL_CONFIRMED | EscrowEvent.NODE_CANCELED | EscrowEvent.PAYOUT_FAILED:
                change, values = self._on_return(job, escrow)
            case EscrowEvent.SETTLE_CONFIRMED:
                change = JobChange.SETTLED
                values = {"preimage": escrow.preimage, "deadline": None}
            case EscrowEvent.PAYOUT_SUCCEEDED:
                await self._paid(tx, job, escrow, now=now)
                if escrow.state is EscrowState.LOST:
                    change = JobChange.LOST
            case EscrowEvent.CANCEL_ASKED | EscrowEvent.RELEASE_ASKED | EscrowEvent.PAYOUT_INTENDED:
                return
            case _:
                assert_never(event)
        if change is None:
            return
        if not may(job.status, change):
            log.error(
                "job.escrow_disagrees", job=job.id, status=job.status, change=change, state=escrow.state
            )
            return
        moved = await store.change(tx, job, change, actor=actor, now=now, data=None, **values)
        self._told(tx, moved)

    def _on_return(
        self, job: Job, escrow: Escrow
    ) -> tuple[JobChange | None, dict[str, str | int | float | Preimage | None]]:
        values: dict[str, str | int | float | Preimage | None] = {"deadline": None}
        match escrow.state:
            case EscrowState.LOST:
                return JobChange.LOST, values | {"error_code": "broker_loss"}
            case EscrowState.CANCELED | EscrowState.RETURNED:
                if job.status in (JobStatus.QUOTED, JobStatus.OPEN):
                    if job.error_code is None:
                        message = escrow.reason or "the invoice was not paid in time"
                        code = PEER_FULL if escrow.reason == REASON else "unpaid"
                        values |= {"error_code": code, "error_message": message}
                    quoted = job.status is JobStatus.QUOTED
                    return (JobChange.INVOICE_REFUSED if quoted else JobChange.UNPAID), values
                if job.error_code is None:
                    values |= {
                        "error_code": "returned_by_node",
                        "error_message": "the node returned the HTLC before the job was done",
                    }
                # A result that was never paid for is not handed out by a refund.
                return JobChange.RETURNED, values | {"result": None}
            case _:
                return None, {}

    async def _paid(self, tx: Transaction, job: Job, escrow: Escrow, *, now: float) -> None:
        await store.note_paid(tx, job, routing_paid_msat=escrow.routing_paid_msat or Msat(0))
        data: dict[str, JsonValue] = {"price_msat": int(job.price_msat)}
        await store.append_event(tx, job.id, kind="job.provider_paid", status=job.status, at=now, data=data)
        self._told(tx, job)

    # --- common -----------------------------------------------------------------------------------------

    async def release(self, job: Job, change: JobChange, *, actor: Actor, reason: str = "") -> None:
        """Accept a result: the decision and the order to pay are one commit."""
        async with self._database.write() as tx:
            await self.release_in(tx, job, change, actor=actor, reason=reason)

    async def release_in(
        self, tx: Transaction, job: Job, change: JobChange, *, actor: Actor, reason: str = ""
    ) -> None:
        """Accept a result inside a transaction that is open."""
        told: dict[str, JsonValue] = {"reason": reason} if reason else {}
        now = self._clock.now()
        moved = await store.change(tx, job, change, actor=actor, now=now, data=told, deadline=None)
        if moved is None:
            raise WrongStatus("the job has moved on meanwhile", hint="read it again")
        await self._escrows.ask_release(tx, job.id)
        self._told(tx, moved)

    async def fail(self, job: Job, *, code: str, message: str) -> None:
        """The provider gave up; the buyer is refunded."""
        await self._refund(job, JobChange.FAILED, actor=Actor.PROVIDER, code=code, message=message)

    async def _refund(self, job: Job, change: JobChange, *, actor: Actor, code: str, message: str) -> None:
        async with self._database.write() as tx:
            moved = await store.change(
                tx,
                job,
                change,
                actor=actor,
                now=self._clock.now(),
                data={"code": code, "message": message},
                error_code=code,
                error_message=message,
                deadline=None,
                lease_until=None,
                result=None,
            )
            if moved is None:
                raise WrongStatus("the job has moved on meanwhile", hint="read it again")
            await self._escrows.ask_cancel(tx, job.id, reason=code)
            self._told(tx, moved)

    async def get(self, job_id: str) -> Job:
        async with self._database.read() as tx:
            job = await store.get(tx, job_id)
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    async def of_party(self, caller: Pubkey, job_id: str) -> Job:
        """Return a job to its buyer or provider; to anybody else it does not exist."""
        job = await self.get(job_id)
        if caller not in (job.buyer, job.provider):
            raise NotFound(f"there is no job {job_id}")
        return job

    async def of_buyer(self, caller: Pubkey, job_id: str) -> Job:
        job = await self.of_party(caller, job_id)
        if job.buyer != caller:
            raise Forbidden("only the buyer of a job may do this")
        return job

    async def _still(self, tx: Transaction, job: Job) -> None:
        """Require that a job is as it was read: what is decided on it must not meet another state."""
        if not await self._is_still(tx, job):
            raise WrongStatus("the job has moved on meanwhile", hint="read it again")

    async def _is_still(self, tx: Transaction, job: Job) -> bool:
        now = await store.get(tx, job.id)
        return now is not None and (now.status, now.epoch) == (job.status, job.epoch)

    async def _settled_down(self, job_id: JobId) -> Job:
        """Wait a moment for a cancelled escrow to be gone, so that the answer already says so."""
        try:
            await self._escrows.drive(job_id)
        except LightningDown:
            log.warning("job.cancel_waits_for_node", job=job_id)
        return await self.get(job_id)

    def _told(self, tx: Transaction, job: Job | None) -> None:
        if job is not None:
            job_id = job.id
            tx.after_commit(lambda: self._signals.notify(f"job:{job_id}"))
