"""A simulated node as the port `LightningNode`."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from lightwork_broker.lightning.ports import Allowance, ChannelSlots, NodeId, NodeSummary, WaitingHtlc
from lightwork_broker.lightning.simulated.channels import SLOTS, Channel, Htlc
from lightwork_broker.lightning.simulated.connection import Connection
from lightwork_broker.lightning.simulated.node_closures import SimulatedClosures
from lightwork_broker.lightning.simulated.node_invoices import SimulatedInvoices
from lightwork_broker.lightning.simulated.node_payouts import SimulatedPayouts
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_broker.lightning.simulated.switchboard import BLOCKS
from lightwork_broker.lightning.simulated.timing import woken
from lightwork_contracts.money import Msat

VERSION = "simulated, after LND 0.21.3"


class SimulatedNode(SimulatedInvoices, SimulatedPayouts, SimulatedClosures):
    """One connection to a node of a `SimulatedNetwork`; the node itself lives in the network."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"SimulatedNode({self._connection.node.name!r})"

    @property
    def name(self) -> str:
        return self._connection.node.name

    @property
    def pubkey(self) -> NodeId:
        """The node's key: known without a call, so that tests can name it."""
        return self._connection.node.pubkey

    async def summary(self) -> NodeSummary:
        board = self._connection.board

        def effect(node: NodeState) -> NodeSummary:
            return NodeSummary(
                pubkey=node.pubkey,
                alias=node.name,
                network=board.network.value,
                block_height=board.height,
                synced_to_chain=node.synced,
                synced_to_graph=node.synced,
                version=VERSION,
                hold_expiry_delta=node.hold_expiry_delta,
            )

        return await self._connection.call("summary", None, effect)

    async def allowance(self) -> Allowance:
        return Allowance()  # there are no macaroons on a simulated network

    async def local_balance_msat(self) -> Msat:
        board = self._connection.board

        def effect(node: NodeState) -> Msat:
            return Msat(sum(channel.owned_msat(node.pubkey) for channel in board.channels_of(node.pubkey)))

        return await self._connection.call("local_balance_msat", None, effect)

    async def channel_slots(self) -> tuple[ChannelSlots, ...]:
        board = self._connection.board

        def effect(node: NodeState) -> tuple[ChannelSlots, ...]:
            return tuple(
                ChannelSlots(
                    active=board.is_active(channel),
                    incoming=channel.sent_by(channel.peer_of(node.pubkey)),
                    most=SLOTS,
                    peer=channel.peer_of(node.pubkey),
                    incoming_msat=Msat(sum(htlc.amount_msat for htlc in _waiting(channel, node))),
                )
                for channel in board.channels_of(node.pubkey)
            )

        return await self._connection.call("channel_slots", None, effect)

    async def waiting_htlcs(self) -> tuple[WaitingHtlc, ...]:
        board = self._connection.board

        def effect(node: NodeState) -> tuple[WaitingHtlc, ...]:
            return tuple(
                WaitingHtlc(
                    peer=htlc.sender, payment_hash=htlc.payment_hash, amount_msat=Msat(htlc.amount_msat)
                )
                for channel in board.channels_of(node.pubkey)
                for htlc in _waiting(channel, node)
            )

        return await self._connection.call("waiting_htlcs", None, effect)

    async def blocks(self) -> AsyncGenerator[int, None]:
        board = self._connection.board
        session = await self._connection.call("blocks", None, lambda node: node.session)
        last: int | None = None
        while True:
            with self._connection.serving(session=session).waiters.on(BLOCKS) as waiter:
                if board.height == last:
                    await woken(board.clock, waiter, seconds=None)
                    continue
            last = board.height
            yield last

    async def close(self) -> None:
        self._connection.is_closed = True
        self._connection.node.waiters.everything_changed()


def _waiting(channel: Channel, node: NodeState) -> list[Htlc]:
    return [htlc for htlc in channel.htlcs.values() if htlc.receiver == node.pubkey]
