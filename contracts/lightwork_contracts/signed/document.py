"""A frozen model as the content of a signed event: one model, one text, one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lightwork_contracts.errors import CanonicalError, EventCode, EventError
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.signed.canonical import canonical_json, parse_canonical
from lightwork_contracts.signed.event import (
    LAST_SECOND,
    MAX_CONTENT_BYTES,
    SignedEvent,
    sign_event,
    verify_event,
)
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.kinds import Kind

Seconds = Annotated[int, Field(ge=0, le=10 * 365 * 86_400, strict=True)]
UnixSecond = Annotated[int, Field(ge=0, le=LAST_SECOND, strict=True)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ID_PATTERN = r"^[a-z]{1,8}_[0-9a-z]{26}$"


class Document(BaseModel):
    """What is signed: frozen; a field that we do not know is an error, for its signer meant something."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


Doc = TypeVar("Doc", bound=Document)


def canonical_text(document: Document) -> bytes:
    """Return the one text of a document: its canonical JSON, with every field written out."""
    return canonical_json(document.model_dump(mode="json"))


def document_hash(document: Document) -> str:
    """Return the SHA-256 of the document's canonical JSON, as hex."""
    return hashlib.sha256(canonical_text(document)).hexdigest()


def sign_document(
    document: Document, *, key: SecretKey, kind: Kind, created_at: int, tags: Sequence[Sequence[str]] = ()
) -> SignedEvent:
    """Return the event of that kind whose content is the document. `created_at` in Unix seconds.

    Raises:
        EventError: the document is larger than an event may be.
    """
    content = canonical_text(document).decode()
    return sign_event(key=key, kind=kind, created_at=created_at, tags=tags, content=content)


def read_document(event: SignedEvent, *, kind: Kind, model: type[Doc]) -> tuple[Pubkey, Doc]:
    """Return who signed and what, after checking the kind, the signature and that the content is canonical.

    Raises:
        EventError: another kind, a wrong id or signature, or content that is not exactly one such document.
    """
    if event.kind != kind:
        raise EventError(EventCode.KIND, f"the event has kind {event.kind}, not {int(kind)} ({kind.name})")
    signer = verify_event(event)
    try:
        parse_canonical(event.content, max_bytes=MAX_CONTENT_BYTES)
        document = model.model_validate_json(event.content)
        exact = canonical_text(document) == event.content.encode()
    except CanonicalError as error:
        raise EventError(EventCode.CONTENT, error.message) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        raise EventError(EventCode.CONTENT, f"{place}: {first['msg']}") from None
    if not exact:
        raise EventError(EventCode.CONTENT, "the content leaves out a field, or writes one in another way")
    return signer, document


def require_tags(event: SignedEvent, expected: Sequence[Sequence[str]]) -> None:
    """Check that the tags repeat the content and say nothing else.

    Raises:
        EventError: they do not.
    """
    if [list(tag) for tag in event.tags] != [list(tag) for tag in expected]:
        raise EventError(EventCode.TAGS, "the tags do not say what the content says")
