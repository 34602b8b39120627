"""A message that comes to one's URL: the broker's, fresh and whole, or refused."""

from __future__ import annotations

import pytest

from lightwork.errors import WebhookInvalid
from lightwork.webhooks import TOLERANCE_SECONDS, read_webhook
from lightwork_broker.webhooks.service import signed_headers
from lightwork_broker.webhooks.store import Webhook
from lightwork_contracts.ids import JobId, Pubkey, WebhookId
from lightwork_contracts.secret_text import Secret
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobEvent
from lightwork_contracts.wire.webhooks import WebhookMessage

NOW = 1_800_000_000
# The example of the specification's text, standardwebhooks.com: a secret, a message and its signature.
SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SPEC_ID, SPEC_TIME = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330
SPEC_BODY = b'{"test": 2432232314}'
SPEC_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
HOOK = Webhook(
    id=WebhookId("whk_1"),
    owner=Pubkey("ab" * 32),
    url="https://x.test",
    secret=Secret(SPEC_SECRET),
    cursor=0,
    created_at=0,
)
EVENT = JobEvent(seq=7, job_id=JobId("job_1"), kind="job.settled", status=JobStatus.SETTLED, at=NOW)
BODY = WebhookMessage(type="job.settled", timestamp=NOW, data=EVENT).model_dump_json().encode()
HEADERS = signed_headers(HOOK, EVENT, BODY, now=NOW)


def test_what_the_broker_sends_is_read() -> None:
    for headers in (HEADERS, {name.title(): value for name, value in HEADERS.items()}):
        message = read_webhook(headers, BODY, secret=SPEC_SECRET, now=NOW + 5)
        assert message.data == EVENT


def test_a_second_signature_beside_ours_does_no_harm() -> None:
    headers = {**HEADERS, "webhook-signature": f"v1a,other {HEADERS['webhook-signature']}"}
    assert read_webhook(headers, BODY, secret=SPEC_SECRET, now=NOW).data == EVENT


def test_the_specifications_own_example_has_the_right_signature() -> None:
    headers = {
        "webhook-id": SPEC_ID,
        "webhook-timestamp": str(SPEC_TIME),
        "webhook-signature": SPEC_SIGNATURE,
    }
    # The signature passes; the body is none of ours.
    with pytest.raises(WebhookInvalid, match="none of ours"):
        read_webhook(headers, SPEC_BODY, secret=SPEC_SECRET, now=SPEC_TIME)


@pytest.mark.parametrize(
    ("changed", "body", "now"),
    [
        pytest.param({}, BODY + b" ", NOW, id="another body"),
        pytest.param({"webhook-id": "msg_other"}, BODY, NOW, id="another id"),
        pytest.param({"webhook-timestamp": str(NOW + 1)}, BODY, NOW, id="another time"),
        pytest.param({"webhook-timestamp": "soon"}, BODY, NOW, id="no time"),
        pytest.param({"webhook-signature": "v1,AAAA"}, BODY, NOW, id="another signature"),
        pytest.param({"webhook-signature": ""}, BODY, NOW, id="no signature"),
        pytest.param({"webhook-id": ""}, BODY, NOW, id="no id"),
        pytest.param({}, BODY, NOW + TOLERANCE_SECONDS + 1, id="played again later"),
        pytest.param({}, BODY, NOW - TOLERANCE_SECONDS - 1, id="from the future"),
    ],
)
def test_anything_else_is_refused(changed: dict[str, str], body: bytes, now: float) -> None:
    with pytest.raises(WebhookInvalid):
        read_webhook({**HEADERS, **changed}, body, secret=SPEC_SECRET, now=now)


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(WebhookInvalid):
        read_webhook(HEADERS, BODY, secret="whsec_???", now=NOW)
