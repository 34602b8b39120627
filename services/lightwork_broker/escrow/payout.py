"""Paying the provider of one escrow: deciding whether it is still safe, dispatching, and learning the outcome.

An answer that does not come is never a failure. Only the node's own final state for the payment hash is, and
even that only when no call of ours can still be on its way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

import structlog
from pydantic import JsonValue

from lightwork_broker.escrow.guardian import outgoing_cltv_limit
from lightwork_broker.escrow.machine import EscrowEvent, EscrowState
from lightwork_broker.escrow.store import FARTHEST_SECONDS, Escrow, Value
from lightwork_broker.lightning.conclusion import Watch, is_confirmed, is_stale, may_be_over
from lightwork_broker.lightning.ports import (
    HoldInvoice,
    InvoiceState,
    LightningNode,
    NodeSummary,
    Payout,
    PayoutFailure,
    PayoutStatus,
)
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat

log = structlog.stdlib.get_logger()

LEAST_ATTEMPTS = 5
"""How often the node must have refused a payout before time may end it."""
LEAST_MARGIN_BLOCKS = 8
SPARE_ROUTE_BLOCKS = 40
"""Room for a longer route than the one that was estimated at the quote."""
ATTEMPT_SECONDS = 60
FOLLOW_SECONDS = 60
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Safety:
    """How many blocks before an HTLC's expiry the node acts by itself, and how many more we keep away."""

    hold_expiry_delta: int
    margin_blocks: int


class Recorder(Protocol):
    """What this room needs of the escrow service."""

    @property
    def safety(self) -> Safety: ...

    @property
    def watch(self) -> Watch: ...

    def now(self) -> float: ...

    async def change(
        self,
        escrow: Escrow,
        event: EscrowEvent,
        *,
        data: dict[str, JsonValue] | None = None,
        **values: Value,
    ) -> EscrowEvent | None: ...

    async def mark_unknown(self, escrow: Escrow) -> None: ...

    async def mark_unseen(self, escrow: Escrow) -> None: ...

    async def take_over(self, escrow: Escrow) -> Escrow | None: ...

    async def postpone(self, escrow: Escrow, *, seconds: float) -> None: ...

    def stop_payouts(self, reason: str) -> None: ...


async def dispatch(recorder: Recorder, node: LightningNode, escrow: Escrow) -> EscrowEvent | None:
    """Pay, if the buyer's HTLC is still held and there is time left (W7, W9); the intent is committed first.

    Otherwise the escrow is cancelled: nothing is on its way out, so nobody can lose.
    """
    now, begun_at = recorder.now(), recorder.watch.now()
    if now < escrow.retry_at <= now + FARTHEST_SECONDS:
        return None
    if escrow.failure is not None and PayoutFailure(escrow.failure).is_permanent:
        return await recorder.change(
            escrow,
            EscrowEvent.CANCEL_ASKED,
            reason=f"the provider's invoice cannot be paid: {escrow.failure}",
        )
    hold, summary = await asyncio.gather(node.lookup(escrow.payment_hash), node.summary())
    if hold is None:
        log.error("escrow.hold_invoice_unknown_to_node", job=escrow.id, state=escrow.state)
        await recorder.mark_unknown(escrow)
        await recorder.postpone(escrow, seconds=LAST_RETRY_SECONDS)
        return None
    if hold.state is InvoiceState.CANCELED:
        if (await node.track(escrow.payment_hash)).status is not PayoutStatus.FAILED:
            # Paid by an earlier life of this broker: the books must show what that cost.
            return await adopt(recorder, node, escrow)
        return await recorder.change(escrow, EscrowEvent.NODE_CANCELED)
    if hold.state is InvoiceState.SETTLED:
        # Settled by an earlier life of this broker, which this database does not remember.
        return await adopt(recorder, node, escrow)
    limit = _safe_limit(escrow, hold, summary, safety=recorder.safety)
    if limit is None:
        await recorder.postpone(escrow, seconds=FIRST_RETRY_SECONDS)
        return None
    if limit < escrow.outgoing_cltv_blocks or _was_tried_enough(escrow, now=now):
        return await recorder.change(
            escrow,
            EscrowEvent.CANCEL_ASKED,
            reason=f"the provider could not be paid in time: {escrow.failure or 'no blocks left'}",
        )
    attempt, forward_by = escrow.attempts + 1, escrow.forward_by or int(now) + escrow.forward_seconds
    intent = await recorder.change(
        escrow,
        EscrowEvent.PAYOUT_INTENDED,
        attempts=attempt,
        intended_at=now,
        retry_at=0,
        forward_by=forward_by,
    )
    if intent is None or _is_stale(recorder, since=now, begun_at=begun_at):
        return intent
    # Not read again: that takes time which nobody counts, and by then the attempt may be another broker's to end.
    begun = replace(escrow, state=EscrowState.FORWARDING, attempts=attempt, unknown_since=None)
    recorder.watch.begin(_attempt(begun))
    return await _record(recorder, begun, await _pay(node, escrow, limit=limit))


def _was_tried_enough(escrow: Escrow, *, now: float) -> bool:
    """Tell whether the provider cannot be reached: time alone is no proof, refused attempts are."""
    return escrow.attempts >= LEAST_ATTEMPTS and escrow.forward_by is not None and now > escrow.forward_by


async def adopt(recorder: Recorder, node: LightningNode, escrow: Escrow) -> EscrowEvent | None:
    """Take over a payout that the node has made and that this database does not know of.

    An older copy of the database may be in use, or the broker ran on another wallet for a while: the node wins.
    """
    seen, hold = await asyncio.gather(node.track(escrow.payment_hash), node.lookup(escrow.payment_hash))
    if seen.status is PayoutStatus.FAILED:
        return None
    log.critical("escrow.node_knows_better", job=escrow.id, state=escrow.state, payout=seen.status)
    # What came in is the node's to say as well: the books are made from it.
    accepted = escrow.accepted_msat if hold is None else hold.accepted_msat
    return await _record(recorder, escrow, seen, accepted_msat=accepted)


async def was_settled_before(node: LightningNode, escrow: Escrow) -> bool:
    """Tell whether an earlier life of this broker, which this database does not remember, took the money."""
    hold = await node.lookup(escrow.payment_hash)
    if hold is None or hold.state is not InvoiceState.SETTLED:
        return False
    if (hold.value_msat, hold.memo) != (escrow.total_msat, escrow.memo):
        return False
    if escrow.mode is PaymentMode.CREDIT:
        return True
    # A provider chooses this hash: what somebody else was paid under it is no sale of its own.
    return (await node.track(escrow.payment_hash)).status is PayoutStatus.SUCCEEDED


async def finish(
    recorder: Recorder, node: LightningNode, escrow: Escrow, *, may_pay: bool
) -> EscrowEvent | None:
    """Learn the outcome of a payout whose intent was committed but whose outcome was not recorded.

    That is a crash, a lost answer, or another broker at work. Without `may_pay`, a call that has not reached the
    node is not made again.
    """
    recorder.watch.begin(_attempt(escrow))
    seen = await node.track(escrow.payment_hash)
    if seen.status in (PayoutStatus.IN_FLIGHT, PayoutStatus.UNKNOWN):
        recorder.watch.was_not_denied(_attempt(escrow))
        seen = await node.wait(escrow.payment_hash, FOLLOW_SECONDS)
    if seen.status is PayoutStatus.FAILED and not await _is_conclusive(recorder, escrow):
        return await _pay_again(recorder, node, escrow) if may_pay else None
    return await _record(recorder, escrow, seen)


async def _pay_again(recorder: Recorder, node: LightningNode, escrow: Escrow) -> EscrowEvent | None:
    """Make the call of an intent a second time, and last: the first may have died with its sender.

    Paying again is safe, as the node pays a hash once. But the first call may still be on its way, so this
    failure, or that of an earlier attempt, proves nothing about it; only the time that `_is_conclusive` asks
    for does. By taking the attempt over first, this call makes the sender of the first one unable to end it.
    """
    if escrow.repeated_at or escrow.state is EscrowState.EXPOSED:
        return None
    hold, summary = await asyncio.gather(node.lookup(escrow.payment_hash), node.summary())
    limit = None if hold is None else _safe_limit(escrow, hold, summary, safety=recorder.safety)
    if limit is None or limit < escrow.outgoing_cltv_blocks:
        return None
    now, begun_at = recorder.now(), recorder.watch.now()
    taken = await recorder.take_over(escrow)
    if taken is None or _is_stale(recorder, since=now, begun_at=begun_at):
        return None
    recorder.watch.begin(_attempt(taken))
    seen = await _pay(node, taken, limit=limit)
    return None if seen.status is PayoutStatus.FAILED else await _record(recorder, taken, seen)


async def _is_conclusive(recorder: Recorder, escrow: Escrow) -> bool:
    """Tell whether the node's 'failed' or 'unknown to me' can no longer be overtaken by a call of ours."""
    now, is_last_word = recorder.now(), recorder.watch.is_last_word(_attempt(escrow))
    if not may_be_over(now=now, called_at=escrow.intended_at or 0):
        return False
    if escrow.unseen_since is None:
        await recorder.mark_unseen(escrow)
        return False
    return is_last_word and is_confirmed(now=now, unseen_since=escrow.unseen_since)


def _is_stale(recorder: Recorder, *, since: float, begun_at: float) -> bool:
    return is_stale(by_clock=recorder.now() - since, by_steady=recorder.watch.now() - begun_at)


def _attempt(escrow: Escrow) -> str:
    return f"{escrow.id}/{escrow.attempts}"


async def _pay(node: LightningNode, escrow: Escrow, *, limit: int) -> Payout:
    return await node.pay(
        invoice=escrow.provider_invoice,
        payment_hash=escrow.payment_hash,
        fee_limit_msat=escrow.routing_msat,
        cltv_limit=limit,
        timeout_seconds=ATTEMPT_SECONDS,
    )


def _safe_limit(escrow: Escrow, hold: HoldInvoice, summary: NodeSummary, *, safety: Safety) -> int | None:
    """Return the blocks that a payout may be locked for, or None if that cannot be said now."""
    if (
        hold.state is not InvoiceState.ACCEPTED
        or hold.min_expiry_height is None
        or hold.accepted_msat < escrow.total_msat
    ):
        log.error("escrow.not_held", job=escrow.id, state=hold.state, accepted_msat=hold.accepted_msat)
        return None
    if not summary.synced_to_chain:
        log.warning("escrow.node_not_synced", job=escrow.id, height=summary.block_height)
        return None
    # The margin that was planned when the HTLC came in, not today's setting: a wider one would refund delivered
    # work that there is time to pay for.
    planned = (
        safety.margin_blocks
        if escrow.refund_by is None
        else hold.min_expiry_height - safety.hold_expiry_delta - escrow.refund_by
    )
    return outgoing_cltv_limit(
        min_expiry_height=hold.min_expiry_height,
        height=summary.block_height,
        hold_expiry_delta=safety.hold_expiry_delta,
        margin_blocks=max(planned, LEAST_MARGIN_BLOCKS),
        max_blocks=escrow.outgoing_cltv_blocks + SPARE_ROUTE_BLOCKS,
    )


async def _record(
    recorder: Recorder, escrow: Escrow, payout: Payout, *, accepted_msat: Msat | None = None
) -> EscrowEvent | None:
    if payout.status.is_final:
        recorder.watch.end(_attempt(escrow))
    match payout.status:
        case PayoutStatus.SUCCEEDED:
            if payout.preimage is None or payout.fee_msat is None:
                raise ValueError("a payout that succeeded has a preimage and a fee")
            if payout.fee_msat > escrow.routing_msat:
                log.critical("escrow.routing_over_budget", job=escrow.id, paid_msat=payout.fee_msat)
                recorder.stop_payouts(
                    f"{escrow.id} cost {payout.fee_msat} msat of routing, {escrow.routing_msat} msat were allowed"
                )
            return await recorder.change(
                escrow,
                EscrowEvent.PAYOUT_SUCCEEDED,
                data={"routing_paid_msat": int(payout.fee_msat)},
                preimage=payout.preimage,
                routing_paid_msat=payout.fee_msat,
                accepted_msat=accepted_msat or escrow.accepted_msat,
                failure=None,
            )
        case PayoutStatus.FAILED:
            failure = payout.failure or PayoutFailure.ERROR
            wait = min(FIRST_RETRY_SECONDS * 2 ** (escrow.attempts - 1), LAST_RETRY_SECONDS)
            log.warning("escrow.payout_failed", job=escrow.id, failure=failure, attempt=escrow.attempts)
            return await recorder.change(
                escrow,
                EscrowEvent.PAYOUT_FAILED,
                data={"failure": failure.value, "attempt": escrow.attempts},
                failure=failure.value,
                retry_at=0 if failure.is_permanent else recorder.now() + wait,
            )
        case PayoutStatus.IN_FLIGHT | PayoutStatus.UNKNOWN:
            log.warning("escrow.payout_unresolved", job=escrow.id, status=payout.status)
            await recorder.mark_unknown(escrow)
            return None
        case _:
            assert_never(payout.status)
