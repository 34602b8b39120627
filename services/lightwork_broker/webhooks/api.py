"""Webhooks over HTTP."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Path, Request

from lightwork_broker.identity.api import Caller
from lightwork_broker.problems import SIGNED, documented
from lightwork_broker.webhooks.service import Webhooks
from lightwork_broker.webhooks.store import Webhook
from lightwork_contracts.wire.problems import ProblemCode as P
from lightwork_contracts.wire.webhooks import AddWebhook, NewWebhook, WebhookList, WebhookView

router = APIRouter(tags=["webhooks"])


def _webhooks(request: Request) -> Webhooks:
    return cast("Webhooks", request.app.state.webhooks)


@router.post(
    "/v1/webhooks",
    summary="Be told of your jobs at a URL",
    status_code=201,
    responses=documented(*SIGNED, P.WEBHOOK_REFUSED),
)
async def add(request: Request, caller: Caller, body: AddWebhook) -> NewWebhook:
    """Each event of each job that you buy or sell, from now on, in order and at least once: `webhook-id` tells
    a repeated one. Signed as Standard Webhooks say; the secret is shown this once.
    """
    added = await _webhooks(request).add(caller, body.url)
    return NewWebhook(**webhook_view(added).model_dump(), secret=added.secret.reveal())


@router.get("/v1/webhooks", summary="List your webhooks", responses=documented(*SIGNED))
async def mine(request: Request, caller: Caller) -> WebhookList:
    """`failing_since` and `last_error` say whether what is sent arrives."""
    return WebhookList(webhooks=tuple(webhook_view(one) for one in await _webhooks(request).mine(caller)))


@router.delete(
    "/v1/webhooks/{webhook_id}",
    summary="Remove a webhook",
    status_code=204,
    responses=documented(*SIGNED, P.NOT_FOUND),
)
async def remove(
    request: Request,
    caller: Caller,
    webhook_id: Annotated[str, Path(max_length=64, examples=["whk_01k5..."])],
) -> None:
    """What it had still to send is not sent."""
    await _webhooks(request).remove(caller, webhook_id)


def webhook_view(webhook: Webhook) -> WebhookView:
    """Return a webhook as its owner sees it, without the secret."""
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        failing_since=None if webhook.failing_since is None else int(webhook.failing_since),
        last_error=webhook.last_error,
        disabled=webhook.disabled,
        created_at=int(webhook.created_at),
    )
