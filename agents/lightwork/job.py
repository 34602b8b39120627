"""A job that this market has hired: its payment, its events, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from pydantic import JsonValue

from lightwork.broker import Broker
from lightwork.budget import Budget
from lightwork.errors import (
    BrokerUnreachable,
    JobDisputed,
    JobFailed,
    LightworkError,
    PaymentFailed,
    PaymentUnknown,
    WalletUnreachable,
)
from lightwork.verification import check_proof
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
        self._broker = broker
        self._wallet = wallet
        self._paying = asyncio.create_task(
            self._pay(invoice, budget=budget, max_fee=max_fee, max_cltv=max_cltv), name=f"pay {view.id}"
        )
        self._last_word: str | None = None

    @property
    def id(self) -> JobId:
        return self._view.id

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
            JobFailed: it ended without a result; no money moved.
            PaymentFailed, WalletUnreachable: it could not be paid; no money moved.
        """
        await self._until(lambda view: CAPABILITIES[view.status].result_visible)
        return self._view.result

    async def wait(self) -> JsonValue:
        """Wait until the job is settled and the proof of payment is here, and return the result.

        Raises:
            JobFailed: it was refunded or expired; no money moved.
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
            raise PaymentUnknown(f"job {self.id} is settled, but the wallet does not say how it was paid")
        check_proof(preimage, payment_hash=self._view.quote.payment_hash)
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
            self._raise_if_over()
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
        """Cancel the job if no HTLC has reached the broker. Once that is done, none can be taken any more."""
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

    def _raise_if_over(self) -> None:
        status, error = self._view.status, self._view.error
        if status is JobStatus.DISPUTED:
            raise JobDisputed(
                f"job {self.id} is in dispute: an arbiter rules, and the money is held until then"
            )
        if not CAPABILITIES[status].terminal or status is JobStatus.SETTLED:
            return
        why = error.message if error is not None else CAPABILITIES[status].meaning
        if status is JobStatus.EXPIRED and self._last_word is not None:
            why += f" (the wallet: {self._last_word})"
        raise JobFailed(
            f"job {self.id} was {status.value}: {why}",
            code=error.code if error is not None else status.value,
            job_id=self.id,
            status=status.value,
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

    async def _pay(self, invoice: str, *, budget: Budget | None, max_fee: Msat, max_cltv: int) -> Payment:
        """Pay, and follow the payment until the node knows its end, however often the node is lost sight of.

        The market has taken the most that this can cost from the budget; what is not spent goes back.
        """
        quote = self._view.quote
        most = Msat(quote.total_msat + max_fee)
        connection = self._broker.connection
        try:
            payment = await self._wallet.pay(
                invoice, payment_hash=quote.payment_hash, max_fee_msat=max_fee, max_cltv=max_cltv
            )
        except WalletUnreachable:
            if budget is not None:
                budget.give_back(most)
            raise
        attempt, lost_at = 0, connection.clock()
        while not payment.outcome.terminal:
            attempt += 1
            self._last_word = self._last_word or payment.reason
            if connection.clock() - lost_at >= GRACE_SECONDS and await self._called_off_unfunded():
                if budget is not None:
                    budget.give_back(most)
                raise PaymentUnknown(
                    f"the wallet did not take the payment ({self._last_word}), so job {self.id} was called off",
                    hint="the hold invoice is cancelled: no money can move; check the wallet's macaroon and balance",
                )
            await connection.sleep(connection.backoff.delay(attempt, chance=connection.chance()))
            payment = await self._wallet.track(quote.payment_hash)
        if budget is not None:
            failed = payment.outcome is PaymentOutcome.FAILED
            budget.give_back(most if failed else Msat(max_fee - (payment.fee_msat or 0)))
        return payment

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.status.value}, {format_msat(self._view.quote.total_msat)})"
