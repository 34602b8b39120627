"""A wallet on a simulated Lightning network: that of a broker with `--network simulated`, or one of its own."""

from __future__ import annotations

from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from lightwork.errors import ProfileInvalid, WalletRefused, WalletUnreachable
from lightwork.wallet import CreatedInvoice, Payment, PaymentOutcome
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.problems import Problem
from lightwork_contracts.wire.simulated import (
    SIMULATED_PATH,
    CreateInvoice,
    OpenWallet,
    PayInvoice,
    SimulatedInvoice,
    SimulatedPayment,
    WalletView,
)

CALL_SECONDS = 15.0
WAIT_SECONDS = 20.0
HINT = (
    "is the broker running with `--network simulated`, and is LIGHTWORK_BROKER its URL? A network of its own "
    "(`lightwork broker network`) is named by LIGHTWORK_SIMULATED_NETWORK"
)

# Raised only before a byte of the request is written.
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

A = TypeVar("A", bound=BaseModel)


class _NoNetworkError(WalletRefused):
    """The broker serves no simulated network, so nothing was sent."""


class SimulatedWallet:
    """Play money by name: the wallet is opened at its first use, and a name used twice is one wallet."""

    def __init__(self, broker: str, name: str, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        try:
            self._opening = OpenWallet(name=name)
        except ValidationError:
            raise ProfileInvalid(
                f"'{name}' is no name for a simulated wallet", hint="lower-case letters, digits, - and _"
            ) from None
        self._url = broker.rstrip("/")
        self._client = httpx2.AsyncClient(
            base_url=self._url,
            transport=transport,
            timeout=httpx2.Timeout(CALL_SECONDS, read=CALL_SECONDS + WAIT_SECONDS),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30),
            # A broker on the network of another process sends us there.
            follow_redirects=True,
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"SimulatedWallet({self._url!r}, {self.name!r})"

    @property
    def name(self) -> str:
        return self._opening.name

    async def close(self) -> None:
        await self._client.aclose()

    async def balance_msat(self) -> Msat:
        """Return what the wallet owns, in msat; what waits in its own payments is in it.

        Raises:
            WalletUnreachable, WalletRefused: the broker does not say.
        """
        view = await self._plain("POST", "/wallets", WalletView, body=self._opening)
        return view.balance_msat

    async def create_invoice(
        self, *, amount_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        try:
            body = CreateInvoice(
                wallet=self.name,
                amount_msat=amount_msat,
                expiry_seconds=expiry_seconds,
                memo=memo,
                final_cltv=final_cltv,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise WalletRefused(f"no invoice can say that: {first['loc'][0]}: {first['msg']}") from None
        made = await self._plain("POST", "/invoices", SimulatedInvoice, body=body)
        return CreatedInvoice(invoice=made.invoice, payment_hash=made.payment_hash)

    async def pay(
        self, invoice: str, *, payment_hash: PaymentHash, max_fee_msat: Msat, max_cltv: int | None = None
    ) -> Payment:
        body = PayInvoice(
            wallet=self.name,
            invoice=invoice,
            payment_hash=payment_hash,
            max_fee_msat=max_fee_msat,
            max_cltv=max_cltv,
            wait_seconds=WAIT_SECONDS,
        )
        try:
            seen = _payment(await self._call("POST", "/payments", SimulatedPayment, body=body))
        except NEVER_SENT as error:
            raise WalletUnreachable(
                f"{self._url} cannot be connected to: {type(error).__name__}", hint=HINT
            ) from None
        except _NoNetworkError as error:
            raise WalletUnreachable(error.message, hint=HINT) from None
        except (httpx2.TransportError, WalletRefused) as error:
            return _unknown(payment_hash, error)
        return seen if seen.outcome is not PaymentOutcome.IN_FLIGHT else await self.track(payment_hash)

    async def track(self, payment_hash: PaymentHash) -> Payment:
        while True:
            seen = await self._look(payment_hash, seconds=WAIT_SECONDS)
            if seen.outcome is not PaymentOutcome.IN_FLIGHT:
                return seen

    async def lookup(self, payment_hash: PaymentHash) -> Payment:
        return await self._look(payment_hash, seconds=0.0)

    async def _look(self, payment_hash: PaymentHash, *, seconds: float) -> Payment:
        params = {"wallet": self.name, "wait_seconds": str(seconds)}
        try:
            seen = await self._call("GET", f"/payments/{payment_hash}", SimulatedPayment, params=params)
        except (httpx2.TransportError, WalletRefused) as error:
            return _unknown(payment_hash, error)
        if seen.reason == "never_sent":
            return Payment(
                payment_hash=payment_hash,
                outcome=PaymentOutcome.UNKNOWN,
                reason="the wallet sent no such payment",
            )
        return _payment(seen)

    async def _plain(self, method: str, path: str, answer: type[A], *, body: BaseModel) -> A:
        """Make a call that moves no money, so that any loss is only a loss of the answer."""
        try:
            return await self._call(method, path, answer, body=body)
        except httpx2.TransportError as error:
            raise WalletUnreachable(
                f"{self._url} gave no answer: {type(error).__name__}", hint=HINT
            ) from None

    async def _call(
        self,
        method: str,
        path: str,
        answer: type[A],
        *,
        body: BaseModel | None = None,
        params: dict[str, str] | None = None,
    ) -> A:
        """Make a call; a wallet that the network does not know (yet, or after a restart) is opened first."""
        response = await self._send(method, path, body=body, params=params)
        if response.status_code == 404:
            await self._send("POST", "/wallets", body=self._opening, params=None)
            response = await self._send(method, path, body=body, params=params)
        if response.status_code == 404:
            raise _NoNetworkError(f"the broker at {self._url} has no simulated network", hint=HINT)
        if response.status_code != 200:
            raise WalletRefused(f"the simulated wallet refused: {_complaint(response)}", hint=HINT)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError:
            raise WalletRefused("the simulated wallet answered with something else", hint=HINT) from None

    async def _send(
        self, method: str, path: str, *, body: BaseModel | None, params: dict[str, str] | None
    ) -> httpx2.Response:
        content = None if body is None else body.model_dump_json().encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        return await self._client.request(
            method, f"{SIMULATED_PATH}{path}", content=content, params=params, headers=headers
        )


def _payment(seen: SimulatedPayment) -> Payment:
    return Payment(
        payment_hash=seen.payment_hash,
        outcome=PaymentOutcome(seen.outcome),
        fee_msat=seen.fee_msat,
        reason=seen.reason,
        preimage=seen.preimage,
    )


def _unknown(payment_hash: PaymentHash, error: Exception) -> Payment:
    return Payment(
        payment_hash=payment_hash, outcome=PaymentOutcome.UNKNOWN, reason=str(error) or type(error).__name__
    )


def _complaint(response: httpx2.Response) -> str:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return f"HTTP {response.status_code}"
    return problem.detail
