"""A buyer and a provider by hand, for offers that come to nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from e2e_client import refused
from e2e_provider import HandBuyer, HandProvider
from e2e_world import World
from pydantic import JsonValue

from lightwork_contracts.wire.market import QuoteWork
from lightwork_contracts.wire.problems import ProblemCode as P


@dataclass(frozen=True, slots=True)
class Pair:
    """A buyer and a provider between whom no money may move."""

    world: World
    buyer: HandBuyer
    provider: HandProvider

    async def asked(self) -> tuple[asyncio.Task[JsonValue], QuoteWork]:
        """Let the buyer ask, and return the provider's side of it; the task ends as the buyer's refusal."""

        async def ask() -> JsonValue:
            answer = await self.buyer.ask(self.provider.listing)
            problem = refused(answer, P.PROVIDER_REFUSED, status=409)
            return problem.context["cause"]

        asking = asyncio.create_task(ask())
        return asking, await self.provider.next_quote()
