"""A wallet on one's own LND, through its REST interface."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lightwork.errors import ProfileInvalid, WalletRefused, WalletUnreachable
from lightwork.wallet import CreatedInvoice, Payment, PaymentOutcome
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

UNARY_SECONDS = 15.0
ROUTE_SECONDS = 60
"""How long LND looks for a route. The HTLC of a hold invoice, once out, waits without limit here."""
MAX_PARTS = 16

# Raised only before a byte of the request is written (httpx2 keeps them apart from read and write errors).
NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class _Lax(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class _RpcError(_Lax):
    code: int = 2
    message: str = ""


class _AddInvoiceAnswer(_Lax):
    r_hash: str
    payment_request: str


class _LndPayment(_Lax):
    payment_hash: str
    status: Literal["UNKNOWN", "IN_FLIGHT", "SUCCEEDED", "FAILED", "INITIATED"]
    payment_preimage: str = Field(default="", repr=False)
    fee_msat: int = 0
    failure_reason: str = ""


class _StreamLine(_Lax):
    result: _LndPayment | None = None
    error: _RpcError | None = None


class _LostError(Exception):
    """The stream ended, broke or was refused before a terminal state."""


class LndWallet:
    """LND over REST (`/v1/invoices`, `/v2/router/send`, `/v2/router/track`), TLS pinned to its certificate.

    An HTTP error, a broken stream or a time-out is UNKNOWN; only LND's own SUCCEEDED or FAILED is final.
    """

    def __init__(
        self,
        *,
        url: str,
        macaroon: bytes,
        tls_cert: Path | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        try:
            verify = ssl.create_default_context(cafile=str(tls_cert)) if tls_cert is not None else True
        except (OSError, ssl.SSLError) as error:
            raise ProfileInvalid(f"the TLS certificate {tls_cert} cannot be read: {error}") from None
        self._client = httpx2.AsyncClient(
            base_url=self._url,
            headers={"Grpc-Metadata-macaroon": macaroon.hex()},
            verify=verify,
            transport=transport,
            timeout=httpx2.Timeout(UNARY_SECONDS),
            # Each payment in flight keeps one stream open for the whole job.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=300),
            trust_env=False,
        )

    @classmethod
    def from_files(cls, *, url: str, tls_cert: Path, macaroon: Path) -> LndWallet:
        """Open a wallet from LND's own files.

        Raises:
            ProfileInvalid: a file cannot be read.
        """
        try:
            secret = macaroon.read_bytes()
        except OSError as error:
            raise ProfileInvalid(f"the macaroon {macaroon} cannot be read: {error.strerror}") from None
        return cls(url=url, macaroon=secret, tls_cert=tls_cert)

    def __repr__(self) -> str:
        return f"LndWallet({self._url!r})"

    async def close(self) -> None:
        await self._client.aclose()

    async def create_invoice(
        self, *, amount_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        body = {
            "value_msat": str(amount_msat),
            "expiry": str(expiry_seconds),
            "memo": memo,
            "cltv_expiry": str(final_cltv),
        }
        try:
            response = await self._client.post("/v1/invoices", json=body)
        except httpx2.TransportError as error:
            raise WalletUnreachable(f"{self._url} did not make an invoice: {type(error).__name__}") from None
        if response.status_code != 200:
            raise WalletRefused(f"LND made no invoice: {_complaint(response.content)}")
        try:
            answer = _AddInvoiceAnswer.model_validate_json(response.content)
            payment_hash = base64.b64decode(answer.r_hash, validate=True).hex()
        except (ValidationError, binascii.Error):
            raise WalletRefused("LND answered AddInvoice with something else") from None
        return CreatedInvoice(invoice=answer.payment_request, payment_hash=PaymentHash(payment_hash))

    async def pay(
        self, invoice: str, *, payment_hash: PaymentHash, max_fee_msat: Msat, max_cltv: int | None = None
    ) -> Payment:
        body: dict[str, str | int | bool] = {
            "payment_request": invoice,
            "timeout_seconds": ROUTE_SECONDS,
            "fee_limit_msat": str(max_fee_msat),
            "max_parts": MAX_PARTS,
            "no_inflight_updates": True,
        }
        if max_cltv is not None:
            body["cltv_limit"] = max_cltv
        request = self._client.build_request(
            "POST", "/v2/router/send", json=body, timeout=httpx2.Timeout(UNARY_SECONDS, read=None)
        )
        try:
            return await self._until_terminal(request, payment_hash)
        except NEVER_SENT as error:
            raise WalletUnreachable(f"{self._url} cannot be connected to: {type(error).__name__}") from None
        except (_LostError, httpx2.TransportError) as error:
            return _unknown(payment_hash, error)

    async def track(self, payment_hash: PaymentHash) -> Payment:
        try:
            return await self._until_terminal(self._tracking(payment_hash, updates=False), payment_hash)
        except (_LostError, httpx2.TransportError) as error:
            return _unknown(payment_hash, error)

    async def lookup(self, payment_hash: PaymentHash) -> Payment:
        # With updates LND tells the present state at once; without them it is silent until the end.
        try:
            async with self._stream(self._tracking(payment_hash, updates=True)) as payments:
                async for payment in payments:
                    return _payment(payment, payment_hash)
        except (_LostError, httpx2.TransportError) as error:
            return _unknown(payment_hash, error)
        return Payment(payment_hash=payment_hash, outcome=PaymentOutcome.UNKNOWN, reason="no answer")

    def _tracking(self, payment_hash: PaymentHash, *, updates: bool) -> httpx2.Request:
        segment = base64.urlsafe_b64encode(bytes.fromhex(payment_hash)).decode()
        return self._client.build_request(
            "GET",
            f"/v2/router/track/{segment}",
            params={"no_inflight_updates": "false" if updates else "true"},
            timeout=httpx2.Timeout(UNARY_SECONDS, read=UNARY_SECONDS if updates else None),
        )

    async def _until_terminal(self, request: httpx2.Request, payment_hash: PaymentHash) -> Payment:
        async with self._stream(request) as payments:
            async for payment in payments:
                known = _payment(payment, payment_hash)
                if known.outcome.terminal:
                    return known
        raise _LostError("the stream ended before the payment did")

    @asynccontextmanager
    async def _stream(self, request: httpx2.Request) -> AsyncGenerator[AsyncIterator[_LndPayment], None]:
        response = await self._client.send(request, stream=True)
        try:
            yield _lines(response)
        finally:
            await response.aclose()


async def _lines(response: httpx2.Response) -> AsyncIterator[_LndPayment]:
    if response.status_code != 200:
        raise _LostError(_complaint(await response.aread()))
    async for line in response.aiter_lines():
        if not line.strip():
            continue
        try:
            parsed = _StreamLine.model_validate_json(line)
        except ValidationError:
            raise _LostError("the node sent a line that is no payment") from None
        if parsed.error is not None:
            raise _LostError(parsed.error.message)
        if parsed.result is not None:
            yield parsed.result


def _payment(payment: _LndPayment, payment_hash: PaymentHash) -> Payment:
    if payment.payment_hash != payment_hash:
        raise _LostError("the node spoke of another payment")
    match payment.status:
        case "SUCCEEDED":
            return Payment(
                payment_hash=payment_hash,
                outcome=PaymentOutcome.SUCCEEDED,
                fee_msat=Msat(payment.fee_msat),
                preimage=payment.payment_preimage,
            )
        case "FAILED":
            reason = payment.failure_reason.removeprefix("FAILURE_REASON_").lower() or "failed"
            return Payment(payment_hash=payment_hash, outcome=PaymentOutcome.FAILED, reason=reason)
        case "IN_FLIGHT" | "INITIATED" | "UNKNOWN":
            return Payment(payment_hash=payment_hash, outcome=PaymentOutcome.IN_FLIGHT)


def _unknown(payment_hash: PaymentHash, error: Exception) -> Payment:
    return Payment(
        payment_hash=payment_hash, outcome=PaymentOutcome.UNKNOWN, reason=str(error) or type(error).__name__
    )


def _complaint(body: bytes) -> str:
    """The text of an LND error, which REST wraps in two ways: `{code, message}` or `{error: {...}}`."""
    try:
        document = json.loads(body)
        nested = _StreamLine.model_validate(document).error or _RpcError.model_validate(document)
    except (ValueError, ValidationError):
        return "no JSON in the answer"
    return nested.message[:300] or f"code {nested.code}"
