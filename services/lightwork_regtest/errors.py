"""What can go wrong with a regtest network: one class per cause, each with a stable code and an exit code."""

from __future__ import annotations

from typing import ClassVar


class RegtestError(Exception):
    """Base of every error that this package raises on purpose."""

    code: ClassVar[str] = "regtest_error"
    exit_code: ClassVar[int] = 1


class UsageError(RegtestError):
    """The caller asked for something that has no meaning, such as an unknown rung or a bad name."""

    code = "usage"
    exit_code = 2


class BinaryNotFoundError(RegtestError):
    """No rung of the ladder could give the program."""

    code = "no_binary"
    exit_code = 3


class NetworkNotFoundError(RegtestError):
    """No network of that name has been started, or it is down."""

    code = "no_network"
    exit_code = 4


class NodeFailedError(RegtestError):
    """A node did not start, died, or did not become ready in time."""

    code = "node_failed"
    exit_code = 5


class MineRefusedError(RegtestError):
    """Mining that many blocks would take a held HTLC into LND's automatic cancel."""

    code = "mine_refused"
    exit_code = 6


class RpcError(RegtestError):
    """A node answered a call with an error, or did not answer: the outcome may be unknown."""

    code = "rpc_error"
    exit_code = 7


class PortClashError(NodeFailedError):
    """Another program took a port between choosing and listening; the caller picks others."""

    code = "port_clash"
