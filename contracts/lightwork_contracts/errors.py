"""What reading and signing can refuse: one class per subject, each error with a stable code."""

from __future__ import annotations

from enum import StrEnum


class InvoiceCode(StrEnum):
    """Why a BOLT11 invoice was refused. Stable: never renamed or reused."""

    TOO_LONG = "invoice_too_long"
    MALFORMED = "invoice_malformed"
    CHECKSUM = "invoice_checksum"
    NETWORK = "invoice_network"
    AMOUNT = "invoice_amount_malformed"
    FIELD = "invoice_field"
    FEATURES = "invoice_features"
    SIGNATURE = "invoice_signature"


class EventCode(StrEnum):
    """Why a signed event was refused. Stable: never renamed or reused."""

    MALFORMED = "event_malformed"
    KIND = "event_kind"
    ID_MISMATCH = "event_id_mismatch"
    SIGNATURE = "event_signature"
    CONTENT = "event_content"
    TAGS = "event_tags"


class AuthCode(StrEnum):
    """Why a request's signature was refused. Stable: never renamed or reused."""

    MISSING = "auth_missing"
    MALFORMED = "auth_malformed"
    KIND = "auth_kind"
    URL_MISMATCH = "auth_url_mismatch"
    METHOD_MISMATCH = "auth_method_mismatch"
    PAYLOAD_MISMATCH = "auth_payload_mismatch"
    STALE = "auth_stale"
    SIGNATURE = "auth_signature"
    REPLAYED = "auth_replayed"
    GUARD_FULL = "auth_guard_full"


class KeyCode(StrEnum):
    """Why a secret key was refused. Stable: never renamed or reused."""

    MALFORMED = "key_malformed"
    FILE_MISSING = "key_file_missing"
    FILE_EXPOSED = "key_file_exposed"
    FILE_EXISTS = "key_file_exists"
    FILE_UNREADABLE = "key_file_unreadable"


class CanonicalCode(StrEnum):
    """Why a value has no canonical JSON. Stable: never renamed or reused."""

    VALUE = "canonical_value"
    DEPTH = "canonical_depth"
    SIZE = "canonical_size"


class ContractError(Exception):
    """The base of what this package raises. `code` is stable, `message` is for people and may change."""

    def __init__(self, code: StrEnum, message: str) -> None:
        super().__init__(code, message)
        self.code: str = code.value
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvoiceError(ContractError):
    """A text is not a BOLT11 invoice that may be relied on."""

    def __init__(self, code: InvoiceCode, message: str) -> None:
        super().__init__(code, message)


class EventError(ContractError):
    """A signed event is malformed, not signed by its key, or does not say what its kind must say."""

    def __init__(self, code: EventCode, message: str) -> None:
        super().__init__(code, message)


class AuthError(ContractError):
    """A request is not signed by a key, for this request, now, for the first time."""

    def __init__(self, code: AuthCode, message: str) -> None:
        super().__init__(code, message)


class KeyFault(ContractError):
    """A secret key cannot be used. The message never holds any part of the key."""

    def __init__(self, code: KeyCode, message: str) -> None:
        super().__init__(code, message)


class CanonicalError(ContractError):
    """A value has no canonical JSON form."""

    def __init__(self, code: CanonicalCode, message: str) -> None:
        super().__init__(code, message)
