"""The examples of BOLT 11 itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightwork_contracts.bolt11 import InvoiceError, Network, read_invoice

VECTORS = json.loads(Path(__file__).with_name("bolt11_vectors.json").read_text(encoding="utf-8"))


def _named(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[kind]]


@pytest.mark.parametrize("vector", _named("valid"))
def test_a_valid_example_reads_as_the_specification_breaks_it_down(vector: dict[str, Any]) -> None:
    invoice = read_invoice(vector["text"])

    assert invoice.text == vector["text"]
    assert invoice.network is Network(vector["network"])
    for name in (
        "amount_msat",
        "timestamp",
        "expiry_seconds",
        "payment_hash",
        "payment_secret",
        "description",
        "description_hash",
        "min_final_cltv",
    ):
        assert getattr(invoice, name) == vector[name], name
    assert invoice.features == frozenset(vector["features"])
    assert (invoice.metadata.hex() if invoice.metadata is not None else None) == vector["metadata"]
    assert [[version, program.hex()] for version, program in invoice.fallbacks] == vector["fallbacks"]
    hops = [
        [{name: getattr(hop, name) for name in hop.__slots__} for hop in hint] for hint in invoice.route_hints
    ]
    assert hops == vector["hops"]
    if vector["payee"] is not None:
        assert invoice.payee == vector["payee"]


@pytest.mark.parametrize("vector", _named("invalid"))
def test_an_invalid_example_is_refused_for_its_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(InvoiceError) as caught:
        read_invoice(vector["text"])
    assert caught.value.code == vector["code"]
