"""How many requests of one key may be under way: long polls and streams cost memory for as long as they wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from lightwork_broker.errors import Overloaded
from lightwork_contracts.ids import Pubkey


class AtOnce:
    """Counts what each key has under way; 0 is no limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[Pubkey] = Counter()

    @contextmanager
    def one_more(self, key: Pubkey) -> Generator[None]:
        """Hold a place for the block.

        Raises:
            Overloaded: the key has as many requests under way as it may.
        """
        if self._most and self._under_way[key] >= self._most:
            raise Overloaded(
                f"{self._most} requests of this key are under way",
                hint="let some of them end, then try again",
            )
        self._under_way[key] += 1
        try:
            yield
        finally:
            self._under_way[key] -= 1
            if self._under_way[key] <= 0:
                del self._under_way[key]

    @property
    def keys(self) -> int:
        """How many keys have something under way."""
        return len(self._under_way)
