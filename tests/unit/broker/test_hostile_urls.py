"""URLs from strangers: nothing is sent where the stranger could not go himself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest
from webhook_receiver import Receiver

from lightwork_broker.webhooks.outgoing import Address, NotDelivered, Outgoing, resolve
from lightwork_broker.webhooks.rules import UrlRefused, read_url, require_public

T = TypeVar("T")

HOSTILE = [
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com:6379/_FLUSHALL",
    "//example.com/",
    "example.com",
    "https://",
    "https:///path",
    "https://localhost/",
    "https://localhost./",
    "https://broker/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://172.16.5.4/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::127.0.0.1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[ff02::1]/",
    "https://[2001:db8::1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com#@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/ x",
    "https://exa\tmple.com/",
    "https://example.com/\r\nHost: evil",
    "https://ⓔxample.com/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:port/",
    "https://[::1/",
    "https://127.0.0.1.:443/",
    "https://0x7f.1/",
    "https://017700000001/",
    "https://0300.0250.1.1/",
    "https://3232235777/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://127\u30020\u30020\u30021/",
    "https://example\u3002com/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[0:0:0:0:0:ffff:7f00:1]/",
    "https://[fec0::1]/",
    "https://[ff05::1:3]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.127001]/",
    "https://metadata/",
    "https://100.100.100.200/",
    "https://192.88.99.1/",
    "https://203.0.113.7/",
    "https://a:b:c@10.0.0.1:443/",
    "https://%31%32%37.0.0.1/",
    "https://example.com%00.internal/",
    "data:text/plain,x",
    "dict://127.0.0.1:11211/stat",
    "unix:///var/run/docker.sock",
    "javascript:alert(1)",
    "https://" + "a" * 2_050,
]
PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "169.254.169.254",
    "100.100.100.200",
    "::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "2002:a00:1::",
    "fd00::1",
    "fe80::1",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_before_any_name_is_looked_up(url: str) -> None:
    with pytest.raises(UrlRefused):
        read_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://example.com:8443/hook?x=1",
        "https://sub.example.co.uk/a/b",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]/",
        "https://xn--bcher-kva.example.com/",
        "https://1.example.com/",
    ],
)
def test_a_public_url_passes(url: str) -> None:
    assert read_url(url, private=False).hostname


@pytest.mark.parametrize("address", PRIVATE)
async def test_a_public_name_with_a_private_address_is_not_connected_to(address: str) -> None:
    outgoing = Outgoing(private=False, look_up=_says("93.184.216.34", address))
    with pytest.raises(NotDelivered, match="not on the public Internet"):
        await outgoing.post("https://hooks.example.com/", b"{}", headers={})
    await outgoing.close()


def test_what_is_not_public_is_refused_in_every_form() -> None:
    for address in PRIVATE:
        with pytest.raises(UrlRefused):
            require_public(ip_address(address), private=False)


@pytest.fixture
def server() -> Generator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


async def test_the_address_that_was_judged_is_the_one_that_is_connected_to(server: Receiver) -> None:
    asked: list[str] = []

    async def rebinding(host: str) -> list[Address]:
        asked.append(host)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "127.0.0.2")]

    outgoing = Outgoing(private=True, look_up=rebinding)
    await outgoing.post(f"http://hooks.test:{server.port}/here?x=1", b"hello", headers={"X-One": "1"})
    await outgoing.close()
    assert asked == ["hooks.test"]
    assert [(got.path, got.headers["Host"], got.body) for got in server.seen] == [
        ("/here?x=1", f"hooks.test:{server.port}", b"hello")
    ]


async def test_a_redirect_is_not_followed_and_is_no_delivery(server: Receiver) -> None:
    server.answers = (302, {"Location": f"http://127.0.0.1:{server.port}/inner"}, b"")
    outgoing = Outgoing(private=True)
    with pytest.raises(NotDelivered, match="answered 302"):
        await outgoing.post(f"http://127.0.0.1:{server.port}/", b"{}", headers={})
    await outgoing.close()
    assert [got.path for got in server.seen] == ["/"]


async def test_an_answer_of_any_size_is_not_read_and_not_told(server: Receiver) -> None:
    server.answers = (500, {}, b"the secret of an inner service " * 1_000_000)
    outgoing = Outgoing(private=True)
    with pytest.raises(NotDelivered) as refused:
        await outgoing.post(f"http://127.0.0.1:{server.port}/", b"{}", headers={})
    await outgoing.close()
    assert str(refused.value) == "answered 500"


async def test_an_answer_that_does_not_come_is_not_waited_for(server: Receiver) -> None:
    server.go_on.clear()
    outgoing = Outgoing(private=True, seconds=0.3)
    with pytest.raises(NotDelivered, match=r"^no answer in time$|^no connection$"):
        await outgoing.post(f"http://127.0.0.1:{server.port}/", b"{}", headers={})
    await outgoing.close()


@pytest.mark.parametrize("piece", [b"X-Long: " + b"a" * 65_536, b"HTTP/1.1 200 OK\r\n", b"X"])
async def test_headers_without_end_are_not_read_for_ever(piece: bytes) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                # Slower than any limit on one read, faster than any limit on silence.
                await asyncio.wait({asyncio.ensure_future(reader.read(1))}, timeout=0.01)

    served = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = served.sockets[0].getsockname()[1]
    outgoing = Outgoing(private=True, seconds=0.5)
    with pytest.raises(NotDelivered) as refused:
        await outgoing.post(f"http://127.0.0.1:{port}/", b"{}", headers={})
    await outgoing.close()
    served.close()
    assert str(refused.value) in ("no answer in time", "no connection")


@pytest.mark.parametrize(
    "answers", [("93.184.216.34", "10.0.0.1"), ("10.0.0.1", "93.184.216.34"), ("2606:2800::1", "::1")]
)
async def test_one_private_address_among_public_ones_is_enough_to_refuse(answers: tuple[str, ...]) -> None:
    outgoing = Outgoing(private=False, look_up=_says(*answers))
    with pytest.raises(NotDelivered, match="not on the public Internet"):
        await outgoing.post("https://hooks.example.com/", b"{}", headers={})
    await outgoing.close()


async def test_a_closed_port_is_told_like_any_other_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outgoing = Outgoing(private=True)
    with pytest.raises(NotDelivered, match=r"^no connection$"):
        await outgoing.post(f"http://127.0.0.1:{port}/", b"{}", headers={})
    await outgoing.close()


async def test_the_environments_proxy_is_not_used(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    outgoing = Outgoing(private=True)
    await outgoing.post(f"http://127.0.0.1:{server.port}/", b"{}", headers={})
    await outgoing.close()
    assert len(server.seen) == 1


async def test_a_name_is_looked_up_as_the_system_does() -> None:
    assert ip_address("127.0.0.1") in await resolve("localhost")


def _says(*addresses: str):
    async def look_up(host: str) -> list[Address]:
        return [ip_address(address) for address in addresses]

    return look_up


class Watched(ThreadPoolExecutor):
    """The threads that everybody shares, and how often somebody wanted one."""

    wanted = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        self.wanted += 1
        return super().submit(fn, *args, **kwargs)


async def test_a_name_server_that_says_nothing_holds_no_thread_that_others_need() -> None:
    shared = Watched(max_workers=1)
    asyncio.get_running_loop().set_default_executor(shared)
    assert await resolve("localhost") != []
    assert shared.wanted == 0
