"""The vectors of BIP 340 itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightwork_contracts.signed.event import verify_signature
from lightwork_contracts.signed.keys import SecretKey

VECTORS = json.loads(Path(__file__).with_name("bip340_vectors.json").read_text(encoding="utf-8"))["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["index"]))
def test_a_signature_holds_exactly_where_the_vector_says_so(vector: dict[str, Any]) -> None:
    holds = verify_signature(
        bytes.fromhex(vector["signature"]),
        digest=bytes.fromhex(vector["message"]),
        pubkey=bytes.fromhex(vector["pubkey"]),
    )
    assert holds is vector["holds"]


def test_the_vector_signed_without_randomness_is_what_our_key_signs() -> None:
    vector = VECTORS[0]
    assert vector["aux"] == "00" * 32
    key = SecretKey.from_hex(vector["secret"])
    assert key.public == vector["pubkey"]
    assert key.sign(bytes.fromhex(vector["message"])).hex() == vector["signature"]
