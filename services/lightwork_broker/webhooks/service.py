"""Sending each event of somebody's jobs to the URL that they gave: in order, at least once, and to nobody's harm."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets

import structlog

from lightwork_broker.clock import Clock, Ids
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import NotFound, WebhookRefused
from lightwork_broker.webhooks import store
from lightwork_broker.webhooks.outgoing import POST_SECONDS, NotDelivered, Outgoing
from lightwork_broker.webhooks.rules import UrlRefused, read_url
from lightwork_broker.webhooks.store import Webhook
from lightwork_contracts.ids import Pubkey, WebhookId
from lightwork_contracts.secret_text import Secret
from lightwork_contracts.wire.jobs import JobEvent
from lightwork_contracts.wire.webhooks import WebhookMessage

log = structlog.stdlib.get_logger()

MOST_OF_OWNER = 5
AT_ONCE = 32
BATCH = 50
TURN_SECONDS = 10.0
"""After so many events or seconds a webhook lets the others send: a slow receiver takes nobody's place for long."""
LEASE_SECONDS = 2 * POST_SECONDS
"""Longer than one event may take. So long after a broker that was killed while it sent, another one goes on."""
LOOK_SECONDS = 0.5
FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 3_600.0
GIVE_UP_SECONDS = 3 * 86_400.0
SECRET_BYTES = 32


class _Overtaken(Exception):
    """The webhook was removed, or another broker sends for it."""


class Webhooks:
    """Adds, lists and removes webhooks, and sends for them."""

    def __init__(
        self, *, database: Database, clock: Clock, ids: Ids, outgoing: Outgoing, private: bool
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._outgoing = outgoing
        self._private = private
        self._sending: dict[WebhookId, asyncio.Task[None]] = {}

    async def add(self, owner: Pubkey, url: str) -> Webhook:
        """Send the events of an owner's jobs to a URL, from now on.

        Raises:
            WebhookRefused: nothing is sent to this URL, or the owner has enough webhooks.
        """
        try:
            read_url(url, private=self._private)
        except UrlRefused as error:
            raise WebhookRefused(str(error), hint="use https:// and a public host") from error
        async with self._database.write() as tx:
            if len(await store.of_owner(tx, owner)) >= MOST_OF_OWNER:
                raise WebhookRefused(f"a key has at most {MOST_OF_OWNER} webhooks", hint="remove one")
            webhook = Webhook(
                id=WebhookId(self._ids.new("whk")),
                owner=owner,
                url=url,
                secret=Secret("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()),
                cursor=await store.last_event(tx),
                retry_at=self._clock.now(),
                created_at=self._clock.now(),
            )
            await store.add(tx, webhook)
        return webhook

    async def mine(self, owner: Pubkey) -> list[Webhook]:
        """Return an owner's webhooks, oldest first."""
        async with self._database.read() as tx:
            return await store.of_owner(tx, owner)

    async def remove(self, owner: Pubkey, webhook_id: str) -> None:
        """Remove a webhook; what it had still to send is not sent.

        Raises:
            NotFound
        """
        async with self._database.write() as tx:
            if not await store.remove(tx, owner, webhook_id):
                raise NotFound(f"you have no webhook {webhook_id}")

    # --- sending ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what there is to send, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Begin to send for each webhook that has something, as many at once as is good."""
        now = self._clock.now()
        farthest = store.Farthest(now + LAST_RETRY_SECONDS, now + LEASE_SECONDS)
        async with self._database.scan() as tx:
            newest = await store.last_event(tx)
            due = await store.due(tx, now=now, farthest=farthest, newest=newest)
            idle = [one for one in due if not await store.has_news(tx, one)]
        if idle:
            # All at once: what others do must not cost each webhook writes of its own.
            async with self._database.write() as tx:
                await store.skip(tx, idle, to=newest, now=now)
        for webhook in due:
            if len(self._sending) >= AT_ONCE:
                return
            if webhook not in idle and webhook.id not in self._sending:
                task = asyncio.create_task(self._send_all(webhook), name=f"send for {webhook.id}")
                self._sending[webhook.id] = task
                task.add_done_callback(lambda done, known=webhook.id: self._ended(known, done))

    async def calm(self) -> None:
        """Wait until nothing is being sent."""
        while self._sending:
            await asyncio.wait(self._sending.values())

    async def close(self) -> None:
        """Stop sending; what was not accepted is sent after the next start."""
        for task in list(self._sending.values()):
            task.cancel()
        await asyncio.gather(*self._sending.values(), return_exceptions=True)
        await self._outgoing.close()

    def _ended(self, webhook_id: WebhookId, task: asyncio.Task[None]) -> None:
        self._sending.pop(webhook_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook.task_failed", webhook=webhook_id, exc_info=error)

    async def _send_all(self, webhook: Webhook) -> None:
        until = self._clock.now() + LEASE_SECONDS
        async with self._database.write() as tx:
            held = await store.lease(tx, webhook, until=until)
        if held is None:
            return  # another broker sends for it
        end = self._clock.now() + TURN_SECONDS
        try:
            async with self._database.scan() as tx:
                newest = await store.last_event(tx)
                events = await store.events(tx, held, after=held.cursor, limit=BATCH)
            for event in events:
                if self._clock.now() > end:
                    break  # others want to send too; the rest is sent in the next turn
                await self._send(held, event)
                held = await self._advance(held, event.seq)
            else:
                if len(events) < BATCH and held.cursor < newest:
                    held = await self._advance(held, newest)  # what lies between was other people's
            async with self._database.write() as tx:
                await store.release(tx, held, now=self._clock.now())
        except _Overtaken:
            return
        except NotDelivered as error:
            await self._failed(held, str(error))
        except Exception as error:
            # A lease that only runs out would have it tried each minute, for ever, and told to nobody.
            log.error("webhook.task_failed", webhook=webhook.id, exc_info=error)
            await self._failed(held, "the broker could not send it")

    async def _send(self, webhook: Webhook, event: JobEvent) -> None:
        message = WebhookMessage(type=event.kind, timestamp=event.at, data=event)
        body = message.model_dump_json().encode()
        headers = signed_headers(webhook, event, body, now=int(self._clock.now()))
        await self._outgoing.post(webhook.url, body, headers=headers)

    async def _advance(self, webhook: Webhook, to: int) -> Webhook:
        async with self._database.write() as tx:
            moved = await store.advance(tx, webhook, to=to, until=self._clock.now() + LEASE_SECONDS)
        if moved is None:
            raise _Overtaken
        return moved

    async def _failed(self, webhook: Webhook, cause: str) -> None:
        now = self._clock.now()
        async with self._database.write() as tx:
            known = next(
                (one for one in await store.of_owner(tx, webhook.owner) if one.id == webhook.id), None
            )
            if known is None:
                return  # removed meanwhile
            since = known.failing_since or now
            wait = min(FIRST_RETRY_SECONDS * 2**known.tries, LAST_RETRY_SECONDS)
            noted = await store.fail(
                tx,
                webhook,
                tries=min(known.tries + 1, 30),
                failing_since=since,
                last_error=cause,
                retry_at=now + wait,
                disabled=now - since > GIVE_UP_SECONDS,
            )
        if noted:
            log.info("webhook.not_delivered", webhook=webhook.id, cause=cause)


def signed_headers(webhook: Webhook, event: JobEvent, body: bytes, *, now: int) -> dict[str, str]:
    """Return the headers of Standard Webhooks 1.0: the same id at each try, an HMAC-SHA256 over id, time and body."""
    message_id = message_id_of(webhook.id, event)
    key = base64.b64decode(webhook.secret.reveal().removeprefix("whsec_"))
    signature = hmac.new(key, f"{message_id}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


def message_id_of(webhook_id: WebhookId, event: JobEvent) -> str:
    """Return what tells a message that comes again: the same for one event always, and for no other.

    An older copy of the database gives the numbers of events that it has forgotten to others, and a receiver drops
    what has an id that it knows; so the id holds a digest of what the event says.
    """
    said = [event.seq, event.job_id, event.kind, event.status.value, event.data, event.at]
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return f"msg_{webhook_id}_{event.seq}_{digest[:32]}"
