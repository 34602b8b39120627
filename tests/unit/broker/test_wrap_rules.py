"""Each rule for a provider's invoice refuses what breaks it, with the code of that rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from escrow_world import LIMITS
from provider_invoice import LND_021_FEATURES, NODE_ID, provider_invoice

from lightwork_broker.errors import InvoiceRefused
from lightwork_broker.escrow.wrap import (
    EXPIRY_BUFFER_SECONDS,
    OUTLIVES_SECONDS,
    Limits,
    check_invoice,
    invoice_seconds,
    plan_timers,
    price_job,
)
from lightwork_contracts.bolt11 import Network, read_invoice
from lightwork_contracts.money import Msat
from lightwork_contracts.wire.problems import ProblemCode

NOW = 1_800_000_000
NEEDED = invoice_seconds(LIMITS, work_seconds=600, review_seconds=0)


def _check(text: str, *, limits: Limits = LIMITS, price: int = 10_000, payment_hash: str = "ab" * 32) -> None:
    check_invoice(
        read_invoice(text),
        price_msat=Msat(price),
        payment_hash=payment_hash,
        limits=limits,
        needed_seconds=NEEDED,
        now=NOW,
    )


def _code(text: str, **given: object) -> ProblemCode:
    with pytest.raises(InvoiceRefused) as caught:
        _check(text, **given)  # pyright: ignore[reportArgumentType]  (keywords of the call above)
    return caught.value.invoice_code


@pytest.mark.parametrize(
    "features", [LND_021_FEATURES, frozenset({8, 14}), frozenset({9, 15, 17}), frozenset({8, 14, 16, 48})]
)
def test_an_invoice_that_keeps_every_rule_is_accepted(features: frozenset[int]) -> None:
    _check(provider_invoice(features=features))


def test_an_invoice_for_another_network_is_refused() -> None:
    text = provider_invoice(network=Network.MAINNET)
    assert _code(text) is ProblemCode.INVOICE_NETWORK


def test_an_invoice_without_an_amount_is_refused() -> None:
    assert _code(provider_invoice(amount_msat=None)) is ProblemCode.INVOICE_NO_AMOUNT


@pytest.mark.parametrize("amount", [9_999, 10_001, 1, 20_000])
def test_an_invoice_for_another_amount_is_refused_to_the_msat(amount: int) -> None:
    assert _code(provider_invoice(amount_msat=amount)) is ProblemCode.INVOICE_AMOUNT


def test_an_invoice_with_another_hash_than_the_committed_one_is_refused() -> None:
    assert _code(provider_invoice(), payment_hash="cd" * 32) is ProblemCode.INVOICE_HASH


def test_an_invoice_payable_at_the_broker_s_own_node_is_refused() -> None:
    assert _code(provider_invoice(), limits=replace(LIMITS, own_node=NODE_ID)) is ProblemCode.INVOICE_OWN_NODE


@pytest.mark.parametrize("feature", [31, 45, 261])
def test_an_invoice_with_a_feature_that_a_payout_cannot_honour_is_refused(feature: int) -> None:
    text = provider_invoice(features=LND_021_FEATURES | {feature})
    assert _code(text) is ProblemCode.INVOICE_FEATURES


@pytest.mark.parametrize("age", [400_000, 400_001, 1_000_000])
def test_an_expired_invoice_is_refused(age: int) -> None:
    assert _code(provider_invoice(timestamp=NOW - age)) is ProblemCode.INVOICE_EXPIRED


def test_an_invoice_that_might_expire_before_the_payout_is_refused() -> None:
    least = NEEDED - EXPIRY_BUFFER_SECONDS
    _check(provider_invoice(expiry_seconds=least))
    assert _code(provider_invoice(expiry_seconds=least - 1)) is ProblemCode.INVOICE_EXPIRES_TOO_SOON


def test_an_invoice_that_can_be_paid_long_after_the_job_is_refused() -> None:
    most = NEEDED + OUTLIVES_SECONDS
    _check(provider_invoice(expiry_seconds=most))
    assert _code(provider_invoice(expiry_seconds=most + 1)) is ProblemCode.INVOICE_EXPIRES_TOO_LATE


def test_an_invoice_that_would_lock_the_payout_too_long_is_refused() -> None:
    _check(provider_invoice(min_final_cltv=LIMITS.max_final_cltv))
    text = provider_invoice(min_final_cltv=LIMITS.max_final_cltv + 1)
    assert _code(text) is ProblemCode.INVOICE_CLTV


def test_a_route_above_the_operator_s_cap_is_refused() -> None:
    # 1 000 msat floor and 2 % of 100 sat allow 3 000 msat; a route of 1 334 msat needs 3 001.
    price = Msat(100_000)
    assert price_job(price_msat=price, route_fee_msat=Msat(1_333), limits=LIMITS).routing_msat == 3_000
    with pytest.raises(InvoiceRefused) as caught:
        price_job(price_msat=price, route_fee_msat=Msat(1_334), limits=LIMITS)
    assert caught.value.invoice_code is ProblemCode.NO_ROUTE


def test_a_job_that_would_hold_the_htlc_too_long_is_refused() -> None:
    def hold(work_seconds: int) -> int:
        timers = plan_timers(
            work_seconds=work_seconds,
            review_seconds=0,
            final_cltv=24,
            route_blocks=64,
            hold_expiry_delta=18,
            limits=replace(LIMITS, max_hold_cltv=120),
        )
        return timers.hold_cltv_blocks

    # (work + 120 s) * 1.7 / 600 s per block, 67 out, 18 of LND's, 24 of margin, 3 to spare: 8 are left.
    assert hold(2_703) == 120
    with pytest.raises(InvoiceRefused) as caught:
        hold(2_704)
    assert caught.value.invoice_code is ProblemCode.INVOICE_CLTV


def test_the_price_is_itemised_as_the_operator_says() -> None:
    price = price_job(price_msat=Msat(10_001), route_fee_msat=Msat(3), limits=LIMITS)
    assert (price.price_msat, price.fee_msat, price.routing_msat, price.total_msat) == (
        10_001,
        1_101,  # 1 sat and 1 %, rounded up
        1_005,  # 1 sat, the estimate, and half of it rounded up
        12_107,
    )
