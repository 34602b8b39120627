"""A gate that every outgoing payment passes: closed when the books and the node disagree."""

from __future__ import annotations

import structlog

from lightwork_broker.errors import PayoutsStopped

log = structlog.stdlib.get_logger()


class PayoutGate:
    """Open until somebody closes it; then no payout is begun until a look at the books finds them sound again.

    What was stopped for good stays so for as long as the broker runs: a person looks before it is started again.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._for_good = False

    @property
    def is_closed(self) -> bool:
        return self.reason is not None

    def require_open(self) -> None:
        """Promise nothing that could not be paid for: a buyer's money would wait in vain.

        Raises:
            PayoutsStopped: the gate is closed. Why is for the operator, in log and health.
        """
        if self.is_closed:
            raise PayoutsStopped(
                "this broker takes on no job until its operator has looked at its books",
                hint="jobs under way are not lost; try another broker, or this one later",
            )

    def close(self, reason: str) -> None:
        """Begin no payout any more. What is under way goes on: only the node can end it."""
        if self.reason is None:
            log.critical("payouts.stopped", reason=reason)
        if not self._for_good:
            self.reason = reason

    def stop(self, reason: str) -> None:
        """Begin no payout any more while this broker runs: the node has done what it was not allowed to do."""
        self.close(reason)
        self.reason, self._for_good = reason, True

    def open(self) -> None:
        if self._for_good:
            return
        if self.reason is not None:
            log.warning("payouts.resumed")
        self.reason = None
