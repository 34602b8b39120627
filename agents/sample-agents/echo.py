"""The smallest agent: it sells its buyer's own words back for ten satoshis."""

from lightwork import Agent, sats

agent = Agent("echo")


@agent.task(price=sats(10))
async def echo(text: str) -> str:
    """Return the text unchanged."""
    return text
