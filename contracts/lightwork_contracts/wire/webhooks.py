"""Being told of one's jobs by HTTP, in the form of Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

from pydantic import Field

from lightwork_contracts.ids import WebhookId
from lightwork_contracts.wire.base import Answer, UnixTime, Wire
from lightwork_contracts.wire.jobs import JobEvent


class AddWebhook(Wire):
    """Have each event of each of one's jobs, bought or sold, sent to a URL."""

    url: str = Field(min_length=1, max_length=2_048, examples=["https://example.com/lightwork"])


class WebhookView(Answer):
    """One webhook. While it fails, its events wait and are sent in their order."""

    id: WebhookId
    url: str
    failing_since: UnixTime | None = Field(default=None, description="since when nothing could be delivered")
    last_error: str | None = Field(default=None, description="what became of the last try")
    disabled: bool = Field(
        default=False, description="given up after days of failures: remove it, add it again"
    )
    created_at: UnixTime


class NewWebhook(WebhookView):
    """The webhook that was added, and the secret that signs what it sends: shown this once."""

    secret: str = Field(repr=False, description="`whsec_` and the key in base64")


class WebhookList(Answer):
    webhooks: tuple[WebhookView, ...]


class WebhookMessage(Answer):
    """What is sent. It holds no input, no result and no preimage: read the job for those."""

    type: str = Field(examples=["job.settled"])
    timestamp: UnixTime
    data: JobEvent
