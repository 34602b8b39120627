"""A job that this market has hired: its payment, its events, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import assert_never

from pydantic import JsonValue

from lightwork.broker import Broker
from lightwork.budget import Budget
from lightwork.errors import (
    BrokerUnreachable,
    JobDisputed,
    JobFailed,
    LightworkError,
    PaidWithoutResult,
    PaymentEvidence,
    PaymentFailed,
    PaymentUnknown,
    WalletUnreachable,
)
from lightwork.verification import check_proof, proves
from lightwork.wallet import Payment, PaymentOutcome, Wallet
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat, format_msat
from lightwork_contracts.status import CAPABILITIES, JobStatus
from lightwork_contracts.wire.jobs import JobEvent, JobForBuyer

PAYMENT_SECONDS = 1.0
"""How long after the result the payment may take to end before the broker is asked again."""
WATCH_SECONDS = 20.0
GRACE_SECONDS = 20.0
"""How long a payment that the node cannot speak of may still be on its way to the broker."""
PATIENCE_SECONDS = 300.0
"""How long a broker may be away in the middle of a job."""
SETTLE_SECONDS = 15.0
"""How long the wallet may lag behind the broker at the end of a job."""
LAST_WORD_SECONDS = 20.0
"""How long the wallet may take to confirm that the payment failed, once the broker says that the job did."""
RESULT_LOOKS = 3
"""How often the broker is asked for the result of a payment that has gone through, before that is told."""
RESULT_SECONDS = 5.0
BLOCKS_PER_DAY = 144


class Job:
    """The buyer's handle on one job. Its payment runs in the background from the start."""

    def __init__(
        self,
        view: JobForBuyer,
        *,
        invoice: str,
        broker: Broker,
        wallet: Wallet,
        budget: Budget | None,
        max_fee: Msat,
        max_cltv: int,
    ) -> None:
        self._view = view
        # Checked before the payment. Later answers of the broker are not, so they must not replace it.
        self._id, self._quote = view.id, view.quote
        self._broker = broker
        self._wallet = wallet
        self._budget = budget
        self._max_fee = max_fee
        self._max_cltv = max_cltv
        self._accounted = False
        self._paying = asyncio.create_task(self._pay(invoice), name=f"pay {view.id}")
        self._last_word: str | None = None

    @property
    def id(self) -> JobId:
        return self._id

    @property
    def status(self) -> JobStatus:
        """The status as last seen."""
        return self._view.status

    @property
    def view(self) -> JobForBuyer:
        """The job as last seen, without asking the broker."""
        return self._view

    def when_paid(self, then: Callable[[], None]) -> None:
        """Call `then` once the payment has ended, one way or another."""
        self._paying.add_done_callback(lambda _: then())

    async def refresh(self) -> JobForBuyer:
        """Ask the broker how the job stands."""
        return await self._look(wait_seconds=None)

    async def result(self) -> JsonValue:
        """Wait until the result is here, and return it; a job under review is not accepted by that.

        Raises:
            JobFailed: it ended without a result, and the wallet says that the payment failed.
            PaidWithoutResult: the money is gone, and there is no result.
            PaymentUnknown: the wallet does not say that the payment failed; do not pay again.
            PaymentFailed, WalletUnreachable: it could not be paid; no money moved.
        """
        await self._until(lambda view: CAPABILITIES[view.status].result_visible)
        return self._view.result

    async def wait(self) -> JsonValue:
        """Wait until the job is settled and the proof of payment is here, and return the result.

        Raises:
            JobFailed: it was refunded or expired, and the wallet says that the payment failed.
            PaidWithoutResult: the money is gone, and there is no result.
            PaymentUnknown: the wallet does not say that the payment failed; do not pay again.
            JobDisputed: the result was rejected, and an arbiter has still to rule.
            PaymentFailed, WalletUnreachable: it could not be paid; no money moved.
            CheckFailed: the proof of payment is none.
        """
        await self._until(lambda view: view.status is JobStatus.SETTLED or self._paid())
        if not self._paid():
            # Settled at the broker: the wallet hears of it a moment later, if it can be asked at all.
            await asyncio.wait({self._paying}, timeout=SETTLE_SECONDS)
        preimage = self._paying.result().preimage if self._paid() else self._view.preimage
        if preimage is None:
            raise PaymentUnknown(
                f"job {self.id} is settled, but the wallet does not say how it was paid", job_id=self.id
            )
        check_proof(preimage, payment_hash=self._quote.payment_hash)
        if not CAPABILITIES[self._view.status].result_visible:
            await self._until(lambda view: CAPABILITIES[view.status].result_visible)
        return self._view.result

    async def events(self, *, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events after number `after`, through lost connections, until the job has ended."""
        connection = self._broker.connection
        attempt = 0
        while True:
            try:
                async for event in self._broker.events(self.id, after=after):
                    attempt, after = 0, event.seq
                    yield event
                    if CAPABILITIES[event.status].terminal:
                        return
            except BrokerUnreachable:
                if attempt >= 8:
                    raise
            attempt += 1
            await connection.sleep(connection.backoff.delay(attempt, chance=connection.chance()))

    async def cancel(self) -> JobForBuyer:
        """Call the job off, while it is open or funded and nobody works on it yet; what was paid comes back.

        Raises:
            WrongStatus: it is too late.
        """
        return self._seen(await self._broker.cancel(self.id))

    async def accept(self) -> JobForBuyer:
        """Accept a delivered result: the provider is paid.

        Raises:
            WrongStatus: there is nothing to accept.
        """
        return self._seen(await self._broker.accept(self.id))

    async def reject(self, reason: str) -> JobForBuyer:
        """Reject a delivered result within the review window: an arbiter rules.

        Raises:
            WrongStatus: there is nothing to reject, or the window is over.
        """
        return self._seen(await self._broker.reject(self.id, reason))

    async def close(self) -> None:
        """Stop watching. The payment itself goes on at the node."""
        self._paying.cancel()
        await asyncio.wait({self._paying})

    async def _until(self, enough: Callable[[JobForBuyer], bool]) -> None:
        """Follow payment and job at the same time until it is enough, or can never be.

        The broker is asked at the latest when the payment has ended: then the job has, too, or will at once.
        """
        await self._result_or_payment(enough)
        looked_after_payment = False
        while True:
            if self._complete() and enough(self._view):
                return
            if self._paying.done() and not looked_after_payment:
                looked_after_payment = True
                await self._raise_if_unpaid()
                await self._look_patiently(wait_seconds=None)
                await self._raise_if_taken()
            await self._raise_if_over()
            if enough(self._view):
                return
            if self._paying.done():
                await self._payment_over()
                await self._look_patiently(wait_seconds=WATCH_SECONDS)
                continue
            look = asyncio.create_task(self._look_patiently(wait_seconds=WATCH_SECONDS))
            await asyncio.wait({look, self._paying}, return_when=asyncio.FIRST_COMPLETED)
            if look.done():
                look.result()
            else:
                look.cancel()
                await asyncio.wait({look})

    async def _result_or_payment(self, enough: Callable[[JobForBuyer], bool]) -> None:
        """Ask for the result while the payment is under way: at the payment's end it is here already."""
        asking = asyncio.create_task(
            self._broker.my_job(self.id, wait_seconds=WATCH_SECONDS, until="result"), name=f"ask {self.id}"
        )
        try:
            await asyncio.wait({asking, self._paying}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and asking.exception() is None:
                self._seen(asking.result())
                if not enough(self._view):
                    await asyncio.wait({self._paying}, timeout=PAYMENT_SECONDS)
        finally:
            # What it could not answer is asked again, with patience.
            asking.cancel()
            await asyncio.wait({asking})

    def _complete(self) -> bool:
        """Whether the payment has succeeded and the result is here: nothing more can be learned."""
        return self._paid() and CAPABILITIES[self._view.status].result_visible

    async def _raise_if_unpaid(self) -> None:
        """Raise if the wallet could not even begin, or the job was called off for want of an answer."""
        error = self._paying.exception()
        if error is not None:
            await self._call_off()
            raise error

    async def _payment_over(self) -> None:
        """Raise if the payment failed before the broker held it: then nothing will ever happen."""
        unfunded = self._view.status in (JobStatus.OPEN, JobStatus.QUOTED)
        payment = self._paying.result()
        if payment.outcome is PaymentOutcome.FAILED and unfunded:
            await self._call_off()
            raise PaymentFailed(f"the wallet could not pay job {self.id}: {payment.reason}; no money moved")

    async def _called_off_unfunded(self) -> bool:
        """Ask for the end of a job that the broker says no HTLC has reached. Proof of nothing: its word only."""
        try:
            unfunded = (await self._look(wait_seconds=None)).status in (JobStatus.OPEN, JobStatus.QUOTED)
            if unfunded:
                self._seen(await self._broker.cancel(self.id))
        except LightworkError:
            return False
        return unfunded

    async def _call_off(self) -> None:
        try:
            self._seen(await self._broker.cancel(self.id))
        except LightworkError:
            return  # it expires by itself

    async def _raise_if_taken(self) -> None:
        """Raise if the payment has gone through, and the broker has no result for it.

        A broker releases a job before it takes the money, so at the end of an honest payment there is one.
        """
        if not self._paid():
            return
        for _ in range(RESULT_LOOKS):
            if CAPABILITIES[self.status].result_visible or CAPABILITIES[self.status].terminal:
                break
            await self._look_patiently(wait_seconds=RESULT_SECONDS)
        if not CAPABILITIES[self.status].result_visible:
            raise self._paid_without_result(self._paying.result())

    async def _raise_if_over(self) -> None:
        """Raise if the broker says that there will be no result: what became of the money, the wallet says."""
        status = self._view.status
        if status is JobStatus.DISPUTED:
            raise JobDisputed(
                f"job {self.id} is in dispute: an arbiter rules, and the money is held until then"
            )
        if not CAPABILITIES[status].terminal or status is JobStatus.SETTLED:
            return
        payment = await self._wallets_last_word()
        match payment.outcome:
            case PaymentOutcome.FAILED:
                raise self._failed()
            case PaymentOutcome.SUCCEEDED:
                raise self._paid_without_result(payment)
            case PaymentOutcome.IN_FLIGHT | PaymentOutcome.UNKNOWN:
                raise self._may_be_held(payment)
            case _:
                assert_never(payment.outcome)

    async def _wallets_last_word(self) -> Payment:
        """Wait a while for the end of the payment; when it does not come, say how the payment stands."""
        bound = asyncio.ensure_future(self._broker.connection.sleep(LAST_WORD_SECONDS))
        try:
            await asyncio.wait({self._paying, bound}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            bound.cancel()
        if self._paying.done() and not self._paying.cancelled():
            return self._paying.result()
        payment = await self._wallet.lookup(self._quote.payment_hash)
        self._account(payment)
        return payment

    def _failed(self) -> JobFailed:
        status, error = self._view.status, self._view.error
        message = f"job {self.id} was {status.value}"
        if error is not None:
            message += f": {error.message}"
        if status is JobStatus.EXPIRED and self._last_word is not None:
            message += f" (the wallet: {self._last_word})"
        return JobFailed(
            f"{message}; the wallet says that the payment failed: no money moved",
            code=error.code if error is not None else status.value,
            job_id=self.id,
            status=status.value,
        )

    def _paid_without_result(self, payment: Payment) -> PaidWithoutResult:
        quote, preimage = self._quote, payment.preimage
        proof = preimage if preimage and proves(preimage, payment_hash=quote.payment_hash) else None
        return PaidWithoutResult(
            f"the wallet has paid {format_msat(quote.total_msat)} for job {self.id}, which has no result: "
            f"the broker says '{self.status.value}'. Somebody who knew the preimage took the money on the way, "
            "or the broker hides the result",
            PaymentEvidence(
                job_id=self.id,
                payment_hash=quote.payment_hash,
                quote=quote.event,
                commitment=quote.commitment,
                preimage=proof,
            ),
        )

    def _may_be_held(self, payment: Payment) -> PaymentUnknown:
        reason = f" ({payment.reason})" if payment.reason else ""
        stands = "in flight" if payment.outcome is PaymentOutcome.IN_FLIGHT else f"unknown{reason}"
        days = -(-self._max_cltv // BLOCKS_PER_DAY)
        return PaymentUnknown(
            f"the broker says that job {self.id} is {self.status.value}, but for the wallet its payment is "
            f"{stands}: the money may be held for up to {self._max_cltv} blocks (about {days} days) from when "
            "it was sent, and may still be taken",
            job_id=self.id,
            held_blocks=self._max_cltv,
            hint=f"do not pay or hire this again before your wallet says that the payment with hash "
            f"{self._quote.payment_hash} failed; `lightwork jobs {self.id}` shows what the broker says",
        )

    def _paid(self) -> bool:
        if not self._paying.done() or self._paying.cancelled() or self._paying.exception() is not None:
            return False
        return self._paying.result().outcome is PaymentOutcome.SUCCEEDED

    async def _look(self, *, wait_seconds: float | None) -> JobForBuyer:
        after = None if wait_seconds is None else self._view.last_event
        return self._seen(await self._broker.my_job(self.id, wait_seconds=wait_seconds, after_event=after))

    async def _look_patiently(self, *, wait_seconds: float | None) -> JobForBuyer:
        """Look through a restart of the broker: the money is held, and the job goes on as soon as it is back."""
        connection = self._broker.connection
        attempt, away_since = 0, connection.clock()
        while True:
            attempt += 1
            try:
                return await self._look(wait_seconds=wait_seconds)
            except BrokerUnreachable as error:
                if connection.clock() - away_since >= PATIENCE_SECONDS:
                    raise BrokerUnreachable(
                        f"{error.message}; job {self.id} goes on without being watched",
                        hint=f"`lightwork jobs {self.id}` when the broker is back; do not hire again before",
                    ) from None
            await connection.sleep(connection.backoff.delay(attempt, chance=connection.chance()))

    def _seen(self, view: JobForBuyer) -> JobForBuyer:
        # An answer that was under way for longer must not take the job back in time.
        if view.last_event >= self._view.last_event:
            self._view = view
        return self._view

    async def _pay(self, invoice: str) -> Payment:
        """Pay, and follow the payment until the node knows its end, however often the node is lost sight of.

        The market has taken the most that this can cost from the budget; what is not spent goes back.
        """
        payment_hash, connection = self._quote.payment_hash, self._broker.connection
        try:
            payment = await self._wallet.pay(
                invoice, payment_hash=payment_hash, max_fee_msat=self._max_fee, max_cltv=self._max_cltv
            )
        except WalletUnreachable:
            # By contract of the port: no connection, so nothing was sent.
            self._give_back(self._most)
            raise
        attempt, lost_at, called_off = 0, connection.clock(), False
        while not payment.outcome.terminal:
            if called_off:
                raise self._may_be_held(payment)
            attempt += 1
            self._last_word = self._last_word or payment.reason
            if connection.clock() - lost_at >= GRACE_SECONDS:
                called_off = await self._called_off_unfunded()
            await connection.sleep(connection.backoff.delay(attempt, chance=connection.chance()))
            payment = await self._wallet.track(payment_hash)
        self._account(payment)
        return payment

    @property
    def _most(self) -> Msat:
        return Msat(self._quote.total_msat + self._max_fee)

    def _account(self, payment: Payment) -> None:
        """Give back to the budget what the wallet itself says was not spent: never on the broker's word."""
        match payment.outcome:
            case PaymentOutcome.FAILED:
                self._give_back(self._most)
            case PaymentOutcome.SUCCEEDED:
                self._give_back(Msat(self._max_fee - (payment.fee_msat or 0)))
            case PaymentOutcome.IN_FLIGHT | PaymentOutcome.UNKNOWN:
                return
            case _:
                assert_never(payment.outcome)

    def _give_back(self, amount: Msat) -> None:
        if self._budget is not None and not self._accounted:
            self._budget.give_back(amount)
        self._accounted = True

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.status.value}, {format_msat(self._quote.total_msat)})"
