"""The two tables of the broker's machines, written out a second time, by hand, from the design.

Nothing here is read from the code under test: a changed edge must fail a test.
"""

from __future__ import annotations

ESCROW_EDGES: dict[tuple[str, str], str] = {
    ("created", "hold_added"): "open",
    ("created", "hold_refused"): "canceled",
    ("created", "cancel_asked"): "canceling",
    ("open", "htlc_accepted"): "accepted",
    ("open", "cancel_asked"): "canceling",
    ("open", "node_canceled"): "canceled",
    ("accepted", "release_asked"): "releasing",
    ("accepted", "cancel_asked"): "canceling",
    ("accepted", "node_canceled"): "returned",
    ("releasing", "payout_intended"): "forwarding",
    ("releasing", "cancel_asked"): "canceling",
    ("releasing", "node_canceled"): "returned",
    ("forwarding", "payout_succeeded"): "forwarded",
    ("forwarding", "payout_failed"): "releasing",
    ("forwarding", "node_canceled"): "exposed",
    ("forwarded", "settle_confirmed"): "settled",
    ("forwarded", "node_canceled"): "lost",
    ("exposed", "payout_succeeded"): "lost",
    ("exposed", "payout_failed"): "returned",
    ("canceling", "cancel_confirmed"): "canceled",
    ("releasing", "payout_succeeded"): "forwarded",
    ("canceling", "payout_succeeded"): "forwarded",
}
ESCROW_ENDS = {"settled", "canceled", "returned", "lost"}

CREDIT_EDGES: dict[tuple[str, str], str] = {
    ("created", "hold_added"): "open",
    ("created", "hold_refused"): "canceled",
    ("created", "cancel_asked"): "canceling",
    ("open", "htlc_accepted"): "accepted",
    ("open", "cancel_asked"): "canceling",
    ("open", "node_canceled"): "canceled",
    ("accepted", "release_asked"): "settling",
    ("accepted", "cancel_asked"): "canceling",
    ("accepted", "node_canceled"): "returned",
    ("settling", "settle_confirmed"): "settled",
    ("settling", "node_canceled"): "returned",
    ("canceling", "cancel_confirmed"): "canceled",
    ("canceling", "settle_confirmed"): "settled",
}
CREDIT_ENDS = {"settled", "canceled", "returned"}

EDGES_OF_MODE = {"escrow": ESCROW_EDGES, "credit": CREDIT_EDGES}
ENDS_OF_MODE = {"escrow": ESCROW_ENDS, "credit": CREDIT_ENDS}

JOB_EDGES: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("quoted", "invoice_made"): ("open", {"broker"}),
    ("quoted", "invoice_refused"): ("expired", {"node", "broker"}),
    ("open", "unpaid"): ("expired", {"node"}),
    ("open", "funded"): ("funded", {"node"}),
    ("quoted", "settled"): ("settled", {"node"}),
    ("open", "settled"): ("settled", {"node"}),
    ("funded", "leased"): ("working", {"provider"}),
    ("funded", "cancelled"): ("refunding", {"buyer"}),
    ("funded", "timed_out"): ("refunding", {"clock"}),
    ("funded", "returned"): ("refunded", {"node"}),
    ("working", "lease_lost"): ("funded", {"clock"}),
    ("working", "failed"): ("refunding", {"provider", "clock"}),
    ("working", "timed_out"): ("refunding", {"clock"}),
    ("working", "delivered"): ("delivered", {"provider"}),
    ("working", "returned"): ("refunded", {"node"}),
    ("delivered", "accepted"): ("releasing", {"buyer", "broker", "clock"}),
    ("delivered", "rejected"): ("disputed", {"buyer"}),
    ("delivered", "returned"): ("refunded", {"node"}),
    ("disputed", "ruled_release"): ("releasing", {"operator"}),
    ("disputed", "ruled_refund"): ("refunding", {"operator", "clock"}),
    ("disputed", "returned"): ("refunded", {"node"}),
    ("releasing", "settled"): ("settled", {"node"}),
    ("releasing", "unpayable"): ("refunding", {"broker"}),
    ("releasing", "returned"): ("refunded", {"node"}),
    ("releasing", "lost"): ("settled", {"node"}),
    ("refunding", "returned"): ("refunded", {"node"}),
    ("refunding", "settled"): ("settled", {"node"}),
    ("refunding", "lost"): ("settled", {"node"}),
}
JOB_ENDS = {"settled", "expired", "refunded"}

STATUSES_OF_ESCROW: dict[str, set[str]] = {
    "created": {"quoted"},
    "open": {"open"},
    "accepted": {"funded", "working", "delivered", "disputed"},
    "releasing": {"releasing"},
    "forwarding": {"releasing"},
    "exposed": {"releasing"},
    "forwarded": {"releasing"},
    "settling": {"releasing"},
    "settled": {"settled"},
    "lost": {"settled"},
    "canceling": {"quoted", "open", "refunding"},
    "canceled": {"expired", "refunded"},
    "returned": {"refunded"},
}
"""Which statuses a job can have while its escrow is in a state: both change in one commit."""
