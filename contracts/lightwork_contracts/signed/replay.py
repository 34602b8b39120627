"""Each signed request counts once."""

from __future__ import annotations

from lightwork_contracts.errors import AuthCode, AuthError
from lightwork_contracts.signed.http_auth import WINDOW_SECONDS

CAPACITY = 100_000


class ReplayGuard:
    """The ids of the events seen within the window, in memory and bounded.

    What was created before `started_at` (Unix seconds) is refused: a guard of an earlier process may have
    seen it. What was created in that second, or by a clock that runs ahead, such a guard may have seen as well:
    whoever starts again must remember those by other means.
    """

    def __init__(
        self, *, started_at: int, window_seconds: int = WINDOW_SECONDS, capacity: int = CAPACITY
    ) -> None:
        self._started_at = started_at
        self._window = window_seconds
        self._capacity = capacity
        self._latest = started_at
        self._seen: dict[int, set[bytes]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many events are remembered."""
        return self._count

    def claim(self, event_id: str, *, created_at: int, now: int) -> None:
        """Take an event whose signature was checked, once. Times in Unix seconds.

        Raises:
            AuthError: `auth_replayed` if it was taken before, `auth_stale` if it is outside the window or
                older than the guard, `auth_guard_full` if too many requests came within the window.
        """
        # The clock may be set back: what was forgotten by the later time must not count as new.
        self._latest = max(self._latest, now)
        if created_at < self._started_at:
            raise AuthError(AuthCode.STALE, "signed before the broker started: sign the request again")
        if created_at < self._latest - self._window or created_at > now + self._window:
            raise AuthError(AuthCode.STALE, f"signed more than {self._window} s from now: check the clock")
        self._forget()
        number = bytes.fromhex(event_id)
        same_second = self._seen.get(created_at)
        if same_second is not None and number in same_second:
            raise AuthError(AuthCode.REPLAYED, "this signed request was used before: sign a new one")
        if self._count >= self._capacity:
            raise AuthError(AuthCode.GUARD_FULL, f"more than {self._capacity} requests within the window")
        self._seen.setdefault(created_at, set()).add(number)
        self._count += 1

    def _forget(self) -> None:
        """Drop the seconds that the window has left; there are never more of them than twice the window."""
        oldest = self._latest - self._window
        for second in [second for second in self._seen if second < oldest]:
            self._count -= len(self._seen.pop(second))
