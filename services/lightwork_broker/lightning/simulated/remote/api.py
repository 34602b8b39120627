"""The simulated network's nodes over HTTP: as ports for brokers in other processes, and to be disturbed.

Whoever reaches this can do everything: all money here is play money.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, Final, assert_never, cast

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lightwork_broker.errors import NotFound, RequestInvalid
from lightwork_broker.lightning.closures import Closure, IncomingHtlc
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import (
    ChannelSlots,
    CreatedInvoice,
    HoldInvoice,
    NodeSummary,
    RouteEstimate,
    SentPayment,
    WaitingHtlc,
)
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated.faults import Fault, PlannedFaults
from lightwork_broker.lightning.simulated.network import SimulatedNetwork
from lightwork_broker.lightning.simulated.node import SimulatedNode
from lightwork_broker.lightning.simulated.remote import wire
from lightwork_contracts.ids import PaymentHashField
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.simulated import (
    SIMULATED_PATH,
    FaultsView,
    NodeAction,
    PlanFault,
    SimulatedHtlc,
    SimulatedNetworkView,
    SimulatedNodeView,
)

METHODS: Final = (
    "add_hold",
    "settle",
    "cancel",
    "lookup",
    "pending_holds",
    "watch",
    "pay",
    "track",
    "sent_since",
    "estimate_fee",
    "add_invoice",
    "summary",
    "local_balance_msat",
    "channel_slots",
    "waiting_htlcs",
    "blocks",
    "closures",
    "incoming_htlcs",
)
"""The calls that a fault can strike: `wait` is made of `track`, and `lookup_invoice` is `lookup`."""

FAULTS: Final = {fault.name.lower(): fault for fault in Fault}
NodeName = Annotated[str, Path(max_length=128, examples=["broker", "wallet alice"])]


class PortRoute(APIRoute):
    """Answers an error of the ports with its name, so that the other side raises the same one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def named(request: Request) -> Response:
            try:
                return await handle(request)
            except LightningError as error:
                complaint = wire.Complaint.of(error)
                status = 503 if complaint.cause == wire.UNAVAILABLE else 409
                return JSONResponse(complaint.model_dump(), status)

        return named


port = APIRouter(
    prefix=f"{SIMULATED_PATH}/nodes/{{name}}/port", route_class=PortRoute, include_in_schema=False
)
"""The ports of every node, one route per call."""

control = APIRouter(prefix=SIMULATED_PATH, tags=["simulated network"])
"""What shows the network and disturbs it: for tests and for learning."""


def _network(request: Request) -> SimulatedNetwork:
    return cast("SimulatedNetwork", request.app.state.network)


def _planned(request: Request) -> PlannedFaults:
    return cast("PlannedFaults", request.app.state.faults)


def _node(request: Request, name: NodeName) -> SimulatedNode:
    try:
        return _network(request).node(name)
    except KeyError:
        raise NotFound(
            f"there is no node {name!r}",
            hint=f"GET {SIMULATED_PATH}/network lists them; as in 'wallet alice'",
        ) from None


Node = Annotated[SimulatedNode, Depends(_node)]
Network = Annotated[SimulatedNetwork, Depends(_network)]
Planned = Annotated[PlannedFaults, Depends(_planned)]


# --- the ports --------------------------------------------------------------------------------------------


@port.post("/add_hold")
async def add_hold(node: Node, body: wire.AddHold) -> wire.PaymentRequest:
    request = await node.add_hold(
        payment_hash=body.payment_hash,
        value_msat=body.value_msat,
        expiry_seconds=body.expiry_seconds,
        cltv_blocks=body.cltv_blocks,
        memo=body.memo,
    )
    return wire.PaymentRequest(payment_request=request)


@port.post("/settle")
async def settle(node: Node, body: wire.Settle) -> None:
    await node.settle(_preimage(body.preimage))


@port.post("/cancel")
async def cancel(node: Node, body: wire.AboutHash) -> None:
    await node.cancel(body.payment_hash)


@port.post("/lookup")
async def lookup(node: Node, body: wire.AboutHash) -> wire.Found:
    return wire.Found(invoice=await node.lookup(body.payment_hash))


@port.post("/pending_holds")
async def pending_holds(node: Node) -> tuple[HoldInvoice, ...]:
    return await node.pending_holds()


@port.post("/lookup_invoice")
async def lookup_invoice(node: Node, body: wire.AboutHash) -> wire.Found:
    return wire.Found(invoice=await node.lookup_invoice(body.payment_hash))


@port.get("/watch/{payment_hash}", response_class=EventSourceResponse)
async def watch(node: Node, payment_hash: PaymentHashField) -> AsyncGenerator[ServerSentEvent]:
    async for event in _told(wire.CHANGED, node.watch(payment_hash)):
        yield event


@port.post("/pay")
async def pay(node: Node, body: wire.Pay) -> wire.PayoutView:
    paid = await node.pay(
        invoice=body.invoice,
        payment_hash=body.payment_hash,
        fee_limit_msat=body.fee_limit_msat,
        cltv_limit=body.cltv_limit,
        timeout_seconds=body.timeout_seconds,
    )
    return wire.PayoutView.of(paid)


@port.post("/track")
async def track(node: Node, body: wire.AboutHash) -> wire.PayoutView:
    return wire.PayoutView.of(await node.track(body.payment_hash))


@port.post("/wait")
async def wait(node: Node, body: wire.Wait) -> wire.PayoutView:
    return wire.PayoutView.of(await node.wait(body.payment_hash, body.seconds))


@port.post("/sent_since")
async def sent_since(node: Node, body: wire.SentSince) -> tuple[SentPayment, ...]:
    return await node.sent_since(body.since)


@port.post("/estimate_fee")
async def estimate_fee(node: Node, body: wire.EstimateFee) -> RouteEstimate | None:
    return await node.estimate_fee(
        invoice_destination=body.invoice_destination,
        amount_msat=body.amount_msat,
        final_cltv=body.final_cltv,
        cltv_limit=body.cltv_limit,
        route_hints=body.route_hints,
    )


@port.post("/add_invoice")
async def add_invoice(node: Node, body: wire.AddInvoice) -> CreatedInvoice:
    return await node.add_invoice(
        value_msat=body.value_msat,
        expiry_seconds=body.expiry_seconds,
        memo=body.memo,
        final_cltv=body.final_cltv,
    )


@port.post("/summary")
async def summary(node: Node) -> NodeSummary:
    return await node.summary()


@port.post("/channel_slots")
async def channel_slots(node: Node) -> tuple[ChannelSlots, ...]:
    return await node.channel_slots()


@port.post("/waiting_htlcs")
async def waiting_htlcs(node: Node) -> tuple[WaitingHtlc, ...]:
    return await node.waiting_htlcs()


@port.post("/local_balance_msat")
async def local_balance_msat(node: Node) -> wire.Balance:
    return wire.Balance(balance_msat=await node.local_balance_msat())


@port.get("/blocks", response_class=EventSourceResponse)
async def blocks(node: Node) -> AsyncGenerator[ServerSentEvent]:
    async for event in _told(wire.BLOCK, node.blocks()):
        yield event


@port.post("/closures")
async def closures(node: Node) -> tuple[Closure, ...]:
    return await node.closures()


@port.post("/incoming_htlcs")
async def incoming_htlcs(node: Node, body: wire.AboutHash) -> tuple[IncomingHtlc, ...]:
    return await node.incoming_htlcs(body.payment_hash)


# --- the network ------------------------------------------------------------------------------------------


@control.get("/network", summary="The network as it is now")
async def read_network(request: Request) -> SimulatedNetworkView:
    """Nodes, what waits in channels, and whether every msat is there."""
    return _view(request)


@control.post("/nodes/{name}/{action}", summary="Stop, start, restart, lock or stall a node")
async def act(request: Request, network: Network, node: Node, action: NodeAction) -> SimulatedNetworkView:
    """What a node knows outlives all of it. `start` unlocks too; `flow` ends `stall`."""
    match action:
        case NodeAction.STOP:
            network.stop(node.name)
        case NodeAction.START:
            network.start(node.name)
        case NodeAction.RESTART:
            network.restart(node.name)
        case NodeAction.LOCK:
            network.lock(node.name)
        case NodeAction.STALL:
            network.stall(node.name)
        case NodeAction.FLOW:
            network.flow(node.name)
        case _:
            assert_never(action)
    return _view(request)


@control.get("/faults", summary="Which faults wait, and which have struck")
async def read_faults(planned: Planned) -> FaultsView:
    """With the names of all faults and calls."""
    return _faults(planned)


@control.post("/faults", summary="Let the next call meet a fault")
async def plan_fault(request: Request, planned: Planned, body: PlanFault) -> FaultsView:
    """It strikes once. Of several that fit a call, the one that was planned first strikes."""
    fault = FAULTS.get(body.fault)
    if fault is None:
        raise RequestInvalid(f"there is no fault {body.fault!r}", hint=f"there are: {', '.join(FAULTS)}")
    if body.method is not None and body.method not in METHODS:
        raise RequestInvalid(f"there is no call {body.method!r}", hint=f"there are: {', '.join(METHODS)}")
    if body.node is not None:
        _node(request, body.node)
    planned.plan(fault, method=body.method, node=body.node, seconds=body.seconds)
    return _faults(planned)


@control.delete("/faults", summary="Take back the faults that have not struck")
async def clear_faults(planned: Planned) -> FaultsView:
    """What has struck stays in the list."""
    planned.clear()
    return _faults(planned)


def _preimage(text: str) -> Preimage:
    try:
        return Preimage.from_hex(text)
    except ValueError as error:
        raise RequestInvalid(str(error)) from None


async def _told(kind: str, stream: AsyncGenerator[object, None]) -> AsyncGenerator[ServerSentEvent]:
    """Yield what a stream of a node says, and the error that it ends with."""
    try:
        async with aclosing(stream) as items:
            async for item in items:
                yield ServerSentEvent(data=item, event=kind)
    except LightningError as error:
        yield ServerSentEvent(data=wire.Complaint.of(error), event=wire.ENDED)


def _faults(faults: PlannedFaults) -> FaultsView:
    return FaultsView(
        waiting=faults.waiting,
        struck=tuple(
            f"{strike.fault.name.lower()} {call.node} {call.method}" for call, strike in faults.struck
        ),
        faults={name: fault.value for name, fault in FAULTS.items()},
        methods=METHODS,
    )


def _view(request: Request) -> SimulatedNetworkView:
    network = _network(request)
    names = {node.pubkey: node.name for node in network.states()}
    try:
        network.check()
    except AssertionError:
        adds_up = False
    else:
        adds_up = True
    return SimulatedNetworkView(
        id=request.app.state.network_id,
        height=network.height,
        nodes=tuple(
            SimulatedNodeView(name=node.name, pubkey=node.pubkey, condition=node.condition.value)
            for node in network.states()
        ),
        htlcs=tuple(
            SimulatedHtlc(
                payment_hash=htlc.payment_hash,
                sender=names[htlc.sender],
                receiver=names[htlc.receiver],
                amount_msat=Msat(htlc.amount_msat),
                expiry_height=htlc.expiry_height,
            )
            for htlc in network.waiting()
        ),
        adds_up=adds_up,
    )
