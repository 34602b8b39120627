"""How much one key and one address may ask for: token buckets, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from lightwork_broker.clock import Clock
from lightwork_broker.errors import Overloaded
from lightwork_broker.problems import problem
from lightwork_contracts.wire.problems import ProblemCode

MAX_BUCKETS = 20_000
BURST_SECONDS = 4
"""A bucket holds what comes in so many seconds: a burst after a pause is nobody's attack."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """Lets each name have `per_second` requests, and bursts of four seconds' worth; 0 is no limit."""

    def __init__(self, *, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._rate = per_second
        self._most = float(per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> bool:
        """Take one token; False when there is none.

        The name that was quiet for longest is forgotten first: its bucket is the fullest.
        """
        if not self._rate:
            return True
        now = self._clock.now()
        bucket = self._buckets.pop(name, None) or _Bucket(self._most, now)
        # A clock that was put back gives nothing, and takes nothing away.
        bucket.tokens = min(self._most, bucket.tokens + max(0.0, now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[name] = bucket
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def require(self, name: str) -> None:
        """Take one token.

        Raises:
            Overloaded: there is none.
        """
        if not self.take(name):
            raise Overloaded(f"more than {self._rate} requests a second", hint="slow down, and try again")


def address_name(address: str) -> str:
    """Return under which name an address is counted: of IPv6 its network, since everybody has 2**64 addresses."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> 64 << 64))


class AddressLimit:
    """Refuses what one address asks beyond its rate, before anything of it is read or verified."""

    def __init__(self, app: ASGIApp, *, limit: RateLimit) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client and not self._limit.take(address_name(client[0])):
            answer = problem(
                ProblemCode.OVERLOADED,
                "this address asks for too much",
                hint="slow down, and try again",
                instance=scope["path"],
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)
