"""Nostr events (NIP-01): what every signed thing of Lightwork is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated

from coincurve import PublicKeyXOnly
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from lightwork_contracts.errors import EventCode, EventError
from lightwork_contracts.ids import HEX32, Pubkey, PubkeyField
from lightwork_contracts.signed.keys import SecretKey

MAX_CONTENT_BYTES = 64 * 1024
MAX_TAGS = 64
MAX_TAG_ITEMS = 8
MAX_TAG_CHARACTERS = 2048
MAX_KIND = 65_535
LAST_SECOND = 4_102_444_800

_ESCAPES = str.maketrans(
    {"\n": "\\n", '"': '\\"', "\\": "\\\\", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
)

TagItem = Annotated[str, StringConstraints(max_length=MAX_TAG_CHARACTERS)]
Tag = Annotated[tuple[TagItem, ...], Field(min_length=1, max_length=MAX_TAG_ITEMS)]


class SignedEvent(BaseModel):
    """A Nostr event of bounded size. Having one says nothing yet: `verify_event` checks id and signature."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=HEX32)
    pubkey: PubkeyField
    created_at: int = Field(ge=0, le=LAST_SECOND, strict=True, description="Unix time in seconds")
    kind: int = Field(ge=0, le=MAX_KIND, strict=True)
    tags: tuple[Tag, ...] = Field(max_length=MAX_TAGS)
    content: str = Field(max_length=MAX_CONTENT_BYTES)
    sig: str = Field(pattern=r"^[0-9a-f]{128}$")

    @field_validator("content")
    @classmethod
    def _check_bytes(cls, content: str) -> str:
        if len(content.encode()) > MAX_CONTENT_BYTES:
            raise ValueError(f"content has at most {MAX_CONTENT_BYTES} bytes")
        return content

    def tag_values(self, name: str) -> tuple[str, ...]:
        """Return the first value of every tag of that name; a tag without a value counts as empty."""
        return tuple(tag[1] if len(tag) > 1 else "" for tag in self.tags if tag[0] == name)


def event_id(*, pubkey: str, created_at: int, kind: int, tags: Sequence[Sequence[str]], content: str) -> str:
    """Return the NIP-01 id: the SHA-256 of the event's serialisation, as hex."""
    written_tags = ",".join(f"[{','.join(_quote(item) for item in tag)}]" for tag in tags)
    text = f'[0,"{pubkey}",{created_at},{kind},[{written_tags}],{_quote(content)}]'
    return hashlib.sha256(text.encode()).hexdigest()


def _quote(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def sign_event(
    *, key: SecretKey, kind: int, created_at: int, tags: Sequence[Sequence[str]], content: str
) -> SignedEvent:
    """Return an event signed by `key`. `created_at` in Unix seconds.

    Raises:
        EventError: the event would be too large, or a text in it is not Unicode.
    """
    try:
        number = event_id(
            pubkey=key.public, created_at=created_at, kind=int(kind), tags=tags, content=content
        )
        return SignedEvent(
            id=number,
            pubkey=key.public,
            created_at=created_at,
            kind=int(kind),
            tags=tuple(tuple(tag) for tag in tags),
            content=content,
            sig=key.sign(bytes.fromhex(number)).hex(),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EventError(EventCode.MALFORMED, f"the event cannot be made: {place}: {first['msg']}") from None
    except UnicodeEncodeError:
        raise EventError(EventCode.MALFORMED, "a text holds half of a surrogate pair") from None


def verify_event(event: SignedEvent) -> Pubkey:
    """Return the key that signed, after checking the id and the BIP340 signature.

    Raises:
        EventError: the id is not that of the event, or the signature is not that of its key.
    """
    number = event_id(
        pubkey=event.pubkey,
        created_at=event.created_at,
        kind=event.kind,
        tags=event.tags,
        content=event.content,
    )
    if number != event.id:
        raise EventError(EventCode.ID_MISMATCH, "the id is not that of the event: something was changed")
    if not verify_signature(
        bytes.fromhex(event.sig), digest=bytes.fromhex(number), pubkey=bytes.fromhex(event.pubkey)
    ):
        raise EventError(EventCode.SIGNATURE, "the signature is not that of the event's key")
    return event.pubkey


def verify_signature(signature: bytes, *, digest: bytes, pubkey: bytes) -> bool:
    """Whether a BIP340 signature of a message is that of an x-only key; a key off the curve is a no."""
    try:
        return PublicKeyXOnly(pubkey).verify(signature, digest)
    except ValueError:
        return False
