"""Free ports, chosen by binding them."""

from __future__ import annotations

import socket
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that were free on 127.0.0.1 a moment ago.

    Another program may take one before it is used: whoever starts a node must be ready to choose again.
    """
    with ExitStack() as open_sockets:
        ports: list[int] = []
        for _ in range(count):
            # All stay bound until the last is chosen, so that none is given twice.
            chosen = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            chosen.bind((LOOPBACK, 0))
            ports.append(int(chosen.getsockname()[1]))
        return ports


def is_free(port: int) -> bool:
    """Tell whether a node could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
