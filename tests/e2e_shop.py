"""The agent whose tasks the tests hire, well-behaved and not. `lightwork run` loads it, too."""

from __future__ import annotations

import asyncio
from typing import Literal

from lightwork import Acceptance, Agent, Msat, TaskFailed, TaskRefused, sats

agent = Agent("shop", description="What a market sells.")

FRACTION = Msat(10_123)


class Gate(asyncio.Event):
    """What a `gated` job waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        """A job waits here, so its provider knows that it has the lease."""

    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


_gates: dict[str, Gate] = {}


def gate(name: str) -> Gate:
    """Return the event that a `gated` job with this text waits for."""
    return _gates.setdefault(name, Gate())


def close_gates() -> None:
    """Forget every gate: one that another test has opened is closed for the next."""
    _gates.clear()


@agent.task(price=sats(10))
async def echo(text: str) -> str:
    """Return the text unchanged."""
    return text


@agent.task(price=FRACTION)
async def fraction(text: str) -> str:
    """Return the text unchanged, for a price that is no whole number of satoshis."""
    return text


def _by_the_letter(text: str) -> Msat:
    return Msat(1_001 * len(text))


@agent.task(price=_by_the_letter)
async def by_length(text: str) -> int:
    """Return how long the text is; the longer, the dearer."""
    return len(text)


@agent.task(price=sats(10))
async def failing(text: str) -> str:
    """Fail, and say why."""
    raise TaskFailed(f"cannot work on {text}")


@agent.task(price=sats(10))
async def raising(text: str) -> str:
    """Raise something that the author did not foresee."""
    raise RuntimeError(f"a secret of the provider: {text}")


@agent.task(price=sats(10))
async def refusing(text: str) -> str:
    """Refuse every input."""
    raise TaskRefused(f"will not work on {text}")


@agent.task(price=sats(10))
async def lying(text: str) -> int:
    """Promise a number and return a text."""
    return text  # pyright: ignore[reportReturnType]  (the lie is the point)


@agent.task(price=sats(10), work_seconds=2)
async def stuck(text: str) -> str:
    """Never come to an end."""
    await asyncio.Event().wait()
    return text


@agent.task(price=sats(10))
async def gated(text: str) -> str:
    """Return the text once the test opens the gate of that name."""
    await gate(text).wait()
    return text


@agent.task(price=sats(20), acceptance=Acceptance.REVIEW, review_seconds=120)
async def reviewed(text: str) -> str:
    """Return the text, for the buyer to look at."""
    return text


@agent.task(price=sats(20), acceptance=Acceptance.REVIEW, review_seconds=1)
async def hasty(text: str) -> str:
    """Return the text, with one second to look at it."""
    return text
