"""An agent of the demo only: it takes the job, works for a moment, and fails. So a refund can be seen."""

import asyncio

from lightwork import Agent, TaskFailed, sats

agent = Agent("stumble")

WORKS_SECONDS = 1.5
"""Long enough to look at the HTLC that waits in the buyer's channel meanwhile."""


@agent.task(price=sats(10))
async def stumble() -> str:
    """Work for a moment, then fail: its buyer is refunded."""
    await asyncio.sleep(WORKS_SECONDS)
    raise TaskFailed("stumble always fails, so that you can see a refund")
