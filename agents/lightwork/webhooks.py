"""For whoever is told of jobs by HTTP: is this message the broker's, and what does it say?"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from pydantic import ValidationError

from lightwork.errors import WebhookInvalid
from lightwork_contracts.wire.webhooks import WebhookMessage

TOLERANCE_SECONDS = 300


def read_webhook(headers: Mapping[str, str], body: bytes, *, secret: str, now: float) -> WebhookMessage:
    """Check a message by the rules of Standard Webhooks 1.0, and return it.

    It may come more than once: `webhook-id` is the same each time.

    Args:
        headers: of the request; case does not matter.
        body: exactly as it came.
        secret: what `lightwork webhooks add` has printed, `whsec_...`.
        now: Unix seconds; what was signed more than five minutes from it is refused, so that nobody plays it again.

    Raises:
        WebhookInvalid
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, when = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        age = abs(now - int(when))
    except (binascii.Error, ValueError) as error:
        raise WebhookInvalid("the secret or the time is malformed") from error
    if not message_id or age > TOLERANCE_SECONDS:
        raise WebhookInvalid(f"there is no id, or it was signed more than {TOLERANCE_SECONDS} s from now")
    signed = f"{message_id}.{when}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    given = [part.encode() for part in found.get("webhook-signature", "").split()]
    if not any([hmac.compare_digest(expected, one) for one in given]):  # noqa: C419  (all of them, in equal time)
        raise WebhookInvalid("the signature is not of this secret and this body")
    try:
        return WebhookMessage.model_validate_json(body)
    except ValidationError as error:
        raise WebhookInvalid("the message is none of ours") from error
