"""The life of one hold invoice, as a closed table for each mode. Pure: no I/O, no clock, no random, no await.

In escrow mode the invoice is wrapped around the provider's own hash: what is released is paid out first, and
then settled with the preimage that the payout brought. In credit mode the hash is the broker's: what is released
is settled, and owed to the provider from then on.

The names OPEN, ACCEPTED, SETTLED and CANCELED are LND's (invoicesrpc). Each state has at most one duty: the
next thing that must be done with the node. The live path and the recovery after a crash do the same thing:
they look at the state and perform its duty.
"""

from __future__ import annotations

from enum import StrEnum

from lightwork_broker.errors import IllegalTransition
from lightwork_contracts.modes import PaymentMode


class EscrowState(StrEnum):
    CREATED = "created"
    """The intent and the payment hash are committed; the hold invoice may or may not exist yet."""
    OPEN = "open"
    """The hold invoice exists; nothing was paid yet."""
    ACCEPTED = "accepted"
    """The buyer's HTLCs are held for the full amount."""
    RELEASING = "releasing"
    """Release is decided; the payout is not dispatched, or failed for good and may be tried again."""
    FORWARDING = "forwarding"
    """The intent to pay the provider is committed; the payout is not known to have ended."""
    FORWARDED = "forwarded"
    """The provider was paid: the preimage is known, and the buyer's HTLC can be settled."""
    SETTLING = "settling"
    """Credit: release is recorded; the buyer's HTLC is to be settled, and the provider credited."""
    SETTLED = "settled"
    CANCELING = "canceling"
    """Cancel is decided; the node has not confirmed it yet."""
    CANCELED = "canceled"
    RETURNED = "returned"
    """The node gave the HTLC back without being asked (its own deadline, or an operator)."""
    EXPOSED = "exposed"
    """The buyer's HTLC is gone while the payout's outcome is still open: an alarm."""
    LOST = "lost"
    """The provider was paid and the buyer's HTLC could not be settled: the broker bears it."""


class EscrowEvent(StrEnum):
    HOLD_ADDED = "hold_added"
    HOLD_REFUSED = "hold_refused"
    HTLC_ACCEPTED = "htlc_accepted"
    RELEASE_ASKED = "release_asked"
    PAYOUT_INTENDED = "payout_intended"
    PAYOUT_SUCCEEDED = "payout_succeeded"
    PAYOUT_FAILED = "payout_failed"
    SETTLE_CONFIRMED = "settle_confirmed"
    CANCEL_ASKED = "cancel_asked"
    CANCEL_CONFIRMED = "cancel_confirmed"
    NODE_CANCELED = "node_canceled"


class Duty(StrEnum):
    """What a state asks to be done with the node."""

    ADD_HOLD = "add_hold"
    WATCH = "watch"
    DISPATCH = "dispatch"
    FINISH_PAYOUT = "finish_payout"
    SETTLE = "settle"
    CANCEL = "cancel"


S = EscrowState
E = EscrowEvent

Table = dict[tuple[EscrowState, EscrowEvent], EscrowState]

ESCROW: Table = {
    (S.CREATED, E.HOLD_ADDED): S.OPEN,
    (S.CREATED, E.HOLD_REFUSED): S.CANCELED,
    (S.CREATED, E.CANCEL_ASKED): S.CANCELING,
    (S.OPEN, E.HTLC_ACCEPTED): S.ACCEPTED,
    (S.OPEN, E.CANCEL_ASKED): S.CANCELING,
    (S.OPEN, E.NODE_CANCELED): S.CANCELED,
    (S.ACCEPTED, E.RELEASE_ASKED): S.RELEASING,
    (S.ACCEPTED, E.CANCEL_ASKED): S.CANCELING,
    (S.ACCEPTED, E.NODE_CANCELED): S.RETURNED,
    (S.RELEASING, E.PAYOUT_INTENDED): S.FORWARDING,
    (S.RELEASING, E.CANCEL_ASKED): S.CANCELING,
    (S.RELEASING, E.NODE_CANCELED): S.RETURNED,
    # The node knows better than an older copy of this table: it has paid, so the escrow can only be settled.
    (S.RELEASING, E.PAYOUT_SUCCEEDED): S.FORWARDED,
    (S.CANCELING, E.PAYOUT_SUCCEEDED): S.FORWARDED,
    (S.FORWARDING, E.PAYOUT_SUCCEEDED): S.FORWARDED,
    (S.FORWARDING, E.PAYOUT_FAILED): S.RELEASING,
    (S.FORWARDING, E.NODE_CANCELED): S.EXPOSED,
    (S.FORWARDED, E.SETTLE_CONFIRMED): S.SETTLED,
    (S.FORWARDED, E.NODE_CANCELED): S.LOST,
    (S.EXPOSED, E.PAYOUT_SUCCEEDED): S.LOST,
    (S.EXPOSED, E.PAYOUT_FAILED): S.RETURNED,
    (S.CANCELING, E.CANCEL_CONFIRMED): S.CANCELED,
}

CREDIT: Table = {
    (S.CREATED, E.HOLD_ADDED): S.OPEN,
    (S.CREATED, E.HOLD_REFUSED): S.CANCELED,
    (S.CREATED, E.CANCEL_ASKED): S.CANCELING,
    (S.OPEN, E.HTLC_ACCEPTED): S.ACCEPTED,
    (S.OPEN, E.CANCEL_ASKED): S.CANCELING,
    (S.OPEN, E.NODE_CANCELED): S.CANCELED,
    (S.ACCEPTED, E.RELEASE_ASKED): S.SETTLING,
    (S.ACCEPTED, E.CANCEL_ASKED): S.CANCELING,
    (S.ACCEPTED, E.NODE_CANCELED): S.RETURNED,
    (S.SETTLING, E.SETTLE_CONFIRMED): S.SETTLED,
    (S.SETTLING, E.NODE_CANCELED): S.RETURNED,
    (S.CANCELING, E.CANCEL_CONFIRMED): S.CANCELED,
    # The node knows better than an older copy of this table: it was settled, so release was recorded.
    (S.CANCELING, E.SETTLE_CONFIRMED): S.SETTLED,
}

TRANSITIONS: dict[PaymentMode, Table] = {PaymentMode.ESCROW: ESCROW, PaymentMode.CREDIT: CREDIT}

TERMINAL = frozenset({S.SETTLED, S.CANCELED, S.RETURNED, S.LOST})

DUTIES: dict[EscrowState, Duty] = {
    S.CREATED: Duty.ADD_HOLD,
    S.OPEN: Duty.WATCH,
    S.ACCEPTED: Duty.WATCH,
    S.RELEASING: Duty.DISPATCH,
    S.FORWARDING: Duty.FINISH_PAYOUT,
    S.EXPOSED: Duty.FINISH_PAYOUT,
    S.FORWARDED: Duty.SETTLE,
    S.SETTLING: Duty.SETTLE,
    S.CANCELING: Duty.CANCEL,
}


def after(state: EscrowState, event: EscrowEvent, *, mode: PaymentMode) -> EscrowState:
    """Return the state that follows.

    Raises:
        IllegalTransition: the table of this mode has no such edge.
    """
    try:
        return TRANSITIONS[mode][state, event]
    except KeyError:
        raise IllegalTransition(f"an escrow ({mode}) that is {state} cannot take the event {event}") from None


def may(state: EscrowState, event: EscrowEvent, *, mode: PaymentMode) -> bool:
    """Tell whether the table of this mode has this edge."""
    return (state, event) in TRANSITIONS[mode]
