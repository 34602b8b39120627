"""The life of a job, as a closed table: which event leads where, and who may cause it. Pure.

The diagram in ARCHITECTURE.md is generated from this table.
"""

from __future__ import annotations

from enum import StrEnum

from lightwork_broker.errors import WrongStatus
from lightwork_contracts.status import CAPABILITIES, JobStatus


class Actor(StrEnum):
    BUYER = "buyer"
    PROVIDER = "provider"
    BROKER = "broker"
    NODE = "node"
    CLOCK = "clock"
    OPERATOR = "operator"


class JobChange(StrEnum):
    INVOICE_MADE = "invoice_made"
    INVOICE_REFUSED = "invoice_refused"
    UNPAID = "unpaid"
    FUNDED = "funded"
    LEASED = "leased"
    LEASE_LOST = "lease_lost"
    CANCELLED = "cancelled"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    DELIVERED = "delivered"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    RULED_RELEASE = "ruled_release"
    RULED_REFUND = "ruled_refund"
    UNPAYABLE = "unpayable"
    SETTLED = "settled"
    RETURNED = "returned"
    LOST = "lost"


S = JobStatus
C = JobChange
A = Actor

EDGES: dict[tuple[JobStatus, JobChange], tuple[JobStatus, frozenset[Actor]]] = {
    (S.QUOTED, C.INVOICE_MADE): (S.OPEN, frozenset({A.BROKER})),
    (S.QUOTED, C.INVOICE_REFUSED): (S.EXPIRED, frozenset({A.NODE, A.BROKER})),
    (S.OPEN, C.UNPAID): (S.EXPIRED, frozenset({A.NODE})),
    (S.OPEN, C.FUNDED): (S.FUNDED, frozenset({A.NODE})),
    # Only with an older copy of the database: the node has long settled what it still takes for unpaid.
    (S.QUOTED, C.SETTLED): (S.SETTLED, frozenset({A.NODE})),
    (S.OPEN, C.SETTLED): (S.SETTLED, frozenset({A.NODE})),
    (S.FUNDED, C.LEASED): (S.WORKING, frozenset({A.PROVIDER})),
    (S.FUNDED, C.CANCELLED): (S.REFUNDING, frozenset({A.BUYER})),
    (S.FUNDED, C.TIMED_OUT): (S.REFUNDING, frozenset({A.CLOCK})),
    (S.FUNDED, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.WORKING, C.LEASE_LOST): (S.FUNDED, frozenset({A.CLOCK})),
    (S.WORKING, C.FAILED): (S.REFUNDING, frozenset({A.PROVIDER, A.CLOCK})),
    (S.WORKING, C.TIMED_OUT): (S.REFUNDING, frozenset({A.CLOCK})),
    (S.WORKING, C.DELIVERED): (S.DELIVERED, frozenset({A.PROVIDER})),
    (S.WORKING, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.DELIVERED, C.ACCEPTED): (S.RELEASING, frozenset({A.BUYER, A.BROKER, A.CLOCK})),
    (S.DELIVERED, C.REJECTED): (S.DISPUTED, frozenset({A.BUYER})),
    (S.DELIVERED, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.DISPUTED, C.RULED_RELEASE): (S.RELEASING, frozenset({A.OPERATOR})),
    (S.DISPUTED, C.RULED_REFUND): (S.REFUNDING, frozenset({A.OPERATOR, A.CLOCK})),
    (S.DISPUTED, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.RELEASING, C.SETTLED): (S.SETTLED, frozenset({A.NODE})),
    (S.RELEASING, C.UNPAYABLE): (S.REFUNDING, frozenset({A.BROKER})),
    (S.RELEASING, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.RELEASING, C.LOST): (S.SETTLED, frozenset({A.NODE})),
    (S.REFUNDING, C.RETURNED): (S.REFUNDED, frozenset({A.NODE})),
    (S.REFUNDING, C.SETTLED): (S.SETTLED, frozenset({A.NODE})),
    (S.REFUNDING, C.LOST): (S.SETTLED, frozenset({A.NODE})),
}


def after(status: JobStatus, change: JobChange, *, actor: Actor) -> JobStatus:
    """Return the status that follows.

    Raises:
        WrongStatus: the table has no such edge, or not for this actor.
    """
    edge = EDGES.get((status, change))
    if edge is None or actor not in edge[1]:
        raise WrongStatus(
            f"a job that is {status} cannot be {change.replace('_', ' ')} by the {actor}",
            hint=f"{status}: {CAPABILITIES[status].meaning}",
            context={"status": status.value},
        )
    return edge[0]


def may(status: JobStatus, change: JobChange) -> bool:
    """Tell whether the table has this edge for anybody."""
    return (status, change) in EDGES


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> quoted"]
    for (status, change), (target, actors) in EDGES.items():
        who = ", ".join(sorted(actors))
        lines.append(f"    {status} --> {target}: {change.replace('_', ' ')} ({who})")
    lines += [f"    {status} --> [*]" for status in S if CAPABILITIES[status].terminal]
    return "\n".join(lines)
