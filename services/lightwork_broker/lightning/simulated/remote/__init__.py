"""The simulated network in a process of its own: `api.py` serves it, `RemoteNode` is a node of it from outside."""

from lightwork_broker.lightning.simulated.remote.node import RemoteNode

__all__ = ["RemoteNode"]
