"""Moving the money of one job: the only place that acts on an escrow.

Each step is: commit the intent, call the node, commit the outcome. `drive` performs the duty of whatever state
an escrow is in, so a live job, a job found by the sweep and a job found after a crash take the same path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import assert_never
from weakref import WeakValueDictionary

import structlog
from pydantic import JsonValue

from lightwork_broker.clock import Clock, Steady
from lightwork_broker.db.engine import Database, Transaction, forbid_open_transaction
from lightwork_broker.errors import (
    BrokerError,
    IllegalTransition,
    InvoiceRefused,
    LightningDown,
    NotFound,
    WrongStatus,
)
from lightwork_broker.escrow import incoming, payout, store
from lightwork_broker.escrow.booking import book
from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.escrow.machine import DUTIES, TERMINAL, Duty, EscrowEvent, EscrowState, may
from lightwork_broker.escrow.store import Escrow
from lightwork_broker.escrow.terms import EscrowListener, Terms
from lightwork_broker.escrow.wrap import LND_HOLD_EXPIRY_DELTA, Limits
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.conclusion import GRACE_SECONDS, Watch
from lightwork_broker.lightning.errors import (
    AlreadySettled,
    HashInUse,
    InvoiceCanceled,
    InvoiceNotFound,
    LightningError,
    LightningUnavailable,
    Refused,
)
from lightwork_broker.lightning.ports import HoldInvoice, InvoiceState, LightningNode, PayoutStatus
from lightwork_broker.payout_gate import PayoutGate
from lightwork_contracts.ids import JobId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.problems import ProblemCode

log = structlog.stdlib.get_logger()


class EscrowService:
    """Opens, releases and refunds escrows, and drives each to its end."""

    def __init__(
        self,
        *,
        database: Database,
        node: LightningNode,
        clock: Clock,
        limits: Limits,
        preimages: CreditPreimages,
        gate: PayoutGate | None = None,
        steady: Steady | None = None,
    ) -> None:
        self.gate = gate or PayoutGate()
        self.watch = Watch(steady or clock.now)
        self._database = database
        self._node = node
        self._preimages = preimages
        self._clock = clock
        self._limits = limits
        self._listener: EscrowListener | None = None
        # A lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[JobId, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: set[JobId] = set()
        self._scheduled: dict[JobId, bool] = {}
        self.hold_expiry_delta = LND_HOLD_EXPIRY_DELTA

    def attach(self, listener: EscrowListener) -> None:
        """Name the one that is told of each change; done once, in the composition root."""
        self._listener = listener

    # --- asked for by others, inside their transaction -------------------------------------------------

    async def open(self, tx: Transaction, terms: Terms) -> Escrow:
        """Record the intent to hold a buyer's payment. `drive` then makes the hold invoice.

        Raises:
            LightningDown: this database's money is on another node. PayoutsStopped: the books do not hold.
        """
        self.gate.require_open()
        await ledger.require_node(tx, self._limits.own_node)
        now = self.now()
        escrow = Escrow(
            id=terms.id,
            state=EscrowState.CREATED,
            payment_hash=terms.payment_hash,  # pyright: ignore[reportArgumentType]  (NewType over str)
            price_msat=terms.price_msat,
            fee_msat=terms.fee_msat,
            routing_msat=terms.routing_msat,
            total_msat=Msat(terms.price_msat + terms.fee_msat + terms.routing_msat),
            provider_invoice=terms.provider_invoice,
            hold_cltv_blocks=terms.hold_cltv_blocks,
            outgoing_cltv_blocks=terms.outgoing_cltv_blocks,
            forward_seconds=terms.forward_seconds,
            memo=f"{terms.memo} {self._limits.mark}",
            credited_to=terms.credited_to,
            credit_seed=terms.credit_seed,
            pay_by=int(now) + terms.pay_seconds,
            created_at=now,
            updated_at=now,
        )
        if escrow.mode is PaymentMode.ESCROW:
            await self._claim(tx, escrow)
        await store.insert(tx, escrow)
        return escrow

    async def _claim(self, tx: Transaction, escrow: Escrow) -> None:
        """Make sure that nothing else of ours pays this hash: its success would pass for this payout's."""
        if not await ledger.claim(tx, escrow.payment_hash, purpose=f"escrow:{escrow.id}"):
            raise InvoiceRefused(
                "the provider's invoice was used for something else meanwhile",
                invoice_code=ProblemCode.INVOICE_HASH_USED,
                hint="ask for a new quote",
            )

    async def ask_release(self, tx: Transaction, escrow_id: JobId) -> None:
        """Decide, durably, that the provider is to be paid. It happens after the commit."""
        escrow = await self._get(tx, escrow_id)
        await self._move(tx, escrow, EscrowEvent.RELEASE_ASKED, retry_at=0)
        tx.after_commit(lambda: self.schedule(escrow_id))

    async def ask_cancel(self, tx: Transaction, escrow_id: JobId, *, reason: str) -> bool:
        """Decide, durably, that the buyer gets the HTLC back. False when it is already on its way.

        Raises:
            WrongStatus: release is decided; from then on only the payout itself may end in a refund.
        """
        escrow = await self._get(tx, escrow_id)
        if escrow.state in (EscrowState.CANCELING, EscrowState.CANCELED, EscrowState.RETURNED):
            return False
        if escrow.state not in (EscrowState.CREATED, EscrowState.OPEN, EscrowState.ACCEPTED):
            raise WrongStatus(f"an escrow that is {escrow.state} cannot be refunded on request")
        await self._move(tx, escrow, EscrowEvent.CANCEL_ASKED, reason=reason)
        tx.after_commit(lambda: self.schedule(escrow_id))
        return True

    async def get(self, escrow_id: JobId) -> Escrow:
        async with self._database.read() as tx:
            return await self._get(tx, escrow_id)

    # --- doing it ---------------------------------------------------------------------------------------

    def schedule(self, escrow_id: JobId) -> None:
        """Drive an escrow in the background; what fails is left for the sweep."""
        known = escrow_id in self._scheduled
        self._scheduled[escrow_id] = True  # also when it is being driven now: then once more
        if not known:
            self._spawn(self._drive_quietly(escrow_id), name=f"escrow {escrow_id}")

    async def drive(self, escrow_id: JobId) -> Escrow:
        """Perform the duties of an escrow until it waits for somebody else or has ended.

        Raises:
            LightningDown: the node gave no answer; the escrow stays where it is and will be tried again.
        """
        lock = self._locks.setdefault(escrow_id, asyncio.Lock())
        async with lock:
            while True:
                escrow = await self._get_to_act(escrow_id)
                if escrow.state in TERMINAL:
                    return escrow
                try:
                    moved = await self._perform(escrow)
                except LightningUnavailable as error:
                    raise LightningDown(
                        "the broker's Lightning node gives no answer", hint="try again in a moment"
                    ) from error
                if moved is None:
                    return await self.get(escrow_id)

    async def look(self, escrow_id: JobId) -> None:
        """Ask the node about the incoming side of a waiting escrow, and take over what it says.

        Raises:
            LightningDown: the node gave no answer.
        """
        escrow = await self._get_to_act(escrow_id)
        if escrow.state not in (EscrowState.OPEN, EscrowState.ACCEPTED, EscrowState.FORWARDING):
            return
        try:
            hold = await self._node.lookup(escrow.payment_hash)
        except LightningUnavailable as error:
            raise LightningDown("the broker's Lightning node gives no answer") from error
        if hold is None:
            log.error("escrow.hold_invoice_unknown_to_node", job=escrow_id, state=escrow.state)
            await self.mark_unknown(escrow)
        else:
            await self.observe(hold, escrow_id=escrow_id)

    async def observe(self, hold: HoldInvoice, *, escrow_id: JobId) -> None:
        """Take over what the node says of the incoming side; late and repeated news changes nothing."""
        escrow = await self.get(escrow_id)
        match hold.state:
            case InvoiceState.OPEN:
                return
            case InvoiceState.ACCEPTED:
                if may(escrow.state, EscrowEvent.HTLC_ACCEPTED, mode=escrow.mode):
                    most_msat = self._limits.held_msat_of_peer
                    await incoming.take_on(self, self._node, escrow, hold, most_msat=most_msat)
            case InvoiceState.CANCELED:
                if may(escrow.state, EscrowEvent.NODE_CANCELED, mode=escrow.mode):
                    await self.change(escrow, EscrowEvent.NODE_CANCELED)
            case InvoiceState.SETTLED:
                if not may(escrow.state, EscrowEvent.SETTLE_CONFIRMED, mode=escrow.mode):
                    return
                if escrow.mode is PaymentMode.CREDIT:
                    await self._adopt_settlement(escrow, hold)
                else:
                    await self.change(escrow, EscrowEvent.SETTLE_CONFIRMED)
            case _:
                assert_never(hold.state)

    async def guard(self, height: int) -> None:
        """Act on every held escrow whose last safe height has come, before LND acts by itself."""
        async with self._database.read() as tx:
            late = await store.out_of_blocks(tx, height=height)
            close = await store.close_to_expiry(tx, height=height)
        for escrow_id in late:
            log.warning("escrow.out_of_blocks", job=escrow_id, height=height)
            if self._listener is not None:
                try:
                    await self._listener.escrow_out_of_time(escrow_id)
                except BrokerError as error:
                    log.warning("escrow.guard_refused", job=escrow_id, detail=error.detail)
                except Exception as error:
                    # It stays late at every block: it must not keep the guardian from the others each time.
                    log.critical("escrow.guard_failed", job=escrow_id, exc_info=error)
        for escrow_id in close:
            log.critical("escrow.close_to_expiry", job=escrow_id, height=height)

    async def close(self) -> None:
        """Stop the background work; what is unfinished is taken up at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- one duty each ----------------------------------------------------------------------------------

    async def _perform(self, escrow: Escrow) -> EscrowEvent | None:
        """Perform the duty of a state; return the event that it led to, or None if there is to be waited."""
        forbid_open_transaction()
        duty = DUTIES[escrow.state]
        match duty:
            case Duty.ADD_HOLD:
                return await self._add_hold(escrow)
            case Duty.WATCH:
                if escrow.state is EscrowState.OPEN:
                    self._watch(escrow.id)
                return None
            case Duty.DISPATCH if self.gate.is_closed:
                return None  # it is due already, so it is looked at again each second, and writes nothing
            case Duty.DISPATCH:
                return await payout.dispatch(self, self._node, escrow)
            case Duty.FINISH_PAYOUT:
                return await payout.finish(self, self._node, escrow, may_pay=not self.gate.is_closed)
            case Duty.SETTLE:
                return await self._settle(escrow)
            case Duty.CANCEL:
                return await self._cancel(escrow)
            case _:
                assert_never(duty)

    async def _add_hold(self, escrow: Escrow) -> EscrowEvent | None:
        seconds = escrow.pay_by - int(self.now())
        if seconds <= 0:
            # Too late to offer it. If an earlier try did reach the node, that invoice must be cancelled.
            return await self.change(escrow, EscrowEvent.CANCEL_ASKED, reason="pay window over")
        self.watch.begin(escrow.id)
        try:
            request = await self._node.add_hold(
                payment_hash=escrow.payment_hash,
                value_msat=escrow.total_msat,
                expiry_seconds=seconds,
                cltv_blocks=escrow.hold_cltv_blocks,
                memo=escrow.memo,
            )
        except (HashInUse, Refused) as error:
            if isinstance(error, HashInUse) and await payout.was_settled_before(self._node, escrow):
                # The way to adopt it leads over the cancellation that the node will refuse.
                return await self.change(escrow, EscrowEvent.CANCEL_ASKED, reason="settled already")
            return await self.change(escrow, EscrowEvent.HOLD_REFUSED, reason=str(error))
        self.watch.end(escrow.id)
        moved = await self.change(escrow, EscrowEvent.HOLD_ADDED, hold_invoice=request)
        if moved is None and (await self.get(escrow.id)).state in TERMINAL:
            # Somebody gave it up while the invoice was being made: it must not be payable.
            await self._node.cancel(escrow.payment_hash)
        return moved

    async def _settle(self, escrow: Escrow) -> EscrowEvent | None:
        credit = escrow.mode is PaymentMode.CREDIT
        preimage = self._preimages.preimage_of(escrow) if credit else escrow.learned_preimage()
        try:
            await self._node.settle(preimage)
        except InvoiceCanceled:
            if credit:
                # The buyer has the money back, and nobody is owed anything.
                log.critical("escrow.returned_before_settlement", job=escrow.id, owed_msat=0)
            else:
                log.critical("escrow.lost", job=escrow.id, spent_msat=escrow.price_msat)
            return await self.change(escrow, EscrowEvent.NODE_CANCELED)
        except InvoiceNotFound:
            log.critical("escrow.hold_invoice_unknown_to_node", job=escrow.id, state=escrow.state)
            await self.mark_unknown(escrow)
            return None
        return await self.change(escrow, EscrowEvent.SETTLE_CONFIRMED, preimage=preimage)

    async def _cancel(self, escrow: Escrow) -> EscrowEvent | None:
        if escrow.mode is PaymentMode.ESCROW and await self._is_held(escrow):
            # The last look before money goes back: a payout that this database does not know of must be seen.
            seen = await self._node.track(escrow.payment_hash)
            if seen.status is not PayoutStatus.FAILED:
                return await payout.adopt(self, self._node, escrow)
        try:
            await self._node.cancel(escrow.payment_hash)
        except InvoiceNotFound:
            # Never made, unless a call to make it is still on its way; then it must be waited out.
            is_recent = self.now() - escrow.created_at < GRACE_SECONDS
            on_its_way = is_recent or not self.watch.is_over(escrow.id)
            if escrow.hold_invoice is None and on_its_way:
                return None
        except AlreadySettled:
            log.critical("escrow.settled_while_canceling", job=escrow.id)
            if escrow.mode is PaymentMode.CREDIT:
                return await self._adopt_settlement(escrow, await self._node.lookup(escrow.payment_hash))
            await self.mark_unknown(escrow)
            return await payout.adopt(self, self._node, escrow)
        return await self.change(escrow, EscrowEvent.CANCEL_CONFIRMED)

    async def _is_held(self, escrow: Escrow) -> bool:
        """Tell whether the buyer's money waits: an older copy of the database does not know that it came."""
        if escrow.accepted_msat is not None:
            return True
        hold = await self._node.lookup(escrow.payment_hash)
        return hold is not None and hold.state is InvoiceState.ACCEPTED

    async def _adopt_settlement(self, escrow: Escrow, hold: HoldInvoice | None) -> EscrowEvent | None:
        """Take over a settlement of a job in credit mode that the node knows of and this database does not."""
        accepted = escrow.total_msat if hold is None else hold.accepted_msat
        return await self.change(
            escrow,
            EscrowEvent.SETTLE_CONFIRMED,
            preimage=self._preimages.preimage_of(escrow),
            accepted_msat=accepted,
        )

    # --- recording it -----------------------------------------------------------------------------------

    async def change(
        self,
        escrow: Escrow,
        event: EscrowEvent,
        *,
        data: dict[str, JsonValue] | None = None,
        **values: store.Value,
    ) -> EscrowEvent | None:
        """Commit one edge with its ledger entries and what the job makes of it; None if it was overtaken."""
        async with self._database.write() as tx:
            moved = await self._move(tx, escrow, event, data=data, strict=False, **values)
        return None if moved is None else event

    async def mark_unknown(self, escrow: Escrow) -> None:
        """Remember since when an outcome is not known; the funds stay where they are."""
        if escrow.unknown_since is None:
            async with self._database.write() as tx:
                await store.note(tx, escrow, unknown_since=int(self.now()))

    async def mark_unseen(self, escrow: Escrow) -> None:
        """Remember since when the node says that the payout did not happen."""
        async with self._database.write() as tx:
            await store.note(tx, escrow, unseen_since=self.now())

    async def take_over(self, escrow: Escrow) -> Escrow | None:
        """Make the payout under way a new attempt, to call once more; None if somebody else was faster."""
        now = self.now()
        async with self._database.write() as tx:
            taken = await store.note(
                tx, escrow, attempts=escrow.attempts + 1, intended_at=now, retry_at=now, unseen_since=None
            )
            return await self._get(tx, escrow.id) if taken else None

    async def postpone(self, escrow: Escrow, *, seconds: float) -> None:
        """Look at an escrow again after some seconds."""
        async with self._database.write() as tx:
            await store.note(tx, escrow, retry_at=self.now() + seconds)

    def stop_payouts(self, reason: str) -> None:
        """The node has spent more than it was allowed to: nothing more is sent through it."""
        self.gate.stop(reason)

    @property
    def safety(self) -> payout.Safety:
        return payout.Safety(self.hold_expiry_delta, self._limits.guardian_margin_blocks)

    def now(self) -> float:
        return self._clock.now()

    async def _move(
        self,
        tx: Transaction,
        escrow: Escrow,
        event: EscrowEvent,
        *,
        data: dict[str, JsonValue] | None = None,
        strict: bool = True,
        **values: store.Value,
    ) -> Escrow | None:
        now = self.now()
        known: dict[str, store.Value] = {"unknown_since": None, "unseen_since": None, **values}
        moved = await store.change(tx, escrow, event, now=now, data=data, **known)
        if moved is None:
            if strict:
                raise IllegalTransition(f"escrow {escrow.id} was moved by somebody else")
            return None
        await book(tx, moved, event, now=int(now))
        log.info("escrow.changed", job=moved.id, change=event, state=moved.state)
        if self._listener is not None:
            await self._listener.escrow_changed(tx, moved, event)
        return moved

    async def _get(self, tx: Transaction, escrow_id: JobId) -> Escrow:
        escrow = await store.get(tx, escrow_id)
        if escrow is None:
            raise NotFound(f"there is no escrow {escrow_id}")
        return escrow

    async def _get_to_act(self, escrow_id: JobId) -> Escrow:
        """Return an escrow whose node is this broker's: what another node does not know of is not undone.

        Raises:
            LightningDown: the database was taken to another node.
        """
        async with self._database.read() as tx:
            await ledger.require_node(tx, self._limits.own_node)
            return await self._get(tx, escrow_id)

    # --- in the background ------------------------------------------------------------------------------

    def _watch(self, escrow_id: JobId) -> None:
        if escrow_id not in self._watching:
            self._watching.add(escrow_id)
            self._spawn(self._follow(escrow_id), name=f"watch {escrow_id}")

    async def _follow(self, escrow_id: JobId) -> None:
        """Follow the incoming side until it is paid or gone. Only saves waiting: the sweep does the same."""
        try:
            escrow = await self.get(escrow_id)
            async for hold in self._node.watch(escrow.payment_hash):
                await self.observe(hold, escrow_id=escrow_id)
                if hold.state is not InvoiceState.OPEN:
                    return
        except LightningError as error:
            log.info("escrow.watch_ended", job=escrow_id, cause=type(error).__name__)
        finally:
            self._watching.discard(escrow_id)

    async def _drive_quietly(self, escrow_id: JobId) -> None:
        try:
            while self._scheduled.get(escrow_id):
                self._scheduled[escrow_id] = False
                await self.drive(escrow_id)
        except LightningDown:
            log.warning("escrow.node_unavailable", job=escrow_id)
        finally:
            self._scheduled.pop(escrow_id, None)

    def _spawn(self, work: Coroutine[None, None, None], *, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("escrow.task_failed", task=task.get_name(), exc_info=error)
