"""What the broker says in its log and its answers: nothing of its own mistakes, and no secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kill_matrix.verdict import NEVER_LOGGED
from kill_matrix.watched import Killed
from market_machine.checks import Checks
from market_machine.world import BROKER_KEY, World

from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.lightning.errors import PermissionMissing
from lightwork_broker.lightning.ports import InvoiceState

EXPECTED_CRITICAL = frozenset(
    {
        "escrow.close_to_expiry",
        "escrow.returned_before_settlement",
        "escrow.unknown_for_long",
        "node.behind",
        "withdrawal.permission_missing",
        "withdrawal.unknown_for_long",
    }
)
"""Alarms about what was done to the broker, not by it."""
REFUSED = "refuses the macaroon"
"""A permission that was taken away is the operator's to give back."""
NEVER = NEVER_LOGGED | {"webhook.task_failed"}
AFTER_RESTORING = frozenset(
    {
        "escrow.node_knows_better",
        "escrow.settled_while_canceling",
        "orphan.cancelled",
        "orphan.settled",
        "withdrawals.stopped",
    }
)


class Sayings:
    """Reads log and answers after each operation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._preimages = CreditPreimages(BROKER_KEY)
        self.said: set[str] = set()

    def read(self, logs: Sequence[Any], checks: Checks) -> None:
        """Take what was logged and answered since the last time."""
        for line in logs:
            event, level = line["event"], line["log_level"]
            self.said.add(event)
            cause = line.get("exc_info")
            if isinstance(cause, Killed | PermissionMissing) or REFUSED in str(line.get("detail")):
                continue
            if event in NEVER or (level == "critical" and not self._is_expected(event, checks)):
                checks.breach(f"logged: {event} {cause!r} {line.get('reason', line.get('detail', ''))}")
        told, self._world.desk.told = self._world.desk.told, []
        sent, self._world.office.told = self._world.office.told, []
        logged = repr(logs)
        if any(box.secret and box.secret in logged for box in self._world.office.boxes):
            checks.breach("I20 the secret of a webhook was logged")
        text = "\n".join([*told, *sent, logged])
        for secret in self._secrets(checks):
            if secret in text:
                checks.breach("I20 a preimage was told before its payment")

    def _is_expected(self, event: str, checks: Checks) -> bool:
        if event in AFTER_RESTORING:
            return self._world.house.restored > 0
        if event == "escrow.lost":
            return bool(checks.excused)
        return event in EXPECTED_CRITICAL

    def _secrets(self, checks: Checks) -> list[str]:
        """Return every preimage that nobody but its maker may know yet."""
        hidden = [
            invoice.preimage.hex()
            for seller in self._world.sellers
            for payment_hash, invoice in self._world.state(seller.name).invoices.items()
            if invoice.preimage is not None and not checks.succeeded(payment_hash)
        ]
        for row in self._world.books.rows("SELECT * FROM escrow WHERE credited_to IS NOT NULL"):
            hold = checks.hold(row["payment_hash"])
            if hold is None or hold.state is not InvoiceState.SETTLED:
                hidden.append(self._preimages.preimage_for(row["credit_seed"]).hex())
        return hidden
