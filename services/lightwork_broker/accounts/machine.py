"""The life of one withdrawal, as a closed table. Pure."""

from __future__ import annotations

from enum import StrEnum

from lightwork_broker.errors import IllegalTransition
from lightwork_contracts.wire.accounts import WithdrawalStatus


class WithdrawalEvent(StrEnum):
    """What the node said, for good."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


S = WithdrawalStatus
E = WithdrawalEvent

TRANSITIONS: dict[tuple[WithdrawalStatus, WithdrawalEvent], WithdrawalStatus] = {
    (S.PAYING, E.SUCCEEDED): S.PAID,
    (S.PAYING, E.FAILED): S.FAILED,
}


def after(status: WithdrawalStatus, event: WithdrawalEvent) -> WithdrawalStatus:
    """Return the status that follows.

    Raises:
        IllegalTransition: the table has no such edge.
    """
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise IllegalTransition(f"a withdrawal that is {status} cannot take the event {event}") from None
