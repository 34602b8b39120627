"""Who sells in a cell on real nodes: the SDK's runner, and one by hand that leaves its jobs alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx2
from e2e_provider import HandProvider, advert
from e2e_world import World
from kill_matrix.flows import CancelWhen, Flow, Verdict, Work
from kill_matrix.parties import PROVIDER_KEY

from lightwork import Acceptance, Agent, Msat, TaskFailed, TaskRefused, sats
from lightwork.broker import Broker
from lightwork.connection import Backoff, BrokerConnection
from lightwork.errors import WalletUnreachable
from lightwork.runner import Runner
from lightwork_contracts.ids import QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.market import QuoteWork
from lightwork_regtest.nodes.lnd import LightningNode

CREDIT_KEY = SecretKey.from_hex("66" * 32)
LOOK_SECONDS = 0.2
STUCK_SECONDS = 6.0
"""How long the provider's node stands still. LND drops a peer that is silent for a minute and a half."""
LEFT_ALONE = "left-alone"

agent = Agent("matrix")


@agent.task(price=sats(10))
async def deliver(text: str) -> str:
    """Return the text unchanged."""
    return text


@agent.task(price=sats(10))
async def fail(text: str) -> str:
    """Fail."""
    raise TaskFailed(text)


@agent.task(price=sats(10), work_seconds=6)
async def dawdle(text: str) -> str:
    """Never come to an end."""
    await asyncio.Event().wait()
    return text


def _not_wanted(text: str) -> Msat:
    raise TaskRefused(text)


@agent.task(price=_not_wanted)
async def refuse(text: str) -> str:
    """Refuse every input before there is a price."""
    return text


@agent.task(price=sats(10), acceptance=Acceptance.REVIEW, review_seconds=300)
async def reviewed(text: str) -> str:
    """Return the text, for the buyer to look at."""
    return text


@agent.task(price=sats(10), acceptance=Acceptance.REVIEW, review_seconds=3)
async def hasty(text: str) -> str:
    """Return the text, with little time to look at it."""
    return text


credit_agent = Agent("on-credit")


@credit_agent.task(price=sats(10))
async def deliver_on_credit(text: str) -> str:
    """Return the text unchanged."""
    return text


@credit_agent.task(price=sats(10))
async def fail_on_credit(text: str) -> str:
    """Fail."""
    raise TaskFailed(text)


def task_of(flow: Flow) -> str:
    """Return the task that goes as the flow does."""
    if flow.mode is PaymentMode.CREDIT:
        return "fail-on-credit" if flow.work is Work.FAIL else "deliver-on-credit"
    if flow.refuses:
        return "refuse"
    if flow.stuck:
        return "get-stuck"
    if flow.cancel is CancelWhen.FUNDED:
        return LEFT_ALONE
    if flow.verdict is not None:
        return "hasty" if flow.verdict is Verdict.SILENT else "reviewed"
    return flow.work.value


class Standstill:
    """A node's process that is stopped for a while (SIGSTOP). Made by `standstill`."""

    def __init__(self, node: LightningNode) -> None:
        self._node = node
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Stop the process now, and let it go on `STUCK_SECONDS` later."""
        self._signal(signal.SIGSTOP)
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(STUCK_SECONDS, self.end)

    def end(self) -> None:
        """Let it go on."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        process = self._node.process()
        if process is not None:
            os.kill(process.pid, number)


def _agent_that_gets_stuck(standstill: Standstill) -> Agent:
    made = Agent("stuck")

    @made.task(price=sats(10))
    async def get_stuck(text: str) -> str:
        """Return the text, and let nothing reach the node that is to be paid."""
        standstill.begin()
        return text

    return made


@asynccontextmanager
async def selling(world: World) -> AsyncGenerator[None]:
    """Sell all tasks, with the provider node's wallet and on credit."""
    broker = Broker(BrokerConnection(world.broker.url, key=CREDIT_KEY, backoff=Backoff(most=0.5)))
    on_credit = Runner([credit_agent], broker=broker, key=CREDIT_KEY, wallet=None, finish_seconds=1)
    standstill = Standstill(world.network.node("provider"))
    agents = [agent, _agent_that_gets_stuck(standstill)]
    by_hand = HandProvider(world)
    await by_hand.offer(advert(LEFT_ALONE))
    async with world.runner(agents, key=PROVIDER_KEY):
        running = asyncio.create_task(on_credit.run())
        idling = asyncio.create_task(_answer_quotes(by_hand))
        try:
            await asyncio.wait_for(on_credit.ready.wait(), 20)
            yield
        finally:
            standstill.end()
            idling.cancel()
            on_credit.stop()
            on_credit.stop()
            await asyncio.wait({running, idling}, timeout=20)
            await broker.close()


async def _answer_quotes(provider: HandProvider) -> None:
    """Answer every quote and take no job, until cancelled."""
    promised: dict[QuoteId, SignedEvent] = {}
    while True:
        # The broker or its node may be away; a quote that nobody answers is asked for again.
        with suppress(AssertionError, httpx2.TransportError, WalletUnreachable):
            for work in await provider.ask(max_jobs=0):
                if not isinstance(work, QuoteWork):
                    continue
                if work.quote_id not in promised:
                    promised[work.quote_id] = provider.commit(work, await provider.invoice(work))
                await provider.send(work, promised[work.quote_id])
            continue
        await asyncio.sleep(LOOK_SECONDS)
