"""Our reading of invoices against LND's, field by field, on invoices that a real LND made; and the reverse."""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from coincurve import PrivateKey

from lightwork_contracts.bolt11 import Hop, Invoice, Network, read_invoice, write_invoice
from lightwork_contracts.money import Msat

pytestmark = pytest.mark.regtest

HASH = hashlib.sha256(b"a preimage that nobody reveals").digest()
DESCRIPTION_HASH = hashlib.sha256(b"a long description elsewhere").digest()
FALLBACK = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def lnd(network: Any) -> Iterator[httpx2.Client]:
    node = network.node("provider")
    with httpx2.Client(
        base_url=node.rest_url,
        verify=ssl.create_default_context(cafile=str(node.tls_cert)),
        headers={"Grpc-Metadata-macaroon": node.admin_macaroon.read_bytes().hex()},
        timeout=20,
    ) as client:
        yield client


def _made(lnd: httpx2.Client, path: str, request: dict[str, Any]) -> str:
    answer = lnd.post(path, json=request)
    answer.raise_for_status()
    return answer.json()["payment_request"]


def _decoded(lnd: httpx2.Client, text: str) -> dict[str, Any]:
    answer = lnd.get(f"/v1/payreq/{text}")
    answer.raise_for_status()
    return answer.json()


def _as_lnd_tells_it(invoice: Invoice) -> dict[str, Any]:
    return {
        "destination": invoice.payee,
        "payment_hash": invoice.payment_hash,
        "payment_addr": _b64(bytes.fromhex(invoice.payment_secret)),
        "num_msat": str(invoice.amount_msat or 0),
        "timestamp": str(invoice.timestamp),
        "expiry": str(invoice.expiry_seconds),
        "description": invoice.description or "",
        "description_hash": invoice.description_hash or "",
        "cltv_expiry": str(invoice.min_final_cltv),
        "features": sorted(invoice.features),
        "route_hints": [
            [
                {
                    "node_id": hop.node,
                    "chan_id": str(hop.short_channel_id),
                    "fee_base_msat": hop.fee_base_msat,
                    "fee_proportional_millionths": hop.fee_proportional_millionths,
                    "cltv_expiry_delta": hop.cltv_expiry_delta,
                }
                for hop in hint
            ]
            for hint in invoice.route_hints
        ],
    }


def _told_by_lnd(decoded: dict[str, Any]) -> dict[str, Any]:
    told = {name: decoded[name] for name in _as_lnd_tells_it(read_invoice(WRITTEN))}
    told["features"] = sorted(int(bit) for bit in decoded["features"])
    told["route_hints"] = [hint["hop_hints"] for hint in decoded["route_hints"]]
    return told


HOP = Hop(
    node=PrivateKey(bytes([9]) * 32).public_key.format().hex(),
    short_channel_id=(700_000 << 40) | (5 << 16) | 1,
    fee_base_msat=Msat(1_000),
    fee_proportional_millionths=2_500,
    cltv_expiry_delta=40,
)

WRITTEN = write_invoice(
    network=Network.REGTEST,
    amount_msat=Msat(123_457),
    timestamp=1_700_000_000,
    payment_hash=HASH.hex(),
    payment_secret="22" * 32,
    private_key=bytes([7]) * 32,
    description="written by us: 杯",
    expiry_seconds=7_200,
    min_final_cltv=144,
    features=frozenset({8, 14, 17}),
    route_hints=((HOP, HOP), (HOP,)),
    metadata=b"metadata",
    names_payee=True,
)

HINTS = [
    {
        "hop_hints": [
            {
                "node_id": HOP.node,
                "chan_id": str(HOP.short_channel_id),
                "fee_base_msat": HOP.fee_base_msat,
                "fee_proportional_millionths": HOP.fee_proportional_millionths,
                "cltv_expiry_delta": HOP.cltv_expiry_delta,
            }
        ]
    }
]

PLAIN, HOLD = "/v1/invoices", "/v2/invoices/hodl"
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (PLAIN, {"value_msat": "10000", "memo": "plain ünïcode 杯"}),
    "odd msat": (PLAIN, {"value_msat": "1"}),
    "large": (PLAIN, {"value_msat": "12345678901"}),
    "hold": (HOLD, {"hash": _b64(HASH), "value_msat": "10001", "memo": "hold", "cltv_expiry": "288"}),
    "description hash": (PLAIN, {"value_msat": "10000", "description_hash": _b64(DESCRIPTION_HASH)}),
    "private hint": (PLAIN, {"value_msat": "10000", "route_hints": HINTS, "private": True}),
    "amountless": (PLAIN, {"memo": "any amount"}),
    "long expiry": (PLAIN, {"value_msat": "10000", "expiry": "31536000"}),
    "short expiry": (PLAIN, {"value_msat": "10000", "expiry": "1"}),
    "fallback": (PLAIN, {"value_msat": "10000", "fallback_addr": FALLBACK}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_an_invoice_made_by_lnd_reads_as_lnd_itself_reads_it(lnd: httpx2.Client, name: str) -> None:
    path, request = REQUESTS[name]
    if path == HOLD:
        # A hash is good for one invoice per node, and this network may be older than this run.
        request = {**request, "hash": _b64(_fresh_hash(lnd))}
    text = _made(lnd, path, request)
    decoded = _decoded(lnd, text)
    if path == HOLD:
        lnd.post("/v2/invoices/cancel", json={"payment_hash": request["hash"]}).raise_for_status()

    invoice = read_invoice(text)

    assert invoice.network is Network.REGTEST
    assert _as_lnd_tells_it(invoice) == _told_by_lnd(decoded)
    assert (invoice.amount_msat is None) == (name == "amountless")
    assert (invoice.description_hash == DESCRIPTION_HASH.hex()) == (name == "description hash")
    assert (HOP in {hop for hint in invoice.route_hints for hop in hint}) == (name == "private hint")
    assert len(invoice.fallbacks) == (1 if name == "fallback" else 0)


def test_an_invoice_written_by_us_reads_the_same_in_lnd(lnd: httpx2.Client) -> None:
    assert _told_by_lnd(_decoded(lnd, WRITTEN)) == _as_lnd_tells_it(read_invoice(WRITTEN))


def test_lnd_refuses_what_we_refuse_as_damaged(lnd: httpx2.Client) -> None:
    assert lnd.get(f"/v1/payreq/{WRITTEN[:-1]}{'q' if WRITTEN[-1] != 'q' else 'p'}").is_error


def _fresh_hash(lnd: httpx2.Client) -> bytes:
    """Return a hash that this node has no invoice for: the number of its invoices names it."""
    answer = lnd.get("/v1/invoices", params={"num_max_invoices": "1", "reversed": "true"})
    answer.raise_for_status()
    return hashlib.sha256(HASH + str(answer.json()["last_index_offset"]).encode()).digest()
