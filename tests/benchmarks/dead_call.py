"""For how long the kernel keeps what a killed process had sent, as a share of what a withdrawal may wait for it.

A process writes to a connection on which nothing is acknowledged any more, and is killed. Once with the time-out that
our connection to LND has and once without, packets pass again after a while, and the server says whether the bytes
have come. All of it in network namespaces of its own, for which `unshare --net` is enough; Linux only.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import time
from multiprocessing.connection import Connection

from lightwork_broker.lightning.conclusion import GRACE_SECONDS, STALE_SECONDS
from lightwork_broker.lightning.lnd_connection import UNACKNOWLEDGED_MS

LIMIT_SECONDS = GRACE_SECONDS - STALE_SECONDS
OURS, THEIRS = "10.9.0.1", "10.9.0.2"
NOWHERE = "02:00:00:00:00:99"
LISTEN_SECONDS = 90


def main() -> None:
    there = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        mac = _wire(there.pid)
        _measure(there.pid, mac, timeout_ms=UNACKNOWLEDGED_MS)
        _measure(there.pid, mac, timeout_ms=0)
    finally:
        there.kill()
        there.wait()


def _measure(there: int, mac: str, *, timeout_ms: int) -> None:
    with _listen(there) as server:
        address = server.getsockname()
        mine, its = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_call, args=(address, its, timeout_ms))
        child.start()
        connection = server.accept()[0]
        mine.recv()
        _route(NOWHERE)
        mine.send("go on")
        mine.recv()
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        died = time.monotonic()
        kept = _wait_until_gone(address[1], since=died)
        _route(mac)
        connection.settimeout(LISTEN_SECONDS)
        try:
            heard = f"the server then reads {connection.recv(100)!r}"
        except TimeoutError:
            heard = f"the server then reads nothing for {LISTEN_SECONDS} s"
    name = f"time-out of {timeout_ms / 1000:.0f} s" if timeout_ms else "no time-out"
    share = (
        ""
        if kept is None
        else f"gone after {kept:.1f} s, {kept / LIMIT_SECONDS:.2f} of the {LIMIT_SECONDS} s; "
    )
    print(f"{name}: {share or f'not gone in {LIMIT_SECONDS} s; '}{heard}", flush=True)


def _call(address: tuple[str, int], pipe: Connection, timeout_ms: int) -> None:
    with socket.create_connection(address) as one:
        if timeout_ms:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
        pipe.send("connected")
        pipe.recv()
        one.sendall(b"pay")
        pipe.send("sent")
        signal.pause()


def _wait_until_gone(port: int, *, since: float) -> float | None:
    """Return after how many seconds the kernel has let go of the connection to a port; None if it has not."""
    while (waited := time.monotonic() - since) < LIMIT_SECONDS:
        if not _run("ss", "-tanH", "dport", "=", f":{port}").strip():
            return waited
        time.sleep(0.1)
    return None


def _wire(there: int) -> str:
    """Lay a wire between the two namespaces; return the other end's hardware address."""
    inside = ("nsenter", "--target", str(there), "--net")
    while _run("readlink", f"/proc/{there}/ns/net") == _run("readlink", "/proc/self/ns/net"):
        time.sleep(0.01)
    _run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", str(there))
    _run("ip", "addr", "add", f"{OURS}/24", "dev", "va")
    _run("ip", "link", "set", "va", "up")
    _run(*inside, "ip", "addr", "add", f"{THEIRS}/24", "dev", "vb")
    _run(*inside, "ip", "link", "set", "vb", "up")
    found = re.search(r"link/ether (\S+)", _run(*inside, "ip", "-o", "link", "show", "vb"))
    assert found is not None
    _route(found[1])
    return found[1]


def _route(mac: str) -> None:
    """Send packets to this hardware address; at one that nobody has, they are lost without a word."""
    _run("ip", "neigh", "replace", THEIRS, "lladdr", mac, "dev", "va")


def _listen(there: int) -> socket.socket:
    """Open a server in the other namespace."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/self/ns/net", "rb") as here, open(f"/proc/{there}/ns/net", "rb") as other:
        assert setns(other.fileno(), 0) == 0
        try:
            return socket.create_server((THEIRS, 0))
        finally:
            assert setns(here.fileno(), 0) == 0


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
