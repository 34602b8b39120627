"""Keys, invoices, quotes and jobs for the tests of the SDK: all really signed, all changeable."""

from __future__ import annotations

import hashlib

from coincurve import PrivateKey

from lightwork.verification import Asked, TrustedBroker
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.ids import JobId, ListingId, PaymentHash, QuoteId
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.listing import FixedPrice, ListingContent, content_hash, sign_listing
from lightwork_contracts.signed.quote import QuoteTerms, sign_quote
from lightwork_contracts.status import Acceptance, JobStatus
from lightwork_contracts.wire.base import JsonInput
from lightwork_contracts.wire.info import BrokerInfo
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.market import ListingView, QuoteView

NOW = 1_800_000_000
BROKER = SecretKey.generate(bytes([1]) * 32)
PROVIDER = SecretKey.generate(bytes([2]) * 32)
BUYER = SecretKey.generate(bytes([3]) * 32)
STRANGER = SecretKey.generate(bytes([4]) * 32)
BROKER_NODE_KEY = bytes([5]) * 32
PROVIDER_NODE_KEY = bytes([6]) * 32
BROKER_NODE = PrivateKey(BROKER_NODE_KEY).public_key.format().hex()
PREIMAGE = bytes([7]) * 32
HASH = PaymentHash(hashlib.sha256(PREIMAGE).hexdigest())
OTHER_HASH = PaymentHash(hashlib.sha256(bytes(32)).hexdigest())
LISTING_ID = ListingId("lst_" + "0" * 26)
QUOTE_ID = QuoteId("qt_" + "0" * 26)
JOB_ID = JobId("job_" + "0" * 26)
INPUT: JsonInput = {"text": "hi"}
PRICE, FEE, ROUTING = Msat(10_000), Msat(1_100), Msat(1_000)
TOTAL = Msat(PRICE + FEE + ROUTING)
TRUSTED = TrustedBroker(pubkey=BROKER.public, node=BROKER_NODE, network="regtest")


def invoice(
    amount: Msat | None = PRICE,
    *,
    payment_hash: str = HASH,
    network: Network = Network.REGTEST,
    node_key: bytes = PROVIDER_NODE_KEY,
    timestamp: int = NOW,
    expiry_seconds: int = 3_600,
    final_cltv: int = 80,
) -> str:
    return write_invoice(
        network=network,
        amount_msat=amount,
        timestamp=timestamp,
        payment_hash=payment_hash,
        payment_secret="ab" * 32,
        private_key=node_key,
        description="test",
        expiry_seconds=expiry_seconds,
        min_final_cltv=final_cltv,
    )


def hold_invoice(
    amount: Msat | None = TOTAL,
    *,
    payment_hash: str = HASH,
    network: Network = Network.REGTEST,
    node_key: bytes = BROKER_NODE_KEY,
    timestamp: int = NOW,
    final_cltv: int = 200,
) -> str:
    return invoice(
        amount,
        payment_hash=payment_hash,
        network=network,
        node_key=node_key,
        timestamp=timestamp,
        final_cltv=final_cltv,
    )


COMMITMENT = Commitment(
    quote_id=QUOTE_ID,
    listing_id=LISTING_ID,
    listing_version=1,
    input_hash=input_hash(INPUT),
    price_msat=PRICE,
    payment_hash=HASH,
    invoice=invoice(),
    expires_at=NOW + 3_600,
)

TERMS = QuoteTerms(
    quote_id=QUOTE_ID,
    listing_id=LISTING_ID,
    listing_version=1,
    input_hash=input_hash(INPUT),
    buyer=BUYER.public,
    provider=PROVIDER.public,
    price_msat=PRICE,
    fee_msat=FEE,
    routing_msat=ROUTING,
    total_msat=TOTAL,
    payment_hash=HASH,
    pay_seconds=600,
    work_seconds=60,
    review_seconds=0,
    forward_seconds=600,
    hold_cltv_blocks=300,
    acceptance=Acceptance.AUTO,
    expires_at=NOW + 600,
    created_at=NOW,
    broker_node=BROKER_NODE,
)

ASKED = Asked(buyer=BUYER.public, input_hash=input_hash(INPUT), max_price=Msat(20_000), task="echo")


def quote_view(
    terms: QuoteTerms = TERMS,
    commitment: Commitment = COMMITMENT,
    *,
    broker: SecretKey = BROKER,
    provider: SecretKey = PROVIDER,
    task: str = "echo",
) -> QuoteView:
    """The quote as the broker shows it when it shows what was signed."""
    shown = {name: value for name, value in terms.model_dump().items() if name in QuoteView.model_fields}
    return QuoteView.model_validate(
        {
            **shown,
            "id": terms.quote_id,
            "task": task,
            "event": sign_quote(terms, key=broker),
            "commitment": sign_commitment(commitment, key=provider, created_at=NOW),
        }
    )


def listing_view(*, key: SecretKey = PROVIDER, version: int = 1, name: str = "echo") -> ListingView:
    content = ListingContent(
        name=name,
        description="Return the text unchanged.",
        agent_name="echo",
        input_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        output_schema={"type": "string"},
        price=FixedPrice(msat=PRICE),
        work_seconds=60,
    )
    return ListingView(
        id=LISTING_ID,
        version=version,
        agent=key.public,
        content=content,
        content_hash=content_hash(content),
        event=sign_listing(content, key=key, created_at=NOW),
        online=True,
        retired=False,
        published_at=NOW,
        updated_at=NOW,
    )


def buyer_job(
    status: JobStatus,
    *,
    quote: QuoteView | None = None,
    invoice_text: str | None = None,
    last_event: int = 1,
    **more: object,
) -> JobForBuyer:
    return JobForBuyer.model_validate(
        {
            "id": JOB_ID,
            "status": status,
            "quote": quote or quote_view(),
            "input": INPUT,
            "invoice": invoice_text if invoice_text is not None else hold_invoice(),
            "last_event": last_event,
            "created_at": NOW,
            "updated_at": NOW,
            **more,
        }
    )


def broker_info() -> BrokerInfo:
    return BrokerInfo(
        name="test",
        version="0",
        pubkey=BROKER.public,
        network="regtest",
        node=BROKER_NODE,
        fee_base_msat=Msat(1_000),
        fee_ppm=10_000,
        min_price_msat=Msat(1),
        max_price_msat=Msat(1_000_000_000),
        max_body_bytes=262_144,
        max_final_cltv=144,
        now=NOW,
    )
