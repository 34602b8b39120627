"""A wallet and a broker in memory, for tests of one side's protocol. The real ones are met in tests/e2e."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
from pydantic import BaseModel
from unit.sdk.signed_facts import HASH, NOW, PREIMAGE, broker_info, buyer_job, invoice, listing_view

from lightwork.wallet import CreatedInvoice, Payment, PaymentOutcome
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.http_auth import read_request_auth
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.market import ListingView
from lightwork_contracts.wire.problems import Problem, ProblemCode


def answer(model: BaseModel, status: int = 200) -> httpx2.Response:
    return httpx2.Response(
        status, content=model.model_dump_json(), headers={"content-type": "application/json"}
    )


def problem(code: ProblemCode, status: int, detail: str = "no") -> httpx2.Response:
    body = Problem(type=f"urn:lightwork:problem:{code}", title="No", status=status, code=code, detail=detail)
    return httpx2.Response(
        status, content=body.model_dump_json(), headers={"content-type": "application/problem+json"}
    )


def paid(fee: int = 0) -> Payment:
    return Payment(
        payment_hash=HASH, outcome=PaymentOutcome.SUCCEEDED, fee_msat=Msat(fee), preimage=PREIMAGE.hex()
    )


def unpaid(reason: str = "no_route") -> Payment:
    return Payment(payment_hash=HASH, outcome=PaymentOutcome.FAILED, reason=reason)


def unknown(reason: str = "the stream ended") -> Payment:
    return Payment(payment_hash=HASH, outcome=PaymentOutcome.UNKNOWN, reason=reason)


@dataclass
class FakeWallet:
    """Says what it is told to say; `gate` holds a payment in flight until it is set."""

    payments: list[Payment | Exception] = field(default_factory=lambda: [paid()])
    gate: asyncio.Event | None = None
    paid_invoices: list[str] = field(default_factory=list[str])
    limits: list[tuple[int, int | None]] = field(default_factory=list[tuple[int, int | None]])
    created: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    on_create: Callable[[], None] | None = None

    async def create_invoice(
        self, *, amount_msat: Msat, expiry_seconds: int, memo: str, final_cltv: int
    ) -> CreatedInvoice:
        assert memo
        if self.on_create is not None:
            self.on_create()
        self.created.append((amount_msat, expiry_seconds, final_cltv))
        text = invoice(amount_msat, expiry_seconds=expiry_seconds, final_cltv=final_cltv)
        return CreatedInvoice(invoice=text, payment_hash=HASH)

    async def pay(
        self, invoice: str, *, payment_hash: PaymentHash, max_fee_msat: Msat, max_cltv: int | None = None
    ) -> Payment:
        assert payment_hash == HASH
        self.paid_invoices.append(invoice)
        self.limits.append((max_fee_msat, max_cltv))
        return await self._next()

    async def track(self, payment_hash: PaymentHash) -> Payment:
        assert payment_hash == HASH
        return await self._next()

    async def lookup(self, payment_hash: PaymentHash) -> Payment:
        if self.gate is not None and not self.gate.is_set():
            return Payment(payment_hash=payment_hash, outcome=PaymentOutcome.IN_FLIGHT)
        return await self.track(payment_hash)

    async def close(self) -> None:
        return None

    async def _next(self) -> Payment:
        if self.gate is not None:
            await self.gate.wait()
        said = self.payments.pop(0) if len(self.payments) > 1 else self.payments[0]
        if isinstance(said, Exception):
            raise said
        return said


@dataclass
class BuyersBroker:
    """The broker as a buyer sees it: one job, which shows the next of `views` at each reading."""

    hired: JobForBuyer = field(default_factory=lambda: buyer_job(JobStatus.OPEN))
    views: list[JobForBuyer] = field(
        default_factory=lambda: [
            buyer_job(JobStatus.SETTLED, last_event=6, result="hi", preimage=PREIMAGE.hex())
        ]
    )
    listing: ListingView = field(default_factory=listing_view)
    calls: list[str] = field(default_factory=list[str])
    keys: list[str] = field(default_factory=list[str])
    bodies: list[object] = field(default_factory=list[object])
    refuse: httpx2.Response | None = None
    lose: int = 0
    accepted: asyncio.Event = field(default_factory=asyncio.Event)

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._handle)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path == "/v1/info":
            self.calls.append("info")
            return answer(broker_info())
        if path.startswith("/v1/listings/"):
            self.calls.append(f"GET {path.removeprefix('/v1/')}")
            return answer(self.listing)
        read_request_auth(
            request.headers.get("authorization"),
            url=str(request.url),
            method=request.method,
            body=request.content,
            now=NOW,
            window_seconds=10_000,
        )
        self.calls.append(f"{request.method} {path.removeprefix('/v1/')}")
        if "idempotency-key" in request.headers:
            self.keys.append(request.headers["idempotency-key"])
        if self.lose > 0:
            self.lose -= 1
            raise httpx2.ReadError("gone", request=request)
        if self.refuse is not None:
            return self.refuse
        if request.method == "POST" and path == "/v1/jobs":
            self.bodies.append(json.loads(request.content))
            return answer(self.hired, 201)
        if path.endswith("/cancel"):
            return answer(buyer_job(JobStatus.EXPIRED, last_event=99))
        if path.endswith("/accept"):
            self.accepted.set()
            return answer(buyer_job(JobStatus.RELEASING, last_event=5, quote=self.hired.quote, result="hi"))
        if request.url.params.get("wait_seconds"):
            await asyncio.sleep(0)
        return answer(self.views.pop(0) if len(self.views) > 1 else self.views[0])
