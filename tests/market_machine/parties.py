"""Those who trade: buyers with a wallet, and sellers with one, each with a node of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from market_machine.desk import Desk, Reply

from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import SimulatedNetwork
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, sign_listing
from lightwork_contracts.status import Acceptance

PRICES = (10_000, 7_003, 21_999)
WORK_SECONDS = (30, 120, 600)
REVIEW_SECONDS = (20, 300)
INPUT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}
OUTPUT_SCHEMA: dict[str, Any] = {"type": "string", "maxLength": 100}
HUGE = "x" * 300_000
"""More than a body may have."""

COMMITMENTS = (
    "plain", "plain", "plain", "held", "plain", "held", "short", "cheap", "own node", "reused", "junk", "plain",
)  # fmt: skip
"""How a seller answers a quote: mostly as it should."""


def key_of(name: str) -> SecretKey:
    return SecretKey.generate(hashlib.sha256(f"market machine {name}".encode()).digest())


@dataclass
class Buyer:
    name: str
    key: SecretKey = field(init=False)
    repeats: dict[str, str] = field(default_factory=dict[str, str])
    """Which job each Idempotency-Key has led to."""

    def __post_init__(self) -> None:
        self.key = key_of(self.name)


@dataclass
class Seller:
    """Sells in one mode. `epochs` are the leases that it was given, by job; `held` what its wallet may hold."""

    name: str
    mode: PaymentMode
    network: SimulatedNetwork
    desk: Desk
    key: SecretKey = field(init=False)
    listings: list[str] = field(default_factory=list[str])
    epochs: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    held: dict[str, Preimage] = field(default_factory=dict[str, Preimage])
    commitments: dict[str, Any] = field(default_factory=dict[str, Any])
    last_invoice: tuple[str, str] | None = None
    _draws: int = 0

    def __post_init__(self) -> None:
        self.key = key_of(self.name)

    async def publish(self, variant: int) -> Reply:
        """Publish a listing, or a new version of it: price, acceptance and times go by the variant."""
        review = variant % 2 == 1
        content = ListingContent(
            name=f"{self.name}-{variant % 2}",
            description=f"Return the text, in version {variant}.",
            agent_name=self.name,
            input_schema=INPUT_SCHEMA,
            output_schema=OUTPUT_SCHEMA,
            price=FixedPrice(msat=Msat(PRICES[variant // 2 % 3])),
            acceptance=Acceptance.REVIEW if review else Acceptance.AUTO,
            work_seconds=WORK_SECONDS[variant // 6 % 3],
            review_seconds=REVIEW_SECONDS[variant // 18 % 2] if review else 0,
            mode=self.mode,
        )
        event = sign_listing(content, key=self.key, created_at=int(self.desk.clock.now()))
        reply = await self.desk.ask(self.key, "PUT", "/v1/listings", {"event": event.model_dump()})
        if reply.is_good and reply.body["id"] not in self.listings:
            self.listings.append(reply.body["id"])
        return reply

    async def poll(self, *, wait: float = 0, quotes: int = 0, jobs: int = 0) -> list[dict[str, Any]]:
        """Ask for work, and remember the leases that come with it."""
        reply = await self.desk.ask(
            self.key,
            "POST",
            "/v1/work/poll",
            {"wait_seconds": wait, "max_quotes": quotes, "max_jobs": jobs},
        )
        found: list[dict[str, Any]] = reply.body["work"] if reply.is_good else []
        for work in found:
            if work["kind"] == "job":
                self.epochs.setdefault(work["job_id"], []).append(work["epoch"])
        return found

    async def answer(self, work: dict[str, Any], *, way: str) -> None:
        """Answer a quote with a commitment; the same quote gets the same one again."""
        quote = work["quote_id"]
        if way == "refuse":
            await self.desk.ask(self.key, "POST", f"/v1/work/quotes/{quote}/refuse", {"reason": "not today"})
            return
        if quote not in self.commitments:
            try:
                self.commitments[quote] = await self._commit(work, way=way)
            except LightningError:
                return  # its node is down
        await self.desk.ask(
            self.key, "POST", f"/v1/work/quotes/{quote}/answer", {"commitment": self.commitments[quote]}
        )

    async def _commit(self, work: dict[str, Any], *, way: str) -> Any:
        price = await self._price_of(work["listing_id"], work["listing_version"])
        invoice: str | None = None
        payment_hash: str | None = None
        if self.mode is PaymentMode.ESCROW:
            invoice, payment_hash = await self._invoice(work, price, way=way)
            self.last_invoice = invoice, payment_hash
        now = int(self.desk.clock.now())
        commitment = Commitment(
            quote_id=work["quote_id"],
            listing_id=work["listing_id"],
            listing_version=work["listing_version"] + (way == "junk"),
            input_hash=work["input_hash"],
            price_msat=Msat(price - (way == "cheap")),
            mode=self.mode,
            payment_hash=payment_hash,  # pyright: ignore[reportArgumentType]
            invoice=invoice,
            expires_at=now + 60,
        )
        return sign_commitment(commitment, key=self.key, created_at=now).model_dump()

    async def _invoice(self, work: dict[str, Any], price: int, *, way: str) -> tuple[str, str]:
        seconds = work["invoice_expiry_seconds"]
        node = self.network.node("broker" if way == "own node" else self.name)
        if way == "reused" and self.last_invoice is not None:
            return self.last_invoice
        if way == "held":
            preimage = self.draw()
            text = await node.add_hold(
                payment_hash=preimage.payment_hash,
                value_msat=Msat(price),
                expiry_seconds=seconds,
                cltv_blocks=24,
                memo="held",
            )
            self.held[preimage.payment_hash] = preimage
            return text, preimage.payment_hash
        made = await node.add_invoice(
            value_msat=Msat(price),
            expiry_seconds=90 if way == "short" else seconds,
            memo="a job",
            final_cltv=24,
        )
        return made.payment_request, made.payment_hash

    def draw(self) -> Preimage:
        self._draws += 1
        return Preimage(hashlib.sha256(f"{self.name} {self._draws}".encode()).digest())

    async def _price_of(self, listing: str, version: int) -> int:
        reply = await self.desk.ask(self.key, "GET", f"/v1/listings/{listing}/versions/{version}")
        return int(reply.body["content"]["price"]["msat"]) if reply.is_good else PRICES[0]
