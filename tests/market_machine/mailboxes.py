"""Where webhooks are sent: receivers that are up, down, slow or broken, each of which judges what it is sent.

A receiver knows its owner's events from the committed rows. So an event that comes too early, to the wrong party, with
a wrong signature, or that was never stored, is noticed when it arrives.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpx2
from kill_matrix.virtual_time import LoopTime
from kill_matrix.watched import Life
from market_machine.books import Books
from market_machine.clocks import WallClock

from lightwork_broker.webhooks.outgoing import Address, Outgoing
from lightwork_broker.webhooks.service import GIVE_UP_SECONDS

PUBLIC, PRIVATE = ip_address("93.184.215.14"), ip_address("10.0.0.7")
MODES = ("up", "moody", "down", "slow", "up", "hangs", "broken", "moved", "cut", "private")
"""What a receiver does with what it is sent; `moody` is one of the others after the other."""
MOODS = ("up", "broken", "up", "slow", "down", "up", "cut", "hangs")
SLOW_SECONDS, HANGS_SECONDS = 5.0, 60.0
"""Within what a broker waits for, and beyond it."""
ANSWERS = {"broken": 500, "moved": 302}
CLOCKS_DIFFER_SECONDS = 7_200.0
"""How far the broker's clock can have been set while it measured three days."""

OF_OWNER = (
    "SELECT job_event.seq FROM job_event JOIN job ON job.id = job_event.job_id "
    "WHERE (job.buyer = ? OR job.provider = ?) ORDER BY job_event.seq"
)


@dataclass
class Mailbox:
    """One webhook and its receiver. `accepted` are the events that it has taken and answered with a 2xx."""

    owner: str
    url: str
    begun: int
    """The newest event before it was asked for: none up to this one is sent."""
    due_after: int | None = None
    """The newest event once it was there: each later one must come."""
    id: str = ""
    secret: str = ""
    mode: str = "up"
    accepted: set[int] = field(default_factory=set[int])
    received: Counter[int] = field(default_factory=Counter[int])
    failing_since: float | None = None
    removed_at: float | None = None
    disabled: bool = False

    @property
    def exists(self) -> bool:
        return self.due_after is not None and self.removed_at is None


@dataclass
class PostOffice:
    """All receivers. `breaches` is what no broker may do."""

    books: Books
    clock: WallClock
    boxes: list[Mailbox] = field(default_factory=list[Mailbox])
    breaches: list[str] = field(default_factory=list[str])
    told: list[str] = field(default_factory=list[str])
    """What was sent since it was last read."""
    saw: set[str] = field(default_factory=set[str])
    quiet: bool = True
    """Whether nothing has happened after which an event may come twice."""
    _brokers: int = 0

    def breach(self, text: str) -> None:
        if text not in self.breaches:
            self.breaches.append(text)

    def outgoing(self, life: Life) -> Outgoing:
        """Return what a broker process sends with. A dead one sends nothing."""
        self._brokers += 1
        self.quiet = self.quiet and self._brokers == 1  # two may both have sent it
        return Outgoing(private=False, look_up=self._look_up, transport=_Road(self, life))

    # --- subscribing ------------------------------------------------------------------------------------

    def open(self, owner: str) -> Mailbox:
        """Make a receiver, before its webhook is asked for."""
        url = f"https://box{len(self.boxes)}.example/hook?of={owner[:8]}"
        box = Mailbox(owner=owner, url=url, begun=self._newest())
        self.boxes.append(box)
        return box

    def look(self) -> None:
        """Read which webhooks there are, as after each request about them, and after an older database came back."""
        rows = {row["url"]: row for row in self.books.rows("SELECT * FROM webhook")}
        for box in self.boxes:
            row = rows.pop(box.url, None)
            if row is None:
                if box.exists:
                    box.removed_at = LoopTime().now()
                continue
            if box.due_after is None:
                box.id, box.secret, box.due_after = row["id"], row["secret"], self._newest()
            if row["disabled"] and not box.disabled:
                self._given_up(box)
            box.disabled = bool(row["disabled"])
        if rows:
            self.breach("there is a webhook that nobody has asked for")

    def forget(self) -> None:
        """Go by an older database: what it has not recorded as sent is sent again."""
        rows = {row["url"]: row for row in self.books.rows("SELECT * FROM webhook")}
        for box in self.boxes:
            if (row := rows.get(box.url)) is not None:
                box.accepted = {seq for seq in box.accepted if seq <= row["cursor"]}
                box.disabled = bool(row["disabled"])
        self.quiet = False

    def heal(self) -> None:
        for box in self.boxes:
            box.mode = "up"

    # --- judging ----------------------------------------------------------------------------------------

    def late(self) -> list[str]:
        """Return what is owed to receivers: each event of their owners' that was not taken by them."""
        self.look()
        owed: list[str] = []
        for box in self.boxes:
            missing = [seq for seq in self._owed(box) if seq not in box.accepted]
            if box.exists and not box.disabled and missing:
                owed.append(f"{len(missing)} events for {box.url}, from number {missing[0]}")
        return owed

    def _owed(self, box: Mailbox) -> list[int]:
        after = box.due_after or 0
        return [row["seq"] for row in self.books.rows(OF_OWNER, box.owner, box.owner) if row["seq"] > after]

    def _newest(self) -> int:
        (row,) = self.books.rows("SELECT COALESCE(MAX(seq), 0) AS seq FROM job_event")
        return int(row["seq"])

    def _given_up(self, box: Mailbox) -> None:
        self.saw.add("given up")
        lasted = -1.0 if box.failing_since is None else LoopTime().now() - box.failing_since
        if lasted < GIVE_UP_SECONDS - CLOCKS_DIFFER_SECONDS:
            self.breach(f"a webhook was given up after {lasted:.0f} s of failures")

    def receive(self, request: httpx2.Request) -> Mailbox:
        """Judge one message, and return the receiver that it is for."""
        box = next((one for one in self.boxes if one.url == _url_of(request)), None)
        if box is None:
            self.breach(f"a message was sent to {request.url}, which nobody has given")
            raise httpx2.ConnectError("nobody is there")
        self.told.append(request.content.decode())
        if request.url.host != str(PUBLIC):
            self.breach(f"P3 a message was sent to {request.url.host}")
        if not box.id:
            self.look()
        if box.removed_at is not None and LoopTime().now() - box.removed_at > 1:
            self.breach("a message was sent for a webhook that was removed")
        if box.disabled:
            self.breach("a message was sent for a webhook that was given up")
        self._judge(box, request)
        return box

    def _judge(self, box: Mailbox, request: httpx2.Request) -> None:
        headers, message = request.headers, json.loads(request.content)
        event = message["data"]
        seq = event["seq"]
        key = base64.b64decode(box.secret.removeprefix("whsec_"))
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.content
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        if headers["webhook-signature"] != f"v1,{expected}":
            self.breach("a webhook's signature is wrong")
        if abs(int(headers["webhook-timestamp"]) - self.clock.now()) > 1:
            self.breach("a webhook's time is not that of its sending")
        stored = self.books.one(
            "SELECT job_event.*, job.buyer, job.provider FROM job_event JOIN job ON job.id = job_event.job_id "
            "WHERE job_event.seq = ?",
            seq,
        )
        if stored is None or not _same(stored, message):
            self.breach(f"event {seq} was sent, and is not what is stored")
        elif box.owner not in (stored["buyer"], stored["provider"]):
            self.breach("I32 a stranger was told of a job")
        if seq <= box.begun:
            self.breach("an event was sent from before the webhook")
        if missing := [one for one in self._owed(box) if one < seq and one not in box.accepted]:
            self.breach(f"event {seq} was sent before {missing}")
        if self.quiet and seq in box.accepted:
            self.breach(f"event {seq} was sent again although nothing had happened")
        box.received[seq] += 1

    async def _look_up(self, host: str) -> list[Address]:
        """Answer for the names of the receivers; some lie."""
        box = next((one for one in self.boxes if f"//{host}/" in one.url), None)
        if box is not None and box.mode == "private":
            self.failed(box, "private")
            return [PUBLIC, PRIVATE]
        return [PUBLIC]

    def failed(self, box: Mailbox, mood: str) -> None:
        self.saw.add(mood)
        if box.failing_since is None:
            box.failing_since = LoopTime().now()

    def took(self, box: Mailbox, mood: str, seq: int) -> None:
        self.saw.add(mood)
        box.accepted.add(seq)
        if mood == "up":  # what is slow may be too slow for a broker whose time passes in strides
            box.failing_since = None


class _Road(httpx2.AsyncBaseTransport):
    """One broker process's way to the receivers; what is on it is lost when the process dies."""

    def __init__(self, office: PostOffice, life: Life) -> None:
        self._office = office
        self._life = life

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._life.require()
        office = self._office
        box = office.receive(request)
        seq = json.loads(request.content)["data"]["seq"]
        mood = MOODS[sum(box.received.values()) % len(MOODS)] if box.mode == "moody" else box.mode
        match mood:
            case "up" | "slow":
                if mood == "slow":
                    office.quiet = False  # a loop in strides may find it late
                    await asyncio.sleep(SLOW_SECONDS)
                office.took(box, mood, seq)
                return httpx2.Response(204)
            case "hangs":
                office.failed(box, mood)
                await asyncio.sleep(HANGS_SECONDS)
                return httpx2.Response(204)
            case "broken" | "moved":
                office.failed(box, mood)
                return httpx2.Response(ANSWERS[mood], headers={"location": "http://127.0.0.1/"})
            case "cut":
                office.failed(box, mood)
                raise httpx2.ReadError("cut off")
            case _:
                office.failed(box, mood)
                raise httpx2.ConnectError("nobody is there")


def _url_of(request: httpx2.Request) -> str:
    """Return the URL as its owner has given it: the broker connects to an address, and says the name in `Host`."""
    return str(request.url.copy_with(host=request.headers["host"]))


def _same(stored: dict[str, Any], message: dict[str, Any]) -> bool:
    event = message["data"]
    return (stored["job_id"], stored["kind"], stored["status"]) == (
        event["job_id"],
        event["kind"],
        event["status"],
    ) and message["type"] == stored["kind"]
