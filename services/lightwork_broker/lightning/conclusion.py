"""When the node's word that a payment failed, or that it knows of none, is the last word on it. Pure."""

from __future__ import annotations

GRACE_SECONDS = 30
"""How long a call that was on its way when its sender died may still reach the node."""
SECOND_LOOK_SECONDS = 10
"""How long after the node first said that a payment did not happen it must say so again."""
STALE_SECONDS = 10
"""An intent older than this is not acted on by the one that made it: somebody may have taken it over."""


def may_be_over(*, now: float, called_at: float) -> bool:
    """Tell whether no call that was made at `called_at` can still reach the node."""
    return now - called_at >= GRACE_SECONDS


def is_confirmed(*, now: float, unseen_since: float) -> bool:
    """Tell whether the node has had time to say twice that the payment did not happen.

    A node that was stopped and goes on may answer a look-up before it reads the payment that waits in its socket.
    """
    return now - unseen_since >= SECOND_LOOK_SECONDS
