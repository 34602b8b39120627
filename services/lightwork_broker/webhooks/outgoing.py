"""One POST to a stranger's URL: the name is looked up once, each address judged, and the judged one connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

import httpx2

from lightwork_broker.webhooks.rules import UrlRefused, read_url, require_public

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[Address]]]

POST_SECONDS = 10.0

_LOOK_UPS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="look up")
"""Threads of their own: a stranger's name server that says nothing holds one for long, and nobody can end that. In the
threads that all share, results are checked and the books are read.
"""


class NotDelivered(Exception):
    """Nothing was accepted at the URL. The text is a word or two of ours: what came back is told to nobody."""


async def resolve(host: str) -> list[Address]:
    """Look a name up, once."""
    loop = asyncio.get_running_loop()
    asking = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
    found = await loop.run_in_executor(_LOOK_UPS, asking)
    return [ip_address(str(item[4][0]).partition("%")[0]) for item in found]


class Outgoing:
    """Sends to public addresses only, unless `private`; over the network, unless another `transport` is given."""

    def __init__(
        self,
        *,
        private: bool,
        look_up: Resolve = resolve,
        seconds: float = POST_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._private = private
        self._seconds = seconds
        self._look_up = look_up
        # No proxy and no redirect: both would connect to what was not judged.
        self._client = httpx2.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(seconds),
            limits=httpx2.Limits(max_keepalive_connections=0),
            transport=transport,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def post(self, url: str, content: bytes, *, headers: Mapping[str, str]) -> None:
        """Send, and return if the answer is a 2xx. The answer's body is not read.

        Raises:
            NotDelivered
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._post(url, content, headers=headers)
        except UrlRefused as error:
            raise NotDelivered(str(error)) from error
        except TimeoutError as error:
            raise NotDelivered("no answer in time") from error
        except (OSError, httpx2.HTTPError) as error:
            raise NotDelivered("no connection") from error
        except (UnicodeError, httpx2.InvalidURL) as error:
            # A label of more than 63 characters, for one: the resolver does not even ask.
            raise NotDelivered("the host's name is malformed") from error

    async def _post(self, url: str, content: bytes, *, headers: Mapping[str, str]) -> None:
        parts = read_url(url, private=self._private)
        host = parts.hostname or ""
        addresses = await self._look_up(host)
        if not addresses:
            raise NotDelivered("the host has no address")
        for address in addresses:
            require_public(address, private=self._private)
        pinned = f"[{addresses[0]}]" if addresses[0].version == 6 else str(addresses[0])
        place = pinned if parts.port is None else f"{pinned}:{parts.port}"
        request = self._client.build_request(
            "POST",
            parts._replace(netloc=place).geturl(),
            content=content,
            headers={**headers, "Host": parts.netloc, "User-Agent": "lightwork-webhooks"},
            # The certificate must be the name's, although the address is what is connected to.
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        if not 200 <= response.status_code < 300:
            raise NotDelivered(f"answered {response.status_code}")
