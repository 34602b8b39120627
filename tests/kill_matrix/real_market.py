"""The market of a cell on real nodes: the SDK's runner sells, and a buyer by hand hires, whatever dies."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import httpx2
from e2e_client import SignedClient
from e2e_world import World
from kill_matrix.flows import FLOWS, CancelWhen, Flow, Verdict, Work
from kill_matrix.parties import OVER, PROVIDER_KEY
from pydantic import JsonValue

from lightwork import Acceptance, Agent, LndWallet, Payment, PaymentOutcome, TaskFailed, TaskRefused, sats
from lightwork.broker import Broker
from lightwork.connection import Backoff, BrokerConnection
from lightwork.errors import WalletUnreachable
from lightwork.runner import Runner
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer

CREDIT_KEY = SecretKey.from_hex("66" * 32)
LOOK_SECONDS = 0.2
MOST_REFUSALS = 50
NEVER_ON_REAL_NODES = (
    "payout stuck for a while",
    "never paid",
    "cancelled after funding",
    "credit withdrawn",
)
"""The first needs a road that can be stalled, the second minutes; the others a party that the SDK does not play."""
REAL_FLOWS = tuple(flow for flow in FLOWS if flow.name not in NEVER_ON_REAL_NODES)

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


@agent.task(price=sats(10))
async def refuse(text: str) -> str:
    """Refuse every input."""
    raise TaskRefused(text)


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
    if flow.verdict is not None:
        return "hasty" if flow.verdict is Verdict.SILENT else "reviewed"
    return flow.work.value


@asynccontextmanager
async def selling(world: World) -> AsyncGenerator[None]:
    """Sell all tasks, with the provider node's wallet and on credit."""
    broker = Broker(BrokerConnection(world.broker.url, key=CREDIT_KEY, backoff=Backoff(most=0.5)))
    on_credit = Runner([credit_agent], broker=broker, key=CREDIT_KEY, wallet=None, finish_seconds=1)
    async with world.runner([agent], key=PROVIDER_KEY):
        running = asyncio.create_task(on_credit.run())
        try:
            await asyncio.wait_for(on_credit.ready.wait(), 20)
            yield
        finally:
            on_credit.stop()
            on_credit.stop()
            await asyncio.wait({running}, timeout=20)
            await broker.close()


class Refused(Exception):
    """The broker answered, and said no."""


class Forgotten(Exception):
    """The broker's database is from before this job."""


class PersistentBuyer:
    """Hires once, and asks again whenever there is no answer."""

    def __init__(self, world: World, flow: Flow) -> None:
        self._flow = flow
        self._client: SignedClient = world.client()
        self._operator: SignedClient = world.operator()
        self._wallet: LndWallet = world.wallets["buyer"]
        self._paying: asyncio.Task[Payment] | None = None
        self.job: JobForBuyer | None = None

    async def run(self) -> None:
        """Return when the job is over and the wallet knows it, or when the provider has refused."""
        try:
            while await self._hired():
                with suppress(Forgotten):
                    await self._follow()
                    return
                self.job = None
        finally:
            if self._paying is not None:
                self._paying.cancel()

    async def _hired(self) -> bool:
        """Hire; False when the provider does not want to."""
        request: dict[str, JsonValue] = {
            "task": task_of(self._flow),
            "input": {"text": "hi"},
            "modes": [mode.value for mode in PaymentMode],
        }
        refusals = 0
        while self.job is None:
            try:
                key = {"Idempotency-Key": secrets.token_hex(8)}
                self.job = await self._hire({"request": request}, key)
            except Refused as error:
                if "provider_refused" in str(error):
                    return False
                # A quote that died with its broker is asked for again.
                refusals += 1
                if refusals > MOST_REFUSALS:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
        return True

    async def _follow(self) -> None:
        while self.job is not None and self.job.status not in OVER:
            with suppress(Refused):  # the job has moved on meanwhile
                await self._act(self.job)
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.job = await self._read(self.job.id)
            except Refused as error:
                raise Forgotten from error
        if self._paying is not None:
            await self._paying

    async def _act(self, job: JobForBuyer) -> None:
        flow = self._flow
        match job.status:
            case JobStatus.QUOTED | JobStatus.OPEN if flow.cancel is CancelWhen.UNPAID:
                await self._call("POST", f"/v1/jobs/{job.id}/cancel")
            case JobStatus.OPEN if flow.pays and job.invoice is not None:
                await self._pay(job)
            case JobStatus.DELIVERED if flow.verdict is Verdict.ACCEPT:
                await self._call("POST", f"/v1/jobs/{job.id}/accept")
            case JobStatus.DELIVERED if flow.verdict is Verdict.REJECT:
                await self._call("POST", f"/v1/jobs/{job.id}/reject", {"reason": "wrong"})
            case JobStatus.DISPUTED:
                ruling: dict[str, JsonValue] = {"release": flow.release, "reason": "looked at it"}
                await self._call("POST", f"/v1/jobs/{job.id}/ruling", ruling, client=self._operator)
            case _:
                return

    async def _pay(self, job: JobForBuyer) -> None:
        """Begin to pay; what has failed for good is tried again, as its hash cannot be paid twice."""
        if self._paying is not None and self._paying.done():
            with suppress(WalletUnreachable):
                if self._paying.result().outcome is not PaymentOutcome.FAILED:
                    return
            self._paying = None
        if self._paying is None and job.invoice is not None:
            paying = self._wallet.pay(
                job.invoice, payment_hash=job.quote.payment_hash, max_fee_msat=Msat(1_000)
            )
            self._paying = asyncio.create_task(paying)

    async def _hire(self, body: dict[str, JsonValue], headers: dict[str, str]) -> JobForBuyer:
        return JobForBuyer.model_validate(await self._call("POST", "/v1/jobs", body, headers=headers))

    async def _read(self, job_id: str) -> JobForBuyer:
        return JobForBuyer.model_validate(await self._call("GET", f"/v1/jobs/{job_id}"))

    async def _call(
        self,
        method: str,
        path: str,
        body: dict[str, JsonValue] | None = None,
        *,
        headers: dict[str, str] | None = None,
        client: SignedClient | None = None,
    ) -> dict[str, JsonValue]:
        """Call until there is an answer from a broker whose node answers.

        Raises:
            Refused: the broker said no.
        """
        while True:
            try:
                answer = await (client or self._client).call(method, path, body, headers=headers)
            except httpx2.TransportError:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if answer.status_code < 300:
                return answer.json() if answer.content else {}
            if answer.status_code < 500:
                raise Refused(answer.text)
            if "provider_" in answer.text:
                raise Refused(answer.text)
            await asyncio.sleep(LOOK_SECONDS)
