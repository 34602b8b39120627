"""The nodes of one network together: asked side by side, mined for with care."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from lightwork_regtest.description import NetworkDescription
from lightwork_regtest.errors import MineRefusedError, UsageError
from lightwork_regtest.mining import HOLD_EXPIRY_DELTA, highest_safe_blocks
from lightwork_regtest.nodes.bitcoind import Bitcoind
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.polling import until

T = TypeVar("T")
_SYNC_SECONDS = 60.0


class Fleet:
    """Handles on bitcoind and every LND node of a network; closing it leaves them running."""

    def __init__(self, description: NetworkDescription) -> None:
        """Point at the nodes; nothing is asked yet."""
        self.description = description
        self.bitcoind = Bitcoind(description.bitcoind)
        self.nodes = {name: LightningNode(node) for name, node in description.nodes.items()}

    def __enter__(self) -> Self:
        """Use the handles in a `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop the connections."""
        self.close()

    def close(self) -> None:
        """Drop the connections; the nodes go on."""
        self.bitcoind.close()
        for node in self.nodes.values():
            node.close()

    def alive(self) -> list[LightningNode]:
        """Return the LND nodes whose process runs."""
        return [node for node in self.nodes.values() if node.runs()]

    def mine(self, blocks: int, *, force: bool = False) -> int:
        """Mine, wait until every running LND node has followed, and return the new height.

        Raises:
            MineRefusedError: LND would cancel a held HTLC on the way; the message says how many are safe.
            RpcError: a running node does not answer, so that nobody knows what it holds.
        """
        if blocks < 1:
            raise UsageError(f"cannot mine {blocks} blocks")
        if not force:
            held = [htlc for found in each(self.alive(), LightningNode.pending_htlcs) for htlc in found]
            height = self.bitcoind.height()
            safe = highest_safe_blocks(height, (htlc.expiry_height for htlc in held))
            if safe is not None and blocks > safe:
                lowest = min(htlc.expiry_height for htlc in held)
                raise MineRefusedError(
                    f"{blocks} blocks would cancel held payments: the lowest HTLC expiry is {lowest}, "
                    f"the height {height}, and LND acts {HOLD_EXPIRY_DELTA} blocks before; at most {safe} "
                    "are safe now (force to mine all the same)"
                )
        self.bitcoind.generate(blocks)
        height = self.bitcoind.height()
        self.wait_synced(self.alive(), height)
        return height

    def wait_synced(self, nodes: Iterable[LightningNode], height: int) -> None:
        """Wait until the nodes count themselves synced at this height or above.

        Raises:
            NodeFailedError: one of them does not follow in time.
        """

        def wait(node: LightningNode) -> None:
            def synced() -> bool:
                info = node.info()
                return info.synced_to_chain and info.block_height >= height

            until(synced, what=f"{node.name} synced to block {height}", seconds=_SYNC_SECONDS, every=0.05)

        each(nodes, wait)


def each(nodes: Iterable[LightningNode], ask: Callable[[LightningNode], T]) -> list[T]:
    """Ask all nodes at the same time and return the answers in order; the first error is raised."""
    asked = list(nodes)
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return list(pool.map(ask, asked))
