"""When the node's word that a payment failed, or that it knows of none, is the last word on it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection

GRACE_SECONDS = 30
"""How long a call that was on its way when its sender died may still reach the node."""
SECOND_LOOK_SECONDS = 10
"""How long after the node first said that a payment did not happen it must say so again."""
STALE_SECONDS = 10
"""An intent older than this is not acted on by the one that made it: somebody may have taken it over.

Nobody gives an intent of another broker up before having known of it for `GRACE_SECONDS`, by a clock of its own that
nobody can set. So what is left for the call itself to arrive is the difference of the two, however far apart the
brokers' own clocks are.
"""


def may_be_over(*, now: float, called_at: float) -> bool:
    """Tell whether no call that was made at `called_at` can still reach the node."""
    return now - called_at >= GRACE_SECONDS


def is_confirmed(*, now: float, unseen_since: float) -> bool:
    """Tell whether the node has had time to say twice that the payment did not happen.

    A node that was stopped and goes on may answer a look-up before it reads the payment that waits in its socket.
    """
    return now - unseen_since >= SECOND_LOOK_SECONDS


def is_stale(*, by_clock: float, by_steady: float) -> bool:
    """Tell whether an intent is too old to act on, so many seconds after it, by each of two clocks.

    One that is put back, or stands still while its machine sleeps, hides a delay: the longer time counts.
    """
    return max(by_clock, by_steady) > STALE_SECONDS


class Watch:
    """For how long this process has known of calls, by a clock that nobody can set (`steady`, seconds).

    The broker's own clock may jump: then a call of just now looks as if it were an hour old, while it is still on
    its way. So a failure is the last word only when this process has waited for it as well.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._known: dict[str, float] = {}
        self._unseen: dict[str, float] = {}

    def __len__(self) -> int:
        """How many calls are remembered."""
        return len(self._known.keys() | self._unseen.keys())

    def now(self) -> float:
        """Return seconds since some moment."""
        return self._steady()

    def begin(self, name: str) -> None:
        """Take note of a call that is made now, or that this process comes to know of."""
        self._known.setdefault(name, self._steady())

    def is_over(self, name: str) -> bool:
        """Tell whether no such call can still reach the node, as far as this process has seen."""
        self.begin(name)
        return may_be_over(now=self._steady(), called_at=self._known[name])

    def is_last_word(self, name: str) -> bool:
        """Take note that the node denies the payment; tell whether it has had time to say otherwise."""
        now = self._steady()
        unseen = self._unseen.setdefault(name, now)
        return self.is_over(name) and is_confirmed(now=now, unseen_since=unseen)

    def was_not_denied(self, name: str) -> None:
        """Take note that the node said something else, or nothing: it may have stood still, with the call unread.

        What it says next may be said before it reads that call, so denials count anew from there.
        """
        self._unseen.pop(name, None)

    def was_silent(self) -> None:
        """Take note that the node gave no answer, as `was_not_denied` of all calls."""
        self._unseen.clear()

    def end(self, name: str) -> None:
        """Forget a call whose outcome is known."""
        self._known.pop(name, None)
        self._unseen.pop(name, None)

    def keep(self, owners: Collection[str]) -> None:
        """Forget the calls of all others: they have ended, maybe at another broker.

        A call is named after its owner, or `owner/which one`. One that is forgotten too early is waited for anew.
        """
        for known in (self._known, self._unseen):
            for name in [name for name in known if name.partition("/")[0] not in owners]:
                del known[name]
