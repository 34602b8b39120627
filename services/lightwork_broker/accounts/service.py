"""Balances, and paying them out: the only place that pays an agent's withdrawal.

The intent, the payment hash and the reserve are one commit; then the node is asked to pay, once; the outcome and its
postings are another commit. An answer that does not come is never a failure: the reserve stays until the node says
for good what became of the hash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import assert_never

import structlog

from lightwork_broker.accounts import store
from lightwork_broker.accounts.machine import WithdrawalEvent
from lightwork_broker.accounts.rules import CLTV_LIMIT, amount_of
from lightwork_broker.accounts.store import Withdrawal
from lightwork_broker.clock import Clock, Ids, Steady
from lightwork_broker.db.engine import Database, Transaction, forbid_open_transaction
from lightwork_broker.errors import (
    BalanceTooLow,
    IdempotencyConflict,
    InvoiceRefused,
    LightningDown,
    NotFound,
    WithdrawalLimit,
    WithdrawalsStopped,
)
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import (
    balance_account,
    reserve_posting,
    unreserve_posting,
    withdrawn_posting,
)
from lightwork_broker.lightning.conclusion import Watch, is_confirmed, is_stale, may_be_over
from lightwork_broker.lightning.errors import LightningError, PermissionMissing, Refused
from lightwork_broker.lightning.ports import LightningNode, Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.signals import Signals
from lightwork_contracts.ids import Pubkey, WithdrawalId
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.accounts import BalanceView, WithdrawalStatus, WithdrawalView
from lightwork_contracts.wire.problems import ProblemCode

log = structlog.stdlib.get_logger()

ATTEMPT_SECONDS = 60
FOLLOW_SECONDS = 20.0
RECHECK_SECONDS = 2.0
DAY_SECONDS = 86_400
ALARM_SECONDS = 3_600
"""After so long without an outcome, and each so long again, a person is told of it."""

Pending = Callable[[Transaction, Pubkey], Awaitable[int]]
"""Returns what may still become owed to an agent by jobs that are not over, in msat."""


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What the operator allows. Msat; 0 for a day's limit is no limit."""

    network: str
    own_node: str
    ceiling_msat: Msat
    day_msat: Msat
    day_msat_of_all: Msat
    open_at_once: int
    open_at_once_of_all: int = 100
    of_agent_a_day: int = 200


class Accounts:
    """What this broker owes agents, and their withdrawals."""

    def __init__(
        self,
        *,
        database: Database,
        node: LightningNode,
        clock: Clock,
        ids: Ids,
        signals: Signals,
        limits: AccountLimits,
        pending: Pending,
        gate: PayoutGate,
        steady: Steady | None = None,
    ) -> None:
        self._gate = gate
        self._steady = steady or clock.now
        self._watch = Watch(self._steady)
        self._database = database
        self._node = node
        self._clock = clock
        self._ids = ids
        self._signals = signals
        self._limits = limits
        self._pending = pending
        self._driving: dict[WithdrawalId, asyncio.Task[None]] = {}
        self._told_at: dict[WithdrawalId, float] = {}
        self._newest_call: Withdrawal | None = None

    # --- asked for by agents ----------------------------------------------------------------------------

    async def balance(self, agent: Pubkey) -> BalanceView:
        """Return what is owed to an agent."""
        async with self._database.read() as tx:
            return BalanceView(
                balance_msat=Msat(-await ledger.balance(tx, balance_account(agent))),
                withdrawing_msat=Msat(sum(w.reserved_msat for w in await store.under_way(tx, agent))),
                pending_msat=Msat(await self._pending(tx, agent)),
                ceiling_msat=self._limits.ceiling_msat,
            )

    async def statement(self, agent: Pubkey, *, before: int | None, limit: int) -> list[ledger.Line]:
        """Return the lines of an agent's account, newest first; positive is owed to the agent."""
        async with self._database.read() as tx:
            lines = await ledger.statement(tx, balance_account(agent), before=before, limit=limit)
        return [ledger.Line(line.id, -line.amount_msat, line.cause, line.at) for line in lines]

    async def withdraw(
        self, agent: Pubkey, *, invoice: str, max_fee_msat: Msat, key: str | None
    ) -> Withdrawal:
        """Reserve what an invoice takes, and begin to pay it. The same key gives the same withdrawal.

        Raises:
            InvoiceRefused, BalanceTooLow, WithdrawalLimit, WithdrawalsStopped, IdempotencyConflict, LightningDown
        """
        if key is not None:
            # Before anything else: an invoice that has expired since then is no reason to deny what was begun.
            async with self._database.read() as tx:
                known = await store.by_key(tx, agent, key)
            if known is not None:
                return _repeated(known, invoice=invoice, max_fee_msat=max_fee_msat)
        await self._stop_if_database_went_back()
        now = self._clock.now()
        read, amount = amount_of(
            invoice, network=self._limits.network, own_node=self._limits.own_node, now=int(now)
        )
        withdrawal = Withdrawal(
            id=WithdrawalId(self._ids.new("wdr")),
            agent=agent,
            status=WithdrawalStatus.PAYING,
            payment_hash=read.payment_hash,
            invoice=invoice,
            amount_msat=amount,
            max_fee_msat=max_fee_msat,
            idempotency_key=key,
            created_at=now,
            updated_at=now,
        )
        async with self._database.write() as tx:
            known = None if key is None else await store.by_key(tx, agent, key)
            if known is not None:
                return _repeated(known, invoice=invoice, max_fee_msat=max_fee_msat)
            await ledger.require_node(tx, self._limits.own_node)
            if await store.stopped(tx) is not None:
                raise WithdrawalsStopped(
                    "this broker pays nothing out until its operator has looked at its books",
                    hint="nothing is lost: try again later",
                )
            await self._require_room(tx, withdrawal)
            if not await ledger.claim(tx, withdrawal.payment_hash, purpose=f"withdrawal:{withdrawal.id}"):
                raise InvoiceRefused(
                    "this invoice's payment hash was used before",
                    invoice_code=ProblemCode.INVOICE_HASH_USED,
                    hint="make a fresh invoice",
                )
            await store.insert(tx, withdrawal)
            reserve = reserve_posting(withdrawal.id, agent=agent, reserved_msat=withdrawal.reserved_msat)
            await ledger.post(tx, reserve, now=int(now))
            tx.after_commit(lambda: self.schedule(withdrawal.id))
        log.info("withdrawal.asked", withdrawal=withdrawal.id, amount_msat=amount)
        return withdrawal

    async def _require_room(self, tx: Transaction, withdrawal: Withdrawal) -> None:
        """Check balance and limits in the transaction that takes from them."""
        limits, agent = self._limits, withdrawal.agent
        free = -await ledger.balance(tx, balance_account(agent))
        if withdrawal.reserved_msat > free:
            raise BalanceTooLow(
                f"{withdrawal.amount_msat} msat and up to {withdrawal.max_fee_msat} msat for routing are more "
                f"than the balance of {free} msat",
                hint="make the invoice for less, or lower the fee limit",
                context={"balance_msat": free, "needed_msat": withdrawal.reserved_msat},
            )
        since = withdrawal.created_at - DAY_SECONDS
        if await store.count_since(tx, agent, since=since) >= limits.of_agent_a_day:
            raise WithdrawalLimit(
                f"{limits.of_agent_a_day} withdrawals were asked for in 24 hours", hint="try again later"
            )
        if len(await store.under_way(tx, agent)) >= limits.open_at_once:
            raise WithdrawalLimit(
                f"{limits.open_at_once} withdrawals are under way already", hint="wait for one of them to end"
            )
        if len(await store.under_way(tx)) >= limits.open_at_once_of_all:
            raise WithdrawalLimit(
                f"this broker has {limits.open_at_once_of_all} withdrawals under way", hint="try again later"
            )
        for whose, most in ((agent, limits.day_msat), (None, limits.day_msat_of_all)):
            taken = await store.taken_since(tx, agent=whose, since=since) if most else 0
            if most and taken + withdrawal.reserved_msat > most:
                raise WithdrawalLimit(
                    f"{'this agent' if whose else 'this broker'} pays out {most} msat in 24 hours; {taken} msat "
                    "were asked for already",
                    hint="try again later, or for less",
                    context={"limit_msat": int(most), "taken_msat": taken},
                )

    async def get(self, agent: Pubkey, withdrawal_id: str, *, wait_seconds: float = 0) -> Withdrawal:
        """Return an agent's own withdrawal, after waiting for its end if asked to.

        Raises:
            NotFound
        """
        deadline = self._steady() + wait_seconds
        with self._signals.listen(f"withdrawal:{withdrawal_id}") as heard:
            while True:
                async with self._database.read() as tx:
                    found = await store.get(tx, withdrawal_id)
                if found is None or found.agent != agent:
                    raise NotFound(f"there is no withdrawal {withdrawal_id}")
                left = deadline - self._steady()
                if found.status is not WithdrawalStatus.PAYING or left <= 0 or heard.closing:
                    return found
                await heard.wait(min(left, RECHECK_SECONDS))

    async def mine(self, agent: Pubkey, *, before: str | None, limit: int) -> list[Withdrawal]:
        async with self._database.read() as tx:
            return await store.of_agent(tx, agent, before=before, limit=limit)

    async def is_stopped(self) -> bool:
        """Tell whether this broker asks the node for no further payment of a withdrawal."""
        async with self._database.read() as tx:
            return self._gate.is_closed or await store.stopped(tx) is not None

    # --- doing it ---------------------------------------------------------------------------------------

    def schedule(self, withdrawal_id: WithdrawalId) -> None:
        """Drive a withdrawal in the background; what fails is left for the sweep."""
        if withdrawal_id in self._driving:
            return
        task = asyncio.create_task(self._drive_quietly(withdrawal_id), name=f"withdrawal {withdrawal_id}")
        self._driving[withdrawal_id] = task
        task.add_done_callback(lambda done: self._ended(withdrawal_id, done))

    def _ended(self, withdrawal_id: WithdrawalId, task: asyncio.Task[None]) -> None:
        self._driving.pop(withdrawal_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("withdrawal.task_failed", withdrawal=withdrawal_id, exc_info=error)

    async def sweep(self) -> int:
        """Take up every withdrawal whose outcome is open: at boot, and again and again. Return how many."""
        await self._stop_if_database_went_back()
        async with self._database.read() as tx:
            found = await store.under_way(tx)
        self._watch.keep({withdrawal.id for withdrawal in found})
        for withdrawal in found:
            self.schedule(withdrawal.id)
        self._alarm(found)
        return len(found)

    def _alarm(self, found: list[Withdrawal]) -> None:
        """Tell a person of payments that have had no outcome for long."""
        now = self._clock.now()
        long = [one for one in found if one.unknown_since and now - one.unknown_since >= ALARM_SECONDS]
        self._told_at = {one.id: self._told_at.get(one.id, 0) for one in long}
        for one in long:
            if abs(now - self._told_at[one.id]) >= ALARM_SECONDS:
                self._told_at[one.id] = now
                minutes = int(now - (one.unknown_since or 0)) // 60
                log.critical("withdrawal.unknown_for_long", withdrawal=one.id, minutes=minutes)

    async def drive(self, withdrawal_id: WithdrawalId) -> None:
        """Pay, if nobody has begun to; else ask the node what became of it.

        Raises:
            LightningError: the node did not take the question.
            LightningDown: this broker's node is not the one that pays for this database.
        """
        forbid_open_transaction()
        async with self._database.read() as tx:
            await ledger.require_node(tx, self._limits.own_node)
            withdrawal = await store.get(tx, withdrawal_id)
        if withdrawal is None or withdrawal.status is not WithdrawalStatus.PAYING:
            return
        if withdrawal.called_at is None:
            await self._pay(withdrawal)
        else:
            await self._learn(withdrawal, called_at=withdrawal.called_at)

    async def close(self) -> None:
        """Stop the background work; what is unfinished is taken up at the next start."""
        tasks = list(self._driving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pay(self, withdrawal: Withdrawal) -> None:
        if self._gate.is_closed:
            return  # it stays reserved, and the sweep asks again
        now, begun = self._clock.now(), self._watch.now()
        async with self._database.write() as tx:
            # An older copy has it still to pay; since then it may have failed, and the balance be gone another way.
            is_stopped = await store.stopped(tx) is not None
            mine = not is_stopped and await store.take_call(tx, withdrawal, now=now)
        if is_stopped:
            await self._take_over(withdrawal)
            return
        # Whoever comes after the commit too late must not call: somebody may have found that nobody did.
        if not mine or is_stale(by_clock=self._clock.now() - now, by_steady=self._watch.now() - begun):
            return
        self._watch.begin(withdrawal.id)
        self._newest_call = withdrawal
        try:
            seen = await self._node.pay(
                invoice=withdrawal.invoice,
                payment_hash=withdrawal.payment_hash,
                fee_limit_msat=withdrawal.max_fee_msat,
                cltv_limit=CLTV_LIMIT,
                timeout_seconds=ATTEMPT_SECONDS,
            )
        except Refused as error:
            log.warning("withdrawal.refused_by_node", withdrawal=withdrawal.id, cause=str(error))
            seen = Payout(
                status=PayoutStatus.FAILED,
                payment_hash=withdrawal.payment_hash,
                failure=PayoutFailure.REFUSED,
            )
        except PermissionMissing:
            log.critical("withdrawal.permission_missing", withdrawal=withdrawal.id)
            return
        await self._record(withdrawal, seen)

    async def _take_over(self, withdrawal: Withdrawal) -> None:
        """Book what the node has paid already, though this database does not know that it was called."""
        seen = await self._node.track(withdrawal.payment_hash)
        if seen.status is PayoutStatus.SUCCEEDED:
            await self._record(withdrawal, seen)

    async def _stop_if_database_went_back(self) -> None:
        """Stop withdrawals if the newest one that was called here is in the database no more.

        Rows of withdrawals stay for ever. So a standby has taken over that had not heard the last commits, or somebody
        has put a copy in its place: what was paid since is owed again, and no start of a broker looks for it.
        """
        newest = self._newest_call
        if newest is None:
            return
        async with self._database.read() as tx:
            if await store.get(tx, newest.id) is not None:
                return
        now, reason = (
            self._clock.now(),
            f"the database has forgotten {newest.id}, which was called by this broker",
        )
        async with self._database.write() as tx:
            await store.stop(tx, reason=reason, unknown=[newest.payment_hash], now=now)
        self._newest_call = None
        log.critical("withdrawals.stopped", reason=reason, hashes=[newest.payment_hash])

    async def _learn(self, withdrawal: Withdrawal, *, called_at: float) -> None:
        self._watch.begin(withdrawal.id)
        seen = await self._node.track(withdrawal.payment_hash)
        if seen.status in (PayoutStatus.IN_FLIGHT, PayoutStatus.UNKNOWN):
            self._watch.was_not_denied(withdrawal.id)
            seen = await self._node.wait(withdrawal.payment_hash, FOLLOW_SECONDS)
        if seen.status is PayoutStatus.FAILED:
            now, is_last_word = self._clock.now(), self._watch.is_last_word(withdrawal.id)
            if not may_be_over(now=now, called_at=called_at):
                return
            if withdrawal.unseen_since is None:
                async with self._database.write() as tx:
                    await store.note(tx, withdrawal, unseen_since=now)
                return
            if not is_last_word or not is_confirmed(now=now, unseen_since=withdrawal.unseen_since):
                return
        await self._record(withdrawal, seen)

    async def _record(self, withdrawal: Withdrawal, seen: Payout) -> None:
        now = self._clock.now()
        match seen.status:
            case PayoutStatus.IN_FLIGHT | PayoutStatus.UNKNOWN:
                log.warning("withdrawal.unresolved", withdrawal=withdrawal.id, status=seen.status)
                if withdrawal.unknown_since is None:
                    async with self._database.write() as tx:
                        await store.note(tx, withdrawal, unknown_since=int(now), unseen_since=None)
            case PayoutStatus.SUCCEEDED:
                if seen.preimage is None or seen.fee_msat is None:
                    raise ValueError("a payout that succeeded has a preimage and a fee")
                if seen.fee_msat > withdrawal.max_fee_msat:
                    log.critical(
                        "withdrawal.fee_over_budget", withdrawal=withdrawal.id, paid_msat=seen.fee_msat
                    )
                    self._gate.stop(
                        f"{withdrawal.id} cost {seen.fee_msat} msat of routing, "
                        f"{withdrawal.max_fee_msat} msat were allowed"
                    )
                await self._end(
                    withdrawal,
                    WithdrawalEvent.SUCCEEDED,
                    preimage=seen.preimage,
                    fee_paid_msat=int(seen.fee_msat),
                )
            case PayoutStatus.FAILED:
                failure = seen.failure or PayoutFailure.ERROR
                await self._end(withdrawal, WithdrawalEvent.FAILED, failure=failure.value)
            case _:
                assert_never(seen.status)

    async def _end(
        self, withdrawal: Withdrawal, event: WithdrawalEvent, **values: str | int | Preimage
    ) -> None:
        """Commit the outcome with its postings, once: whoever comes second changes nothing."""
        now = self._clock.now()
        async with self._database.write() as tx:
            ended = await store.change(tx, withdrawal, event, now=now, **values)
            if ended is None:
                return
            if event is WithdrawalEvent.SUCCEEDED:
                posting = withdrawn_posting(
                    ended.id,
                    agent=ended.agent,
                    amount_msat=ended.amount_msat,
                    max_fee_msat=ended.max_fee_msat,
                    fee_msat=ended.fee_paid_msat or 0,
                )
            else:
                posting = unreserve_posting(ended.id, agent=ended.agent, reserved_msat=ended.reserved_msat)
            await ledger.post(tx, posting, now=int(now))
            tx.after_commit(lambda: self._signals.notify(f"withdrawal:{ended.id}"))
        self._watch.end(withdrawal.id)
        log.info("withdrawal.ended", withdrawal=ended.id, status=ended.status, failure=ended.failure)

    async def _drive_quietly(self, withdrawal_id: WithdrawalId) -> None:
        try:
            await self.drive(withdrawal_id)
        except (LightningError, LightningDown) as error:
            log.warning("withdrawal.node_unavailable", withdrawal=withdrawal_id, cause=type(error).__name__)


def _repeated(known: Withdrawal, *, invoice: str, max_fee_msat: Msat) -> Withdrawal:
    if (known.invoice, known.max_fee_msat) != (invoice, max_fee_msat):
        raise IdempotencyConflict("this Idempotency-Key was used for another withdrawal")
    return known


def withdrawal_view(withdrawal: Withdrawal, *, is_stopped: bool) -> WithdrawalView:
    """Return a withdrawal as its agent may see it, of a broker that may have stopped withdrawals."""
    is_begun = withdrawal.called_at is not None
    return WithdrawalView(
        id=withdrawal.id,
        status=withdrawal.status,
        amount_msat=withdrawal.amount_msat,
        max_fee_msat=withdrawal.max_fee_msat,
        fee_paid_msat=withdrawal.fee_paid_msat,
        payment_hash=withdrawal.payment_hash,
        preimage=None if withdrawal.preimage is None else withdrawal.preimage.hex(),
        error_code=withdrawal.failure,
        unknown_since=withdrawal.unknown_since,
        waits_for_operator=is_stopped and withdrawal.status is WithdrawalStatus.PAYING and not is_begun,
        created_at=int(withdrawal.created_at),
        updated_at=int(withdrawal.updated_at),
    )
