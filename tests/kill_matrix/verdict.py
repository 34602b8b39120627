"""Judging one run by the nodes' balances, the books and the log: who lost what, and who must look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kill_matrix.cells import Aftermath, Cell
from kill_matrix.flows import PRICE_MSAT, WITHDRAWN_MSAT, Flow
from kill_matrix.watched import Killed

from lightwork_broker.audit import Audit
from lightwork_broker.db.engine import DatabaseUnavailable
from lightwork_broker.ledger.rules import LOSSES, NODE
from lightwork_contracts.modes import PaymentMode

OVER = frozenset({"settled", "refunded", "expired"})
NEVER_LOGGED = frozenset(
    {
        "job.tick_failed",
        "job.escrow_disagrees",
        "escrow.sweep_item_failed",
        "escrow.task_failed",
        "escrow.routing_over_budget",
        "broker.background_failed",
        "request.failed",
        "withdrawal.fee_over_budget",
    }
)
"""What the broker says only of its own mistakes."""


@dataclass(frozen=True, slots=True)
class Money:
    """What the three nodes own in their channels, or how that has changed. Msat."""

    buyer: int
    provider: int
    broker: int

    def __sub__(self, other: Money) -> Money:
        return Money(self.buyer - other.buyer, self.provider - other.provider, self.broker - other.broker)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen at the end of a run. The books hold what this run has added to them."""

    moved: Money
    waiting: int
    over: bool
    jobs: Sequence[dict[str, Any]]
    withdrawals: Sequence[dict[str, Any]]
    books: Audit
    owed_msat: int
    secrets: tuple[str, ...]
    called: str | None = None
    """Why the operator had to act before it could come to its end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict. `lost_msat` is what somebody is poorer by than the outcome allows.

    `human` says why the operator must look, `excuse` why a loss is none of the broker's promises; a breach is
    what must never be.
    """

    status: str | None
    lost_msat: int
    human: str | None
    excuse: str | None
    breaches: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """No breach, nothing lost without an excuse, and nobody called without a reason."""
        return not self.breaches and (self.lost_msat == 0 or self.excuse is not None)


def judge(facts: Facts, *, flow: Flow, cell: Cell | None, logs: Sequence[Any]) -> Finding:
    """Compare what was seen with what must be."""
    breaches: list[str] = list(facts.books.breaches)
    moved, credit = facts.moved, flow.mode is PaymentMode.CREDIT
    owed = facts.owed_msat
    losses = facts.books.balances.get(LOSSES, 0)
    withdrawn = sum(int(w["amount_msat"]) for w in facts.withdrawals if w["status"] == "paid")
    fees = sum(int(w["fee_paid_msat"] or 0) for w in facts.withdrawals if w["status"] == "paid")
    status = facts.jobs[-1]["status"] if facts.jobs else None
    served = moved.provider > 0 or owed > 0
    lost = abs(moved.buyer + (flow.total_msat if served else 0))
    excuse = None
    if lost and served and moved.buyer == 0 and losses == PRICE_MSAT and _is_outage(cell):
        excuse = "outage beyond the margin"
    if sum((moved.buyer, moved.provider, moved.broker)) != 0:
        breaches.append(f"money came from nowhere: {moved}")
    if credit and served and owed + withdrawn + fees != PRICE_MSAT:
        breaches.append(f"the provider is owed {owed} msat after {withdrawn} msat were withdrawn")
    if credit and moved.provider != withdrawn:
        breaches.append(f"the provider received {moved.provider} msat and the books say {withdrawn} msat")
    if not credit and moved.provider not in (0, PRICE_MSAT):
        breaches.append(f"the provider received {moved.provider} msat")
    if facts.books.balances.get(NODE, 0) != moved.broker:
        breaches.append(
            f"the node has {moved.broker} msat, the books say {facts.books.balances.get(NODE, 0)}"
        )
    if facts.waiting:
        breaches.append(f"{facts.waiting} HTLCs are left")
    human = _human(facts)
    if not facts.over and human is None:
        breaches.append(f"it never came to its end: {status}")
    if (status == "settled") != served and human is None:
        breaches.append(f"the job is {status}, and the provider {'was' if served else 'was not'} paid")
    if flow.withdraws and status == "settled" and withdrawn != WITHDRAWN_MSAT and human is None:
        breaches.append(f"{withdrawn} msat were withdrawn")
    if _must_end_alike(cell) and status != (None if flow.ends is None else flow.ends.value):
        breaches.append(f"it ended {status}, not {flow.ends}")
    breaches += _said(logs, facts.secrets, cell)
    return Finding(status, lost, human or facts.called, excuse, tuple(breaches))


def _is_outage(cell: Cell | None) -> bool:
    return cell is not None and cell.aftermath is Aftermath.OUTAGE


def _must_end_alike(cell: Cell | None) -> bool:
    """Tell whether the kill may change nothing but the time that it takes."""
    return cell is None or (cell.aftermath is Aftermath.AT_ONCE and cell.backup is None)


def _human(facts: Facts) -> str | None:
    open_ones = [job for job in facts.jobs if job["status"] not in OVER]
    if any(job["unknown_since"] is not None for job in open_ones):
        return f"UNKNOWN: job {open_ones[0]['status']}, escrow {open_ones[0]['state']}"
    return None


def _said(logs: Sequence[Any], secrets: tuple[str, ...], cell: Cell | None) -> list[str]:
    # A server that was killed is an outage, and said to be one.
    excused = (Killed, DatabaseUnavailable) if cell is not None and cell.takes_down_server else (Killed,)
    found = [
        f"logged: {line['event']} {line.get('exc_info', '')!r}"
        for line in logs
        if line["event"] in NEVER_LOGGED and not isinstance(line.get("exc_info"), excused)
    ]
    text = repr(logs)
    return found + ["a preimage was logged" for secret in secrets if secret in text]
