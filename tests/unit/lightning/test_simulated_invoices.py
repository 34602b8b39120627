"""Which HTLCs an invoice of the simulated network takes, and what an invoice may say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.lightning.simulated_scene import Scene, going, hold, invoice, pay, secret

from lightwork_broker.lightning.errors import HashInUse, Refused
from lightwork_broker.lightning.ports import InvoiceState, PayoutFailure, PayoutStatus
from lightwork_broker.lightning.simulated.channels import Channel, Htlc
from lightwork_broker.lightning.simulated.invoices import Invoice, check_terms
from lightwork_contracts.bolt11 import Network, read_invoice
from lightwork_contracts.money import Msat

HEIGHT, NOW = 1_000, 1_800_000_000.0
SECRET = "5e" * 32


def open_invoice(*, final_cltv: int = 40, expires_at: float = NOW + 1) -> Invoice:
    return Invoice(
        payment_hash=secret().payment_hash,
        payment_secret=SECRET,
        payment_request="",
        value_msat=1_000,
        expires_at=expires_at,
        final_cltv=final_cltv,
        add_index=1,
        preimage=None,
        held=True,
    )


def arriving(*, msat: int = 1_000, blocks: int = 40) -> Htlc:
    channel = Channel(1, ("a", "b"), 1_000_000, {"a": 1_000_000, "b": 0}, {})
    return Htlc(
        number=1,
        channel=channel,
        sender="a",
        receiver="b",
        payment_hash=secret().payment_hash,
        amount_msat=msat,
        expiry_height=HEIGHT + blocks,
    )


def is_refused(invoice: Invoice, htlc: Htlc, *, payment_secret: str = SECRET) -> bool:
    return invoice.refuses(htlc, payment_secret=payment_secret, height=HEIGHT, now=NOW)


def test_an_htlc_that_fits_is_taken() -> None:
    assert not is_refused(open_invoice(), arriving())
    assert not is_refused(open_invoice(), arriving(msat=5_000))


def test_an_htlc_with_too_few_blocks_left_is_refused() -> None:
    assert is_refused(open_invoice(final_cltv=40), arriving(blocks=39))


@pytest.mark.parametrize(("blocks", "refused"), [(18, True), (19, False)])
def test_nobody_takes_an_htlc_that_would_be_cancelled_at_once(blocks: int, refused: bool) -> None:
    assert is_refused(open_invoice(final_cltv=1), arriving(blocks=blocks)) is refused


def test_too_little_and_another_secret_are_refused() -> None:
    assert is_refused(open_invoice(), arriving(msat=999))
    assert is_refused(open_invoice(), arriving(), payment_secret="00" * 32)


def test_an_invoice_that_has_expired_or_waits_already_takes_no_htlc() -> None:
    assert is_refused(open_invoice(expires_at=NOW), arriving())
    accepted = open_invoice()
    accepted.accept(arriving())
    assert is_refused(accepted, arriving())


TERMS = {"value_msat": 1_000, "expiry_seconds": 600, "final_cltv": 80, "memo": ""}


@pytest.mark.parametrize(
    "change",
    [
        {"value_msat": -1},
        {"value_msat": 10**16 + 1},
        {"expiry_seconds": 31_536_001},
        {"final_cltv": 23},
        {"final_cltv": 65_536},
        {"memo": "m" * 640},
        {"memo": "é" * 320},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_lnd_does_not_take_is_refused(change: dict[str, int | str]) -> None:
    check_terms(**TERMS)
    with pytest.raises(Refused):
        check_terms(**(TERMS | change))


async def test_any_decoder_reads_an_invoice_and_finds_its_node_secret_and_features() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider, msat=1_234_567)
    read = read_invoice(text)
    assert (read.payee, read.amount_msat, read.payment_hash) == (
        scene.provider.pubkey,
        1_234_567,
        payment_hash,
    )
    assert (read.network, read.features, read.timestamp) == (
        Network.REGTEST,
        frozenset({8, 14}),
        int(scene.clock.now()),
    )
    assert len(bytes.fromhex(read.payment_secret)) == 32


async def test_what_is_left_out_is_filled_in_as_lnd_does() -> None:
    scene = Scene()
    made = await scene.provider.add_invoice(value_msat=Msat(0), expiry_seconds=0, memo="", final_cltv=0)
    read = read_invoice(made.payment_request)
    assert (read.amount_msat, read.expiry_seconds, read.min_final_cltv) == (None, 86_400, 80)
    outcome = await pay(scene.broker, made.payment_request, made.payment_hash)
    assert outcome.failure is PayoutFailure.REFUSED


async def test_an_accepted_hold_is_added_again_and_a_final_one_is_in_use() -> None:
    scene = Scene()
    text = await hold(scene.broker, secret())
    async with going(pay(scene.buyer, text, secret().payment_hash)):
        assert await hold(scene.broker, secret()) == text
        await scene.broker.settle(secret())
    with pytest.raises(HashInUse):
        await hold(scene.broker, secret())


async def test_the_same_hash_on_two_nodes_is_two_invoices() -> None:
    scene = Scene()
    work, payment_hash = await invoice(scene.provider)
    wrapped = await scene.broker.add_hold(
        payment_hash=payment_hash, value_msat=Msat(1_100_000), expiry_seconds=600, cltv_blocks=144, memo=""
    )
    before = [await node.local_balance_msat() for node in (scene.buyer, scene.broker, scene.provider)]
    async with going(pay(scene.buyer, wrapped, payment_hash)) as payment:
        out = await pay(scene.broker, work, payment_hash)
        assert out.preimage is not None
        await scene.broker.settle(out.preimage)
        assert (await payment).preimage == out.preimage
    after = [await node.local_balance_msat() for node in (scene.buyer, scene.broker, scene.provider)]
    assert [now - then for now, then in zip(after, before, strict=True)] == [-1_100_000, 100_000, 1_000_000]


@pytest.mark.parametrize("cltv_limit", [43, 2_017], ids=["too short", "too long"])
async def test_limits_that_lnd_does_not_take_are_refused_and_nothing_is_sent(cltv_limit: int) -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    outcome = await pay(scene.broker, text, payment_hash, cltv_limit=cltv_limit)
    assert outcome.failure is PayoutFailure.REFUSED
    assert (await scene.broker.track(payment_hash)).failure is PayoutFailure.NEVER_SENT
    assert (await pay(scene.broker, text, payment_hash, cltv_limit=44)).status is PayoutStatus.SUCCEEDED


async def test_a_paid_hash_keeps_its_outcome_when_its_invoice_cannot_be_paid_any_more() -> None:
    scene = Scene()
    text, payment_hash = await invoice(scene.provider)
    first = await pay(scene.broker, text, payment_hash)
    scene.clock.advance(601)
    assert await pay(scene.broker, text, payment_hash) == first
    late, its_hash = await invoice(scene.provider)
    scene.clock.advance(600)
    assert (await pay(scene.broker, late, its_hash)).failure is PayoutFailure.INVOICE_EXPIRED


async def test_an_invoice_of_ones_own_or_of_another_network_is_refused() -> None:
    scene = Scene()
    own, its_hash = await invoice(scene.broker)
    assert (await pay(scene.broker, own, its_hash)).failure is PayoutFailure.REFUSED
    garbage = replace(read_invoice(own)).text[:-1]
    assert (await pay(scene.broker, garbage, its_hash)).failure is PayoutFailure.REFUSED


async def test_a_failed_payment_may_be_tried_again_and_a_succeeded_one_is_not() -> None:
    scene = Scene()
    text = await hold(scene.provider, secret())
    poor = await pay(scene.buyer, text, secret().payment_hash, fee_limit_msat=1_000)
    assert poor.failure is PayoutFailure.NO_ROUTE
    async with (
        going(pay(scene.buyer, text, secret().payment_hash, fee_limit_msat=1_001)) as payment,
        going(pay(scene.buyer, text, secret().payment_hash)) as second,
    ):
        await scene.provider.settle(secret())
        assert await payment == await second
    again = await pay(scene.buyer, text, secret().payment_hash)
    assert (again.status, again.fee_msat) == (PayoutStatus.SUCCEEDED, 1_001)
    found = await scene.provider.lookup(secret().payment_hash)
    assert found is not None
    assert (found.state, found.accepted_msat) == (InvoiceState.SETTLED, 1_000_000)
