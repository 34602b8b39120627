"""Wake-ups of those who wait. They only save waiting: what is true is read from the database."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager


class Listener:
    """One waiter on some topics. A signal given between two waits is not lost."""

    def __init__(self, signals: Signals) -> None:
        self._event = asyncio.Event()
        self._signals = signals

    @property
    def closing(self) -> bool:
        """Whether the broker is going down: whoever waits for a client should answer now."""
        return self._signals.closing

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Return True as soon as a topic was signalled since the last wait, False after `seconds`."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Signals:
    """Topics by name, such as `job:<id>` or `work:<agent>`. `tell` passes them on to brokers elsewhere."""

    def __init__(self, *, tell: Callable[[str], None] | None = None) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._tell = tell
        self.closing = False

    def notify(self, topic: str) -> None:
        """Wake those who wait for a topic, here and at the brokers beside this one."""
        self.hear(topic)
        if self._tell is not None:
            self._tell(topic)

    def hear(self, topic: str) -> None:
        """Wake those who wait for a topic here."""
        for listener in self._listeners.get(topic, ()):
            listener.wake()

    def close(self) -> None:
        """Wake every waiter for good: the broker is going down."""
        self.closing = True
        self.stir()

    def stir(self) -> None:
        """Wake every waiter once, to look at the time again."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake()

    @contextmanager
    def listen(self, *topics: str) -> Generator[Listener]:
        listener = Listener(self)
        for topic in topics:
            self._listeners[topic].add(listener)
        try:
            yield listener
        finally:
            for topic in topics:
                self._listeners[topic].discard(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]
