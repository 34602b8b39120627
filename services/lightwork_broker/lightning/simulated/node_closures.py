"""The port `Closures` on a simulated node. A channel that counts as closed there lives on all the same."""

from __future__ import annotations

from lightwork_broker.lightning.closures import Closure, HtlcEnd, IncomingHtlc
from lightwork_broker.lightning.ports import InvoiceState, NodeId
from lightwork_broker.lightning.simulated.channels import Channel
from lightwork_broker.lightning.simulated.connection import Connection
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MSAT_PER_SAT, Msat


class SimulatedClosures:
    """What became of HTLCs. On the chain they end within one block, so nothing is ever on its way there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def closures(self) -> tuple[Closure, ...]:
        board = self._connection.board

        def effect(node: NodeState) -> tuple[Closure, ...]:
            return tuple(
                _closure(channel, node.pubkey)
                for channel in board.channels_of(node.pubkey)
                if channel.closed_at is not None
            )

        return await self._connection.call("closures", None, effect)

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        def effect(node: NodeState) -> tuple[IncomingHtlc, ...]:
            invoice = node.find(payment_hash, now=self._connection.board.clock.now())
            if invoice is None:
                return ()
            return tuple(
                IncomingHtlc(
                    channel=htlc.channel.number,
                    amount_msat=Msat(htlc.amount_msat),
                    is_settled=invoice.state is InvoiceState.SETTLED,
                    end=htlc.end,
                )
                for htlc in invoice.accepted
            )

        return await self._connection.call("incoming_htlcs", payment_hash, effect)


def _closure(channel: Channel, node: NodeId) -> Closure:
    def amounts(end: HtlcEnd) -> tuple[int, ...]:
        ended = (htlc for htlc in channel.on_chain if htlc.receiver == node and htlc.on_chain is end)
        return tuple(sorted(htlc.amount_msat // MSAT_PER_SAT for htlc in ended))

    return Closure(
        # One that was really closed and opened again would be another one.
        point=f"{channel.number}:{len(channel.on_chain)}",
        channel=channel.number,
        height=channel.closed_at,
        taken_sat=amounts(HtlcEnd.TAKEN),
        returned_sat=amounts(HtlcEnd.RETURNED),
    )
