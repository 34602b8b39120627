"""The one place that touches `lndgrpc.compiled`: typed views of the messages and calls that we use.

The stubs are of LND 0.16 and carry no types. Statuses and reasons are read as plain integers, for
LND 0.21 sends numbers that those stubs have no names for.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol, TypeVar, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

Reply_co = TypeVar("Reply_co", covariant=True)
Metadata = tuple[tuple[str, str], ...]


class InvoiceStateNumber(IntEnum):
    """lnrpc.Invoice.InvoiceState."""

    OPEN = 0
    SETTLED = 1
    CANCELED = 2
    ACCEPTED = 3


class HtlcStateNumber(IntEnum):
    """lnrpc.InvoiceHTLCState."""

    ACCEPTED = 0
    SETTLED = 1
    CANCELED = 2


class PaymentStatusNumber(IntEnum):
    """lnrpc.Payment.PaymentStatus; INITIATED is newer than the stubs."""

    UNKNOWN = 0
    IN_FLIGHT = 1
    SUCCEEDED = 2
    FAILED = 3
    INITIATED = 4


class CloseTypeNumber(IntEnum):
    """lnrpc.ChannelCloseSummary.ClosureType, as far as we read it."""

    LOCAL_FORCE = 1
    REMOTE_FORCE = 2
    BREACH = 3


class ResolutionTypeNumber(IntEnum):
    """lnrpc.ResolutionType, as far as we read it."""

    INCOMING_HTLC = 2


class ResolutionOutcomeNumber(IntEnum):
    """lnrpc.ResolutionOutcome; FIRST_STAGE is told beside the CLAIMED or TIMEOUT of the same HTLC."""

    CLAIMED = 1
    UNCLAIMED = 2
    ABANDONED = 3
    FIRST_STAGE = 4
    TIMEOUT = 5


class InvoiceHtlc(Protocol):
    chan_id: int
    htlc_index: int
    amt_msat: int
    expiry_height: int
    state: int


class Invoice(Protocol):
    memo: str
    r_hash: bytes
    r_preimage: bytes
    value_msat: int
    payment_request: str
    add_index: int
    state: int
    htlcs: Sequence[InvoiceHtlc]


class ListInvoicesReply(Protocol):
    invoices: Sequence[Invoice]
    last_index_offset: int


class PaymentRequestReply(Protocol):
    payment_request: str


class AddInvoiceReply(Protocol):
    payment_request: str
    r_hash: bytes


class Payment(Protocol):
    payment_hash: str
    payment_preimage: str
    status: int
    value_msat: int
    fee_msat: int
    failure_reason: int


class ListPaymentsReply(Protocol):
    payments: Sequence[Payment]
    last_index_offset: int


class Chain(Protocol):
    network: str


class GetInfoReply(Protocol):
    identity_pubkey: str
    alias: str
    version: str
    block_height: int
    synced_to_chain: bool
    synced_to_graph: bool
    chains: Sequence[Chain]


class Amount(Protocol):
    msat: int


class ChannelBalanceReply(Protocol):
    local_balance: Amount
    unsettled_local_balance: Amount
    unsettled_remote_balance: Amount


class ChannelHtlc(Protocol):
    incoming: bool
    amount: int
    hash_lock: bytes


class ChannelConstraints(Protocol):
    max_accepted_htlcs: int


class Channel(Protocol):
    active: bool
    chan_id: int
    remote_pubkey: str
    initiator: bool
    capacity: int
    local_balance: int
    remote_balance: int
    commit_fee: int
    fee_per_kw: int
    commitment_type: int
    pending_htlcs: Sequence[ChannelHtlc]
    remote_constraints: ChannelConstraints


class ListChannelsReply(Protocol):
    channels: Sequence[Channel]


class Resolution(Protocol):
    resolution_type: int
    outcome: int
    amount_sat: int


class ChannelClose(Protocol):
    channel_point: str
    chan_id: int
    close_height: int
    close_type: int
    resolutions: Sequence[Resolution]


class ClosedChannelsReply(Protocol):
    channels: Sequence[ChannelClose]


class PendingChannel(Protocol):
    channel_point: str


class ClosingChannel(Protocol):
    """PendingChannelsResponse.WaitingCloseChannel and .ForceClosedChannel."""

    channel: PendingChannel
    limbo_balance: int


class PendingChannelsReply(Protocol):
    waiting_close_channels: Sequence[ClosingChannel]
    pending_force_closing_channels: Sequence[ClosingChannel]


class HtlcResolutionReply(Protocol):
    settled: bool


class Route(Protocol):
    total_time_lock: int
    total_fees_msat: int


class QueryRoutesReply(Protocol):
    routes: Sequence[Route]


class DebugInfoReply(Protocol):
    config: Mapping[str, str]


class Unary(Protocol[Reply_co]):
    """A call with one answer."""

    def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Awaitable[Reply_co]: ...


class Stream(Protocol[Reply_co]):
    """The answers of a streaming call; `cancel` ends it on our side only."""

    def __aiter__(self) -> AsyncIterator[Reply_co]: ...

    def cancel(self) -> bool: ...


class Streaming(Protocol[Reply_co]):
    """A call with many answers."""

    def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Stream[Reply_co]: ...


class MethodSource(Protocol):
    """What stubs are built from: the part of a gRPC channel that they use."""

    def unary_unary(
        self, method: str, request_serializer: object, response_deserializer: object
    ) -> object: ...


class _InvoicesStub(Protocol):
    AddHoldInvoice: Unary[PaymentRequestReply]
    SettleInvoice: Unary[object]
    CancelInvoice: Unary[object]
    LookupInvoiceV2: Unary[Invoice]
    SubscribeSingleInvoice: Streaming[Invoice]


class _RouterStub(Protocol):
    SendPaymentV2: Streaming[Payment]
    TrackPaymentV2: Streaming[Payment]


class _LightningStub(Protocol):
    AddInvoice: Unary[AddInvoiceReply]
    ListInvoices: Unary[ListInvoicesReply]
    GetInfo: Unary[GetInfoReply]
    ChannelBalance: Unary[ChannelBalanceReply]
    ListChannels: Unary[ListChannelsReply]
    QueryRoutes: Unary[QueryRoutesReply]
    ListPayments: Unary[ListPaymentsReply]
    ClosedChannels: Unary[ClosedChannelsReply]
    PendingChannels: Unary[PendingChannelsReply]
    LookupHtlcResolution: Unary[HtlcResolutionReply]
    WalletBalance: Unary[object]
    BakeMacaroon: Unary[object]


@dataclass(frozen=True, slots=True)
class LndStubs:
    """Every call that we make, bound to one channel."""

    invoices: _InvoicesStub
    router: _RouterStub
    lightning: _LightningStub
    debug_info: Unary[DebugInfoReply]


class RequestName(StrEnum):
    """Each request message that we build, as `module.Message`."""

    ADD_HOLD = "invoices_pb2.AddHoldInvoiceRequest"
    SETTLE = "invoices_pb2.SettleInvoiceMsg"
    CANCEL = "invoices_pb2.CancelInvoiceMsg"
    LOOKUP = "invoices_pb2.LookupInvoiceMsg"
    LIST_INVOICES = "lightning_pb2.ListInvoiceRequest"
    SUBSCRIBE = "invoices_pb2.SubscribeSingleInvoiceRequest"
    SEND = "router_pb2.SendPaymentRequest"
    TRACK = "router_pb2.TrackPaymentRequest"
    ADD_INVOICE = "lightning_pb2.Invoice"
    GET_INFO = "lightning_pb2.GetInfoRequest"
    CHANNEL_BALANCE = "lightning_pb2.ChannelBalanceRequest"
    LIST_CHANNELS = "lightning_pb2.ListChannelsRequest"
    QUERY_ROUTES = "lightning_pb2.QueryRoutesRequest"
    WALLET_BALANCE = "lightning_pb2.WalletBalanceRequest"
    BAKE = "lightning_pb2.BakeMacaroonRequest"
    LIST_PAYMENTS = "lightning_pb2.ListPaymentsRequest"
    CLOSED_CHANNELS = "lightning_pb2.ClosedChannelsRequest"
    PENDING_CHANNELS = "lightning_pb2.PendingChannelsRequest"
    HTLC_RESOLUTION = "lightning_pb2.LookupHtlcResolutionRequest"
    FEE_LIMIT = "lightning_pb2.FeeLimit"
    ROUTE_HINT = "lightning_pb2.RouteHint"
    HOP_HINT = "lightning_pb2.HopHint"


def request(name: RequestName, /, **fields: object) -> Message:
    """Build a request; an unknown field or a wrong type raises at once."""
    module, _, message = name.partition(".")
    return cast(Message, getattr(importlib.import_module(f"lndgrpc.compiled.{module}"), message)(**fields))


def bind(channel: MethodSource) -> LndStubs:
    """Bind every call to `channel`."""
    invoices = importlib.import_module("lndgrpc.compiled.invoices_pb2_grpc")
    router = importlib.import_module("lndgrpc.compiled.router_pb2_grpc")
    lightning = importlib.import_module("lndgrpc.compiled.lightning_pb2_grpc")
    debug_info = channel.unary_unary(
        "/lnrpc.Lightning/GetDebugInfo",
        request_serializer=_serialize,
        response_deserializer=_debug_info_reply(),
    )
    return LndStubs(
        invoices=cast(_InvoicesStub, invoices.InvoicesStub(channel)),
        router=cast(_RouterStub, router.RouterStub(channel)),
        lightning=cast(_LightningStub, lightning.LightningStub(channel)),
        debug_info=cast("Unary[DebugInfoReply]", debug_info),
    )


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _debug_info_reply() -> object:
    """Return a reader for GetDebugInfo, newer than the stubs: `map<string,string>` in field 1.

    The message lives in a package of our own, because a second `lnrpc` would clash with the stubs'.
    """
    name = "lightwork_lnd.DebugInfo"
    pool = descriptor_pool.Default()
    try:
        found = pool.FindMessageTypeByName(name)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto(
            name="lightwork_lnd.proto", package="lightwork_lnd", syntax="proto3"
        )
        message = file.message_type.add(name="DebugInfo")
        entry = message.nested_type.add(name="ConfigEntry")
        entry.options.map_entry = True
        text = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
        one = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
        entry.field.add(name="key", number=1, type=text, label=one)
        entry.field.add(name="value", number=2, type=text, label=one)
        message.field.add(
            name="config",
            number=1,
            type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
            type_name=f".{name}.ConfigEntry",
        )
        pool.AddSerializedFile(file.SerializeToString())
        found = pool.FindMessageTypeByName(name)
    return message_factory.GetMessageClass(found).FromString
