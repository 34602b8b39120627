"""The buyer and the creditor of a cell on real nodes, by hand: they ask again and again, whatever dies."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

import httpx2
from e2e_client import SignedClient
from e2e_world import World
from kill_matrix.flows import WITHDRAWAL_FEE_MSAT, WITHDRAWN_MSAT, CancelWhen, Flow, Verdict
from kill_matrix.parties import OVER, STOPPED
from kill_matrix.real_sellers import CREDIT_KEY, LOOK_SECONDS, task_of
from pydantic import JsonValue

from lightwork import LndWallet, Payment, PaymentOutcome
from lightwork.errors import WalletUnreachable
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.accounts import WithdrawalStatus, WithdrawalView
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.problems import ProblemCode

MOST_REFUSALS = 50
FINAL_CLTV = 80


class Refused(Exception):
    """The broker answered, and said no."""


class Forgotten(Exception):
    """The broker's database is from before this job."""


async def call(
    client: SignedClient,
    method: str,
    path: str,
    body: dict[str, JsonValue] | None = None,
    *,
    headers: dict[str, str] | None = None,
) -> dict[str, JsonValue]:
    """Call until there is an answer from a broker whose node answers.

    Raises:
        Refused: the broker said no.
    """
    while True:
        try:
            answer = await client.call(method, path, body, headers=headers)
        except httpx2.TransportError:
            await asyncio.sleep(LOOK_SECONDS)
            continue
        if answer.status_code < 300:
            return answer.json() if answer.content else {}
        if answer.status_code < 500 or "provider_" in answer.text or _STOPPED in answer.text:
            raise Refused(answer.text)
        await asyncio.sleep(LOOK_SECONDS)


_STOPPED = f'"{ProblemCode.WITHDRAWALS_STOPPED}"'


class PersistentBuyer:
    """Hires once, and asks again whenever there is no answer."""

    def __init__(self, world: World, flow: Flow) -> None:
        self._flow = flow
        self._client: SignedClient = world.client()
        self._operator: SignedClient = world.operator()
        self._wallet: LndWallet = world.wallets["buyer"]
        self._paying: asyncio.Task[Payment] | None = None
        self.job: JobForBuyer | None = None

    @property
    def is_settled(self) -> bool:
        return self.job is not None and self.job.status is JobStatus.SETTLED

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
                await call(self._client, "POST", f"/v1/jobs/{job.id}/cancel")
            case JobStatus.OPEN if flow.pays and job.invoice is not None:
                await self._pay(job)
            case JobStatus.FUNDED if flow.cancel is CancelWhen.FUNDED:
                await call(self._client, "POST", f"/v1/jobs/{job.id}/cancel")
            case JobStatus.DELIVERED if flow.verdict is Verdict.ACCEPT:
                await call(self._client, "POST", f"/v1/jobs/{job.id}/accept")
            case JobStatus.DELIVERED if flow.verdict is Verdict.REJECT:
                await call(self._client, "POST", f"/v1/jobs/{job.id}/reject", {"reason": "wrong"})
            case JobStatus.DISPUTED:
                ruling: dict[str, JsonValue] = {"release": flow.release, "reason": "looked at it"}
                await call(self._operator, "POST", f"/v1/jobs/{job.id}/ruling", ruling)
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
        return JobForBuyer.model_validate(await call(self._client, "POST", "/v1/jobs", body, headers=headers))

    async def _read(self, job_id: str) -> JobForBuyer:
        return JobForBuyer.model_validate(await call(self._client, "GET", f"/v1/jobs/{job_id}"))


class PersistentCreditor:
    """The agent that sells on credit. It withdraws a part of what it earned to the provider's node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._client: SignedClient = world.client(key=CREDIT_KEY)
        self._wallet: LndWallet = world.wallets["provider"]
        self.called_operator: str | None = None
        """Why the operator had to let withdrawals go on, if so."""

    async def withdraw(self) -> None:
        """Return when the broker has paid, by a new invoice when one could not be paid for good."""
        while True:
            made = await self._wallet.create_invoice(
                amount_msat=Msat(WITHDRAWN_MSAT), expiry_seconds=3_600, memo="", final_cltv=FINAL_CLTV
            )
            if await self._is_paid(made.invoice, key=secrets.token_hex(8)):
                return

    async def _is_paid(self, invoice: str, *, key: str) -> bool:
        """Ask until the broker has paid this invoice, or says that it never will."""
        body: dict[str, JsonValue] = {"invoice": invoice, "max_fee_msat": WITHDRAWAL_FEE_MSAT}
        headers = {"Idempotency-Key": key}
        while True:
            try:
                answer = await call(self._client, "POST", "/v1/withdrawals", body, headers=headers)
            except Refused as error:
                # With an older database, it is not owed again yet.
                if _STOPPED in str(error):
                    await self._call_operator()
            else:
                status = WithdrawalView.model_validate(answer).status
                if status is not WithdrawalStatus.PAYING:
                    return status is WithdrawalStatus.PAID
            await asyncio.sleep(LOOK_SECONDS)

    async def _call_operator(self) -> None:
        """Do what docs/operating.md tells: this agent asks for the invoice that was paid, and for no other."""
        self.called_operator = STOPPED
        await self._world.broker.command("audit", "--acknowledge")
