"""What a lost or refused payment call proves, with faults that a real LND does not give on demand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import grpc
import grpc.aio
import pytest
from lndgrpc.compiled import lightning_pb2, router_pb2

from lightwork_broker.lightning.lnd_connection import LndSettings
from lightwork_broker.lightning.lnd_payouts import LndPayouts
from lightwork_broker.lightning.ports import Payout, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_contracts.money import Msat

PREIMAGE = Preimage(b"\x07" * 32)
HASH = PREIMAGE.payment_hash
STUBS = SimpleNamespace(router=SimpleNamespace(SendPaymentV2="send", TrackPaymentV2="track"))


def error(code: grpc.StatusCode, text: str = "") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), text)


def payment(status: int, **fields: object) -> lightning_pb2.Payment:
    return lightning_pb2.Payment(payment_hash=HASH, status=status, **fields)


LOST = error(grpc.StatusCode.UNAVAILABLE, "Socket closed")
LATE = error(grpc.StatusCode.DEADLINE_EXCEEDED)
EXPIRED = error(grpc.StatusCode.UNKNOWN, "invoice expired. Valid until yesterday")
TAKEN = error(grpc.StatusCode.ALREADY_EXISTS, "payment is in transition")
NOT_THERE = error(grpc.StatusCode.NOT_FOUND, "payment isn't initiated")
FLYING = payment(1)
FAILED = payment(3, failure_reason=2)
PAID = payment(2, payment_preimage=PREIMAGE.hex(), fee_msat=5)

Answer = lightning_pb2.Payment | grpc.aio.AioRpcError


@dataclass
class ScriptedConnection:
    """Gives the answers written down for each call, and remembers what was asked."""

    send: Sequence[Answer]
    track: Sequence[Answer]
    asked: list[str] = field(default_factory=list)
    told: list[object] = field(default_factory=list)
    settings: LndSettings = field(
        default_factory=lambda: LndSettings(address="", tls_cert=Path(), macaroon=Path())
    )

    async def stream(
        self, method: Callable[[object], str], message: object, *, seconds: float | None = None
    ) -> AsyncGenerator[lightning_pb2.Payment, None]:
        name = method(STUBS)
        self.asked.append(name)
        self.told.append(message)
        for answer in self.send if name == "send" else self.track:
            if isinstance(answer, grpc.aio.AioRpcError):
                raise answer
            yield answer


async def pay(connection: ScriptedConnection) -> Payout:
    return await LndPayouts(connection).pay(
        invoice="", payment_hash=HASH, fee_limit_msat=Msat(0), cltv_limit=100, timeout_seconds=5
    )


@pytest.mark.parametrize("send", [[LOST], [LATE], [], [error(grpc.StatusCode.UNKNOWN, "what?")]])
@pytest.mark.parametrize(
    ("track", "status"),
    [
        ([PAID], PayoutStatus.SUCCEEDED),
        ([FLYING], PayoutStatus.IN_FLIGHT),
        ([FAILED], PayoutStatus.UNKNOWN),
        ([NOT_THERE], PayoutStatus.UNKNOWN),
        ([LOST], PayoutStatus.UNKNOWN),
        ([], PayoutStatus.UNKNOWN),
    ],
    ids=["paid", "in flight", "an older failure", "not there", "lost", "silent"],
)
async def test_a_lost_payment_is_never_failed(
    send: Sequence[Answer], track: Sequence[Answer], status: PayoutStatus
) -> None:
    assert (await pay(ScriptedConnection(send, track))).status is status


@pytest.mark.parametrize(
    ("track", "status"),
    [
        ([PAID], PayoutStatus.SUCCEEDED),
        ([FLYING], PayoutStatus.IN_FLIGHT),
        ([FAILED], PayoutStatus.FAILED),
        ([NOT_THERE], PayoutStatus.FAILED),
        ([LOST], PayoutStatus.UNKNOWN),
    ],
)
async def test_a_refused_payment_is_failed_only_if_no_earlier_one_is_under_way(
    track: Sequence[Answer], status: PayoutStatus
) -> None:
    assert (await pay(ScriptedConnection([EXPIRED], track))).status is status


async def test_a_payment_that_is_under_way_already_is_followed_to_its_end() -> None:
    connection = ScriptedConnection([TAKEN], [FLYING, PAID])
    assert (await pay(connection)).preimage == PREIMAGE
    assert connection.asked == ["send", "track"]


async def test_lnds_own_final_state_is_the_outcome() -> None:
    assert (await pay(ScriptedConnection([PAID], []))).fee_msat == 5
    assert (await pay(ScriptedConnection([FAILED], []))).failure is PayoutFailure.NO_ROUTE


async def test_waiting_goes_on_over_a_lost_stream_until_the_time_is_up() -> None:
    connection = ScriptedConnection([], [LOST])
    outcome = await LndPayouts(connection).wait(HASH, 0.6)
    assert outcome.status is PayoutStatus.UNKNOWN
    assert len(connection.asked) > 1


async def test_lnd_is_told_every_limit_of_a_payment() -> None:
    connection = ScriptedConnection([PAID], [])
    await LndPayouts(connection).pay(
        invoice="lnbcrt1", payment_hash=HASH, fee_limit_msat=Msat(1_234), cltv_limit=107, timeout_seconds=5
    )
    (message,) = connection.told
    assert isinstance(message, router_pb2.SendPaymentRequest)
    assert (message.payment_request, message.fee_limit_msat) == ("lnbcrt1", 1_234)
    assert (message.cltv_limit, message.timeout_seconds, message.fee_limit_sat) == (107, 5, 0)
    assert not message.allow_self_payment
