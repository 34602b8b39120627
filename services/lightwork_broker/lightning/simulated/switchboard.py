"""Where HTLCs move: along a route, back again, and to their end at a height. Nothing here awaits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from lightwork_broker.lightning.closures import HtlcEnd
from lightwork_broker.lightning.ports import InvoiceState, NodeId, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.channels import Channel, Ending, Htlc, Policy
from lightwork_broker.lightning.simulated.invoices import Invoice
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_broker.lightning.simulated.routes import Edge, Leg, Route
from lightwork_broker.lightning.simulated.timing import Time
from lightwork_contracts.bolt11 import Network, RouteHint
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import MAX_MSAT, Msat

BLOCKS = "blocks"
"""The topic of those who wait for a block."""


LAST_FORWARD_BLOCKS: Final = 3
"""A hop that expires sooner than this is not made (LND: OutgoingCltvRejectDelta)."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One HTLC of a route that is still to be made; `expiry_height` was fixed when the payer sent it."""

    channel: int
    sender: NodeId
    amount_msat: int
    expiry_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A payment on its way: the HTLC that it has reached, and the hops that are left."""

    payment_hash: PaymentHash
    payment_secret: str = field(repr=False)
    hops: tuple[Hop, ...]
    last: Htlc | None = None


class Switchboard:
    """The nodes by public key, the channels by number, and the chain's height.

    Money in an HTLC whose end is decided but not heard, because a node is away, stays locked until both ends of
    its channel serve again, or until its expiry, when the chain decides: the receiver claims if it has the
    preimage and serves, else the sender takes it back. The channel lives on, which a real one would not.
    """

    def __init__(self, *, clock: Time, height: int, network: Network) -> None:
        self.clock = clock
        self.height = height
        self.network = network
        self.nodes: dict[NodeId, NodeState] = {}
        self.channels: dict[int, Channel] = {}
        self.stalled: set[NodeId] = set()
        self._parcels: list[Parcel] = []
        self._htlcs = 0

    def is_active(self, channel: Channel) -> bool:
        return all(self.nodes[end].serves for end in channel.ends)

    def channels_of(self, node: NodeId) -> Iterator[Channel]:
        return (channel for channel in self.channels.values() if node in channel.ends)

    def spendable_msat(self, channel: Channel, node: NodeId) -> int:
        return channel.spendable_msat(node) if self.is_active(channel) else 0

    # --- what a payer knows -------------------------------------------------------------------------------

    def graph(self, payer: NodeId, hints: Iterable[RouteHint], *, payee: NodeId) -> Iterator[Edge]:
        """Yield the edges by what is announced: strangers' channels carry their capacity."""
        for channel in self.channels.values():
            for end in channel.ends:
                if end == payer:
                    yield _edge(channel, end, largest_msat=self.spendable_msat(channel, end))
                elif channel.announced:
                    yield _edge(channel, end, largest_msat=channel.largest_msat)
        yield from (edge for edge, _ in _hinted(hints, payee))

    def ways(self, payer: NodeId, hints: Iterable[RouteHint], *, payee: NodeId) -> Iterator[Edge]:
        """Yield the edges over which money can go now: what many attempts of a real payer would find out."""
        for channel in self.channels.values():
            for end in channel.ends:
                if end == payer or channel.announced:
                    yield _edge(channel, end, largest_msat=self.spendable_msat(channel, end))
        for edge, number in _hinted(hints, payee):
            channel = self.channels.get(number)
            if channel is not None and set(channel.ends) == {edge.sender, edge.receiver}:
                yield _edge(channel, edge.sender, largest_msat=self.spendable_msat(channel, edge.sender))

    # --- money on its way ---------------------------------------------------------------------------------

    def send(self, route: Route, payment_hash: PaymentHash, *, payment_secret: str) -> None:
        """Lock the amount on every hop, and let the payee take it, hold it or turn it away."""
        hops = tuple(
            Hop(_channel(leg), leg.edge.sender, leg.amount_msat, self.height + leg.blocks)
            for leg in route.legs
        )
        self._go_on(Parcel(payment_hash=payment_hash, payment_secret=payment_secret, hops=hops))

    def _go_on(self, parcel: Parcel) -> None:
        """Lock the hops that are left, as far as nobody on the way is stalled."""
        htlc = parcel.last
        for place, hop in enumerate(parcel.hops):
            if htlc is not None and hop.sender in self.stalled:
                self._parcels.append(replace(parcel, hops=parcel.hops[place:], last=htlc))
                return
            channel = self.channels[hop.channel]
            if htlc is not None and not self._may_forward(hop, channel):
                self.end(htlc, Ending(failure=PayoutFailure.NO_ROUTE))
                return
            self._htlcs += 1
            htlc = Htlc(
                number=self._htlcs,
                channel=channel,
                sender=hop.sender,
                receiver=channel.peer_of(hop.sender),
                payment_hash=parcel.payment_hash,
                amount_msat=hop.amount_msat,
                expiry_height=hop.expiry_height,
                upstream=htlc,
            )
            channel.lock(htlc)
        if htlc is not None:
            self._arrive(htlc, payment_secret=parcel.payment_secret)

    def _may_forward(self, hop: Hop, channel: Channel) -> bool:
        """Say whether a hop can still be made: what stood when the route was found may have changed since."""
        in_time = hop.expiry_height > self.height + LAST_FORWARD_BLOCKS
        return in_time and hop.amount_msat <= self.spendable_msat(channel, hop.sender)

    def flow(self) -> None:
        """Send on what is stuck at nodes that are not stalled any more, if it has not gone back meanwhile."""
        parcels, self._parcels = self._parcels, []
        for parcel in parcels:
            if parcel.last is not None and parcel.last.number in parcel.last.channel.htlcs:
                self._go_on(parcel)

    def _arrive(self, htlc: Htlc, *, payment_secret: str) -> None:
        payee, now = self.nodes[htlc.receiver], self.clock.now()
        invoice = payee.find(htlc.payment_hash, now=now)
        if invoice is None or invoice.refuses(
            htlc, payment_secret=payment_secret, height=self.height, now=now
        ):
            self.end(htlc, Ending())
            return
        invoice.accept(htlc)
        if invoice.held:
            payee.moved(invoice)
        elif invoice.preimage is not None:
            self.settle(payee, invoice, invoice.preimage)

    def settle(self, payee: NodeState, invoice: Invoice, preimage: Preimage) -> None:
        for htlc in invoice.settle(preimage):
            self.end(htlc, Ending(preimage.hex()))
        payee.moved(invoice)

    def cancel(self, payee: NodeState, invoice: Invoice) -> None:
        for htlc in invoice.cancel():
            self.end(htlc, Ending())
        payee.moved(invoice)

    def end(self, htlc: Htlc, ending: Ending) -> None:
        """Let the receiver's decision travel back, as far as the nodes on the way serve."""
        htlc.ending = htlc.ending or ending
        if self.is_active(htlc.channel):
            self._conclude(htlc, htlc.ending)

    def _conclude(self, htlc: Htlc, ending: Ending) -> None:
        if htlc.number not in htlc.channel.htlcs:
            return
        htlc.channel.release(htlc, to=htlc.sender if ending.preimage is None else htlc.receiver)
        if htlc.upstream is not None:
            self.end(htlc.upstream, ending)
            return
        payer = self.nodes[htlc.sender]
        payment = payer.payments[htlc.payment_hash]
        if ending.preimage is not None:
            payment.status, payment.preimage = PayoutStatus.SUCCEEDED, Preimage.from_hex(ending.preimage)
        else:
            payment.status = PayoutStatus.FAILED
            payment.failure = ending.failure
        payer.waiters.changed(htlc.payment_hash)

    def waiting(self) -> list[Htlc]:
        """Return every HTLC that waits in a channel, the one that expires first in front."""
        found = [htlc for channel in self.channels.values() for htlc in channel.htlcs.values()]
        return sorted(found, key=lambda htlc: (htlc.expiry_height, htlc.number))

    # --- time ---------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Do what is due at this height and with the nodes that serve now: after a block, after a start."""
        for node in self.nodes.values():
            if not node.serves:
                continue
            for invoice in list(node.pending.values()):
                if invoice.is_due(
                    now=self.clock.now(), height=self.height, hold_expiry_delta=node.hold_expiry_delta
                ):
                    self.cancel(node, invoice)
        for htlc in self.waiting():
            if htlc.ending is not None:
                self.end(htlc, htlc.ending)
            if htlc.number in htlc.channel.htlcs and self.height >= htlc.expiry_height:
                self._on_chain(htlc)

    def _on_chain(self, htlc: Htlc) -> None:
        if htlc.ending is not None and htlc.ending.preimage is not None and self.nodes[htlc.receiver].serves:
            htlc.channel.end_on_chain(htlc, HtlcEnd.TAKEN, height=self.height)
            self._conclude(htlc, htlc.ending)
        elif self.nodes[htlc.sender].serves:
            htlc.channel.end_on_chain(htlc, HtlcEnd.RETURNED, height=self.height)
            self._conclude(htlc, Ending(failure=PayoutFailure.TIMEOUT))

    def mine(self) -> int:
        """Add one block; return the new height."""
        self.height += 1
        self.catch_up()
        for node in self.nodes.values():
            node.waiters.changed(BLOCKS)
        return self.height

    def next_deadline(self) -> int | None:
        """Return the height at which the next held invoice goes back by itself, or None."""
        deadlines = [
            invoice.min_expiry_height - node.hold_expiry_delta
            for node in self.nodes.values()
            for invoice in node.pending.values()
            if invoice.state is InvoiceState.ACCEPTED and invoice.min_expiry_height is not None
        ]
        return min(deadlines, default=None)


def _channel(leg: Leg) -> int:
    if leg.edge.channel is None:
        raise ValueError("a route hint is not a channel")
    return leg.edge.channel


def _edge(channel: Channel, sender: NodeId, *, largest_msat: int) -> Edge:
    return Edge(
        sender=sender,
        receiver=channel.peer_of(sender),
        policy=channel.policies[sender],
        largest_msat=largest_msat,
        channel=channel.number,
    )


def _hinted(hints: Iterable[RouteHint], payee: NodeId) -> Iterator[tuple[Edge, int]]:
    for hint in hints:
        ends = [*(hop.node for hop in hint[1:]), payee]
        for hop, end in zip(hint, ends, strict=True):
            policy = Policy(
                fee_base_msat=hop.fee_base_msat,
                fee_ppm=hop.fee_proportional_millionths,
                cltv_delta=hop.cltv_expiry_delta,
                min_htlc_msat=Msat(0),
            )
            edge = Edge(sender=hop.node, receiver=end, policy=policy, largest_msat=MAX_MSAT, channel=None)
            yield edge, hop.short_channel_id
