"""The provider that does everything wrong: silent, late, lying, stalling, and now and then honest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Coroutine
from contextlib import suppress

import httpx2
from chaos.ground import Ground
from e2e_client import SignedClient
from e2e_provider import advert
from pydantic import BaseModel, JsonValue

from lightwork import LightworkError, LndWallet
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.money import sats
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, sign_listing
from lightwork_contracts.wire.jobs import JobWork, WorkList
from lightwork_contracts.wire.market import QuoteWork
from lightwork_regtest.errors import RegtestError
from lightwork_regtest.nodes.lnd_answers import Empty

TASK = "shady"
PRICE = sats(11)
STALLS_SECONDS = (0.5, 12.0)


class _HoldInvoice(BaseModel):
    payment_request: str


class Rogue:
    """Sells one task. What it does with each quote and job is drawn from its `chance`."""

    def __init__(self, ground: Ground, *, wallet: LndWallet, key: SecretKey, chance: random.Random) -> None:
        node = ground.network.node("provider")
        self._node = node.rest_as(node.admin_macaroon)
        self._wallet = wallet
        self._chance = chance
        self._clients = [SignedClient(url, key=key) for url in ground.urls]
        self._children: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self.ready = asyncio.Event()
        self.stalled: dict[str, bytes] = {}
        """Payment hash and preimage of every invoice that it held back; all of them end in `make_up`."""

    def stop(self) -> None:
        self._stopped.set()

    async def close(self) -> None:
        for child in self._children:
            child.cancel()
        for client in self._clients:
            await client.close()
        self._node.close()

    async def run(self) -> None:
        """List the task and ask for work until stopped; a broker that is away is asked again."""
        while not self._stopped.is_set():
            with suppress(httpx2.TransportError):
                if not self.ready.is_set():
                    await self._publish()
                await self._ask()
            await asyncio.sleep(0.1)

    async def make_up(self) -> None:
        """Settle or cancel what is still held back at the provider's node, which must be up."""
        for payment_hash, preimage in self.stalled.items():
            await asyncio.to_thread(
                self._end_stall, payment_hash, preimage, settle=self._chance.random() < 0.5
            )

    async def _publish(self) -> None:
        content = advert(TASK, price=FixedPrice(msat=PRICE), work_seconds=8)
        event = sign_listing(content, key=self._clients[0].key, created_at=int(time.time()))
        answer = await self._any().call("PUT", "/v1/listings", {"event": event.model_dump(mode="json")})
        if answer.status_code < 300:
            self.ready.set()

    async def _ask(self) -> None:
        body: dict[str, JsonValue] = {"wait_seconds": 2, "max_quotes": 8, "max_jobs": 8}
        answer = await self._any().call("POST", "/v1/work/poll", body)
        if answer.status_code != 200:
            return
        for work in WorkList.model_validate_json(answer.content).work:
            self._spawn(self._quote(work) if isinstance(work, QuoteWork) else self._work(work))

    async def _quote(self, work: QuoteWork) -> None:
        match self._chance.choices(("honest", "stall", "silent", "refuse", "lie"), (10, 4, 1, 1, 1))[0]:
            case "honest":
                made = await self._wallet.create_invoice(
                    amount_msat=PRICE,
                    expiry_seconds=work.invoice_expiry_seconds,
                    memo="shady",
                    final_cltv=80,
                )
                await self._commit(work, made.invoice)
            case "stall":
                await self._commit(work, await asyncio.to_thread(self._hold_invoice, work))
            case "refuse":
                await self._call(f"quotes/{work.quote_id}/refuse", {"reason": "busy"})
            case "lie":
                # An invoice over more than was promised.
                made = await self._wallet.create_invoice(
                    amount_msat=sats(999),
                    expiry_seconds=work.invoice_expiry_seconds,
                    memo="shady",
                    final_cltv=80,
                )
                await self._commit(work, made.invoice)
            case _:
                return

    async def _work(self, work: JobWork) -> None:
        preimage = self.stalled.get(work.payment_hash)
        if preimage is not None:
            self._spawn(self._release(work.payment_hash, preimage))
        path = f"jobs/{work.job_id}"
        delivery: dict[str, JsonValue] = {"epoch": work.epoch, "result": "here"}
        match self._chance.choices(
            ("deliver", "fail", "silent", "late", "junk", "twice"), (8, 2, 1, 1, 1, 2)
        )[0]:
            case "deliver":
                await self._call(f"{path}/deliver", delivery)
            case "fail":
                await self._call(
                    f"{path}/fail", {"epoch": work.epoch, "code": "task_failed", "message": "no"}
                )
            case "late":
                await asyncio.sleep(9)
                await self._call(f"{path}/deliver", delivery)
            case "junk":
                await self._call(f"{path}/deliver", {"epoch": work.epoch, "result": {"no": "text"}})
            case "twice":
                # To every broker at the same time, and a failure in between.
                failure: dict[str, JsonValue] = {"epoch": work.epoch, "code": "task_failed", "message": "no"}
                calls = [self._call(f"{path}/deliver", delivery, client=client) for client in self._clients]
                await asyncio.gather(*calls, self._call(f"{path}/fail", failure))
            case _:
                return

    async def _commit(self, work: QuoteWork, invoice: str) -> None:
        now = int(time.time())
        commitment = Commitment(
            quote_id=work.quote_id,
            listing_id=work.listing_id,
            listing_version=work.listing_version,
            input_hash=work.input_hash,
            price_msat=PRICE,
            mode=work.mode,
            payment_hash=read_invoice(invoice).payment_hash,
            invoice=invoice,
            expires_at=now + work.invoice_expiry_seconds,
        )
        event = sign_commitment(commitment, key=self._clients[0].key, created_at=now)
        await self._call(f"quotes/{work.quote_id}/answer", {"commitment": event.model_dump(mode="json")})

    def _hold_invoice(self, work: QuoteWork) -> str:
        """Make an invoice whose payment arrives and is then held back: the broker's payout hangs."""
        preimage = self._chance.randbytes(32)
        payment_hash = hashlib.sha256(preimage).digest()
        body: dict[str, JsonValue] = {
            "hash": base64.b64encode(payment_hash).decode(),
            "value_msat": str(PRICE),
            "expiry": str(work.invoice_expiry_seconds),
            "cltv_expiry": "80",
        }
        made = self._node.post("/v2/invoices/hodl", _HoldInvoice, body)
        self.stalled[payment_hash.hex()] = preimage
        return made.payment_request

    async def _release(self, payment_hash: str, preimage: bytes) -> None:
        await asyncio.sleep(self._chance.uniform(*STALLS_SECONDS))
        await asyncio.to_thread(self._end_stall, payment_hash, preimage, settle=self._chance.random() < 0.6)

    def _end_stall(self, payment_hash: str, preimage: bytes, *, settle: bool) -> None:
        number = base64.b64encode(bytes.fromhex(payment_hash)).decode()
        # Refused when it has ended already, or was never paid; then `make_up` or nobody ends it.
        with suppress(RegtestError):
            if settle:
                self._node.post(
                    "/v2/invoices/settle", Empty, {"preimage": base64.b64encode(preimage).decode()}
                )
            else:
                self._node.post("/v2/invoices/cancel", Empty, {"payment_hash": number})

    async def _call(
        self, path: str, body: dict[str, JsonValue], *, client: SignedClient | None = None
    ) -> None:
        """Say something to a broker, once, whatever it answers."""
        await (client or self._any()).call("POST", f"/v1/work/{path}", body)

    def _any(self) -> SignedClient:
        return self._chance.choice(self._clients)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def quietly() -> None:
            # A broker or a node that is away: this provider does not mind.
            with suppress(httpx2.TransportError, LightworkError, RegtestError):
                await work

        child = asyncio.create_task(quietly())
        self._children.add(child)
        child.add_done_callback(self._children.discard)
