"""Whatever the price, the timers and the height: the outer invoice always leaves room for the inner one."""

from __future__ import annotations

from dataclasses import replace

from escrow_world import LIMITS
from hypothesis import assume, example, given
from hypothesis import strategies as st
from provider_invoice import provider_invoice

from lightwork_broker.errors import InvoiceRefused
from lightwork_broker.escrow.guardian import deadlines, outgoing_cltv_limit
from lightwork_broker.escrow.wrap import (
    Limits,
    Timers,
    check_invoice,
    invoice_seconds,
    plan_timers,
    price_job,
)
from lightwork_broker.market.quotes import EXPIRY_SECONDS
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.money import MAX_MSAT, Msat

NOW = 1_800_000_000
msat = st.integers(0, MAX_MSAT).map(Msat)
limits_ = st.builds(
    replace,
    st.just(LIMITS),
    guardian_margin_blocks=st.integers(2, 200),
    seconds_per_block=st.integers(1, 1_200),
    pay_seconds=st.integers(5, 3_600),
    forward_seconds=st.integers(5, 3_600),
    max_hold_cltv=st.integers(80, 2_016),
)


@given(
    price=st.integers(1, MAX_MSAT).map(Msat),
    route=msat,
    fee_base=st.integers(0, 10**9).map(Msat),
    fee_ppm=st.integers(0, 1_000_000),
    floor=st.integers(0, 10**9).map(Msat),
    cap_ppm=st.integers(0, 1_000_000),
)
# An odd route under a cap that allows it: seldom drawn, and it shows which way half of it is rounded.
@example(
    price=Msat(10_000), route=Msat(3), fee_base=Msat(1_000), fee_ppm=10_000, floor=Msat(0), cap_ppm=20_000
)
def test_the_total_is_the_sum_and_every_part_is_what_was_agreed(
    price: Msat, route: Msat, fee_base: Msat, fee_ppm: int, floor: Msat, cap_ppm: int
) -> None:
    limits = replace(
        LIMITS,
        fee_base_msat=fee_base,
        fee_ppm=fee_ppm,
        routing_floor_msat=floor,
        routing_cap_ppm=cap_ppm,
    )
    try:
        priced = price_job(price_msat=price, route_fee_msat=route, limits=limits)
    except InvoiceRefused:
        assert (floor + route + -(-route // 2)) * 1_000_000 > floor * 1_000_000 + price * cap_ppm
        return
    assert priced.price_msat == price
    assert priced.total_msat == priced.price_msat + priced.fee_msat + priced.routing_msat
    assert 0 <= (priced.fee_msat - fee_base) * 1_000_000 - price * fee_ppm < 1_000_000
    assert priced.routing_msat >= route
    assert 2 * (priced.routing_msat - floor) - 3 * route in (0, 1)
    assert all(type(part) is int for part in (priced.fee_msat, priced.routing_msat, priced.total_msat))


def _plan(
    limits: Limits, *, work: int, review: int, final_cltv: int, route_blocks: int, delta: int
) -> Timers | None:
    try:
        return plan_timers(
            work_seconds=work,
            review_seconds=review,
            final_cltv=final_cltv,
            route_blocks=route_blocks,
            hold_expiry_delta=delta,
            limits=limits,
        )
    except InvoiceRefused:
        return None


work_ = st.integers(1, 3_600)
review_ = st.integers(0, 86_400)
final_ = st.integers(0, 144)
route_ = st.integers(0, 600)
delta_ = st.integers(12, 40)


@given(limits=limits_, work=work_, review=review_, final=final_, route=route_, delta=delta_)
def test_the_hold_outlasts_the_job_the_payout_and_lnd_s_own_deadline(
    limits: Limits, work: int, review: int, final: int, route: int, delta: int
) -> None:
    plan = _plan(limits, work=work, review=review, final_cltv=final, route_blocks=route, delta=delta)
    assume(plan is not None)
    assert plan is not None
    assert plan.outgoing_cltv_blocks >= max(route, final) + 3
    job_blocks = (work + review + limits.forward_seconds) / limits.seconds_per_block * 1.7
    spare = plan.hold_cltv_blocks - plan.outgoing_cltv_blocks - delta - limits.guardian_margin_blocks
    assert spare >= job_blocks
    assert 80 <= plan.hold_cltv_blocks <= limits.max_hold_cltv


@given(
    limits=limits_,
    work=work_,
    review=review_,
    final=final_,
    route=route_,
    delta=delta_,
    height=st.integers(1, 10**7),
    late=st.integers(0, 3),
)
def test_a_plan_accepted_at_its_height_leaves_the_job_its_blocks_before_the_last_safe_payout(
    limits: Limits, work: int, review: int, final: int, route: int, delta: int, height: int, late: int
) -> None:
    plan = _plan(limits, work=work, review=review, final_cltv=final, route_blocks=route, delta=delta)
    assume(plan is not None)
    assert plan is not None
    at = deadlines(
        min_expiry_height=height + plan.hold_cltv_blocks + late,
        hold_expiry_delta=delta,
        margin_blocks=limits.guardian_margin_blocks,
        outgoing_cltv_blocks=plan.outgoing_cltv_blocks,
    )
    job_seconds = work + review + limits.forward_seconds
    assert at.release_by - height >= job_seconds / limits.seconds_per_block


@given(
    expiry=st.integers(500, 10**7),
    delta=delta_,
    margin=st.integers(2, 200),
    outgoing=st.integers(3, 1_000),
)
def test_the_guardian_pays_before_it_refunds_and_refunds_before_lnd_does(
    expiry: int, delta: int, margin: int, outgoing: int
) -> None:
    at = deadlines(
        min_expiry_height=expiry,
        hold_expiry_delta=delta,
        margin_blocks=margin,
        outgoing_cltv_blocks=outgoing,
    )
    assert at.release_by <= at.refund_by < expiry - delta


@given(
    expiry=st.integers(500, 10**7),
    before=st.integers(-300, 3_000),
    delta=delta_,
    margin=st.integers(2, 200),
    most=st.integers(1, 2_016),
)
def test_a_payout_is_never_locked_beyond_what_the_incoming_htlc_allows(
    expiry: int, before: int, delta: int, margin: int, most: int
) -> None:
    height = expiry - before
    limit = outgoing_cltv_limit(
        min_expiry_height=expiry,
        height=height,
        hold_expiry_delta=delta,
        margin_blocks=margin,
        max_blocks=most,
    )
    assert limit <= most
    assert height + limit <= expiry - delta - margin // 2
    assert height + limit < expiry - delta


@given(
    expiry=st.integers(3_000, 10**7),
    delta=delta_,
    margin=st.integers(2, 200),
    outgoing=st.integers(3, 1_000),
    spare=st.integers(0, 40),
)
def test_when_the_guardian_releases_at_the_last_height_there_is_room_for_the_payout(
    expiry: int, delta: int, margin: int, outgoing: int, spare: int
) -> None:
    at = deadlines(
        min_expiry_height=expiry,
        hold_expiry_delta=delta,
        margin_blocks=margin,
        outgoing_cltv_blocks=outgoing,
    )
    limit = outgoing_cltv_limit(
        min_expiry_height=expiry,
        height=at.release_by,
        hold_expiry_delta=delta,
        margin_blocks=margin,
        max_blocks=outgoing + spare,
    )
    assert limit >= outgoing


@given(limits=limits_, work=work_, review=review_, slack=st.integers(-400, 400))
def test_an_accepted_invoice_outlives_the_latest_moment_at_which_it_may_be_paid(
    limits: Limits, work: int, review: int, slack: int
) -> None:
    needed = invoice_seconds(limits, work_seconds=work, review_seconds=review)
    invoice = read_invoice(provider_invoice(expiry_seconds=needed + slack, timestamp=NOW))
    try:
        check_invoice(
            invoice,
            price_msat=Msat(10_000),
            payment_hash="ab" * 32,
            limits=limits,
            needed_seconds=needed,
            now=NOW,
        )
    except InvoiceRefused:
        return
    # Hired at the end of the quote, paid at the end of its window, then work, review and payout.
    outer_expires = NOW + EXPIRY_SECONDS + limits.pay_seconds
    job = work + review + limits.forward_seconds
    assert invoice.expires_at >= outer_expires + job  # W5
    if job >= EXPIRY_SECONDS:
        assert invoice.expires_at >= outer_expires + 300  # W4
