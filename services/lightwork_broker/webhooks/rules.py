"""Where a broker may send something for a stranger: only to public addresses, only over TLS.

A URL from a stranger, fetched by a server, reaches what the stranger cannot: the server's own network, its cloud's
metadata, its node. So the address that is connected to is looked at, not the name (CWE-918).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2_048
_NAT64 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ip_network("::/96")
_UNICAST = ip_network("2000::/3")
"""All of IPv6 that is handed out to the Internet (RFC 4291); what lies outside, such as fec0::/10, was once local."""
_RELAYS = ip_network("192.88.99.0/24")
"""Where 6to4 relays were (RFC 7526): a packet to it goes on to wherever the nearest one sends it."""


class UrlRefused(ValueError):
    """A URL that nothing is sent to; the text says why."""


def read_url(url: str, *, private: bool) -> SplitResult:
    """Return the parts of a URL that may be called; its name is not looked up.

    Args:
        private: let plain HTTP and addresses that are not public pass, for a market on one's own machine.

    Raises:
        UrlRefused
    """
    if (
        len(url) > MAX_URL
        or not url.isascii()
        or any(c <= " " or c in '\\"<>^`{|}' or c == "\x7f" for c in url)
    ):
        raise UrlRefused("a URL is printable ASCII without blanks, of at most 2048 characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UrlRefused("this is no URL") from error
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        raise UrlRefused("only https:// is called")
    if not host or port == 0:
        raise UrlRefused("the URL names no host")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UrlRefused("a URL holds no user and no password")
    if parts.fragment:
        raise UrlRefused("a URL holds no fragment")
    if "%" in host:
        raise UrlRefused("the host's name is malformed")
    literal = _literal(host)
    if literal is not None:
        require_public(literal, private=private)
    elif not private and (
        host.rstrip(".").rpartition(".")[2].isdigit() or host.startswith("0x") or "." not in host.rstrip(".")
    ):
        # 127.1, 2130706433, 0x7f.1: what some resolvers take for an address; and names of a local network.
        raise UrlRefused("the host is not a public name")
    return parts


def require_public(address: IPv4Address | IPv6Address, *, private: bool) -> None:
    """Require an address that anybody on the Internet could reach.

    Raises:
        UrlRefused
    """
    if private:
        return
    inner = _inside(address)
    if inner is not None:
        require_public(inner, private=False)
    elif not _is_public(address):
        raise UrlRefused("the host is not on the public Internet")


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or not address.is_global:
        return False
    return address in _UNICAST if isinstance(address, IPv6Address) else address not in _RELAYS


def _inside(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for, in any of the ways in which it may."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
