"""A cap on what one market may spend, so that a loop that hires cannot empty a wallet."""

from __future__ import annotations

from lightwork.errors import BudgetExceeded
from lightwork_contracts.money import Msat, format_msat


class Budget:
    """At most `limit` msat, routing fees included. What a refund gives back may be spent again."""

    def __init__(self, limit: Msat) -> None:
        self.limit = limit
        self._taken = 0

    @property
    def left(self) -> Msat:
        """What may still be committed, in msat."""
        return Msat(self.limit - self._taken)

    def take(self, amount: Msat) -> None:
        """Commit `amount` before it is paid.

        Raises:
            BudgetExceeded: it is more than what is left; nothing is committed.
        """
        if amount > self.left:
            raise BudgetExceeded(
                f"{format_msat(amount)} is more than the {format_msat(self.left)} left of the budget",
                hint="raise the budget, or wait for running jobs to end",
            )
        self._taken += amount

    def give_back(self, amount: Msat) -> None:
        """Free what was committed and certainly not spent."""
        self._taken = max(0, self._taken - amount)
