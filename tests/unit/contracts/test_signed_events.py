"""Nostr events: the id of NIP-01 and the signature of BIP 340."""

from __future__ import annotations

import hashlib
import json

import pytest
from pydantic import ValidationError

from lightwork_contracts.errors import EventError
from lightwork_contracts.signed.event import SignedEvent, event_id, sign_event, verify_event
from lightwork_contracts.signed.keys import SecretKey

KEY = SecretKey.generate(bytes([3]) * 32)


def signed(content: str = "hello", tags: tuple[tuple[str, ...], ...] = (("d", "echo"),)) -> SignedEvent:
    return sign_event(key=KEY, kind=1, created_at=1_700_000_000, tags=tags, content=content)


def test_a_signed_event_verifies_and_survives_json() -> None:
    event = signed('ünï 😀 "quoted" \\ \n\t\r\b\f', (("d", 'a"b\n'), ("t",)))
    assert verify_event(SignedEvent.model_validate_json(event.model_dump_json())) == KEY.public


def test_the_id_is_the_sha256_of_the_json_array_of_nip01() -> None:
    event = signed('line\n"quoted" \\ ü', (("d", "x"), ("t", "y", "z")))
    array = [0, KEY.public, 1_700_000_000, 1, [["d", "x"], ["t", "y", "z"]], event.content]
    text = json.dumps(array, separators=(",", ":"), ensure_ascii=False)
    assert event.id == hashlib.sha256(text.encode()).hexdigest()


def test_characters_that_nip01_does_not_name_are_hashed_as_they_are() -> None:
    raw = '[0,"ab",1,2,[],"\x01\x7f/"]'
    number = event_id(pubkey="ab", created_at=1, kind=2, tags=(), content="\x01\x7f/")
    assert number == hashlib.sha256(raw.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"content": "hullo"},
        {"kind": 2},
        {"created_at": 1_700_000_001},
        {"tags": (("d", "other"),)},
        {"tags": ()},
        {"pubkey": SecretKey.generate(bytes([4]) * 32).public},
        {"id": "00" * 32},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_event_with_one_changed_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(EventError) as caught:
        verify_event(signed().model_copy(update=change))
    assert caught.value.code == "event_id_mismatch"


def test_the_signature_of_another_event_and_of_another_key_are_refused() -> None:
    event, other = signed(), signed("other")
    stolen = sign_event(
        key=SecretKey.generate(bytes([4]) * 32), kind=1, created_at=1_700_000_000, tags=(), content="hello"
    )
    for sig in (other.sig, stolen.sig, "00" * 64, "ff" * 64):
        with pytest.raises(EventError) as caught:
            verify_event(event.model_copy(update={"sig": sig}))
        assert caught.value.code == "event_signature"


def test_a_key_that_is_no_point_of_the_curve_is_refused() -> None:
    pubkey = "ff" * 32
    number = event_id(pubkey=pubkey, created_at=1, kind=1, tags=(), content="")
    event = SignedEvent(id=number, pubkey=pubkey, created_at=1, kind=1, tags=(), content="", sig="00" * 64)  # pyright: ignore[reportArgumentType] - a wire text
    with pytest.raises(EventError) as caught:
        verify_event(event)
    assert caught.value.code == "event_signature"


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        ("x" * 65_537, ()),
        ("é" * 32_769, ()),
        ("\ud800", ()),
        ("", tuple(("t", str(n)) for n in range(65))),
        ("", (("t",) * 9,)),
        ("", ((),)),
        ("", (("t", "x" * 2049),)),
    ],
    ids=["content", "bytes", "surrogate", "tags", "items", "empty tag", "tag value"],
)
def test_an_oversize_event_is_not_signed(content: str, tags: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(EventError) as caught:
        signed(content, tags)
    assert caught.value.code == "event_malformed"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "change",
    [
        {"created_at": "1700000000"},
        {"created_at": 1.0},
        {"kind": True},
        {"id": "AB" * 32},
        {"extra": 1},
        {"sig": "00" * 63},
        {"pubkey": "zz" * 32},
        {"id": "00" * 32 + "\n"},
        {"tags": [[1]]},
    ],
    ids=str,
)
def test_an_event_of_another_form_is_refused(change: dict[str, object]) -> None:
    fields = signed().model_dump(mode="json") | change
    with pytest.raises(ValidationError):
        SignedEvent.model_validate_json(json.dumps(fields))
