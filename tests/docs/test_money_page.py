"""What docs/money.md says of amounts, blocks, times and checks is what the code does."""

from __future__ import annotations

import inspect
import re

from docs_pages import page_text, table_rows

from lightwork import Acceptance, Agent, CheckCode, Msat, sats
from lightwork.market import MAX_HOLD_CLTV, ROUTING_FLOOR
from lightwork.testing import local_market
from lightwork_broker.escrow.guardian import SPARE_BLOCKS
from lightwork_broker.escrow.payout import LEAST_ATTEMPTS
from lightwork_broker.escrow.wrap import (
    LND_HOLD_EXPIRY_DELTA,
    Limits,
    Timers,
    plan_timers,
    price_credit,
    price_job,
)
from lightwork_broker.market.quotes import ANSWER_SECONDS, EXPIRY_SECONDS
from lightwork_broker.settings import BrokerSettings
from lightwork_contracts.modes import TRUST

PAGE = "docs/money.md"
DEFAULTS = BrokerSettings()
LIMITS = Limits(
    network="regtest",
    own_node="",
    **{
        name: getattr(DEFAULTS, name)
        for name in Limits.__slots__
        if name not in ("network", "own_node", "mark")
    },
)
HOUR = 3_600


def row(first: str) -> tuple[str, ...]:
    """The cells behind the first one of the only row that begins so."""
    (found,) = [cells[1:] for cells in table_rows(PAGE) if cells[0] == first]
    return found


def amounts(first: str) -> list[int]:
    """The amount that each cell of a row comes to, and in it the sum that it shows."""
    found: list[int] = []
    for cell in row(first):
        sums = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", cell)]
        assert len(sums) == 1 or sum(sums[:-1]) == sums[-1], cell
        found.append(sums[-1])
    return found


def timers(*, final_cltv: int, route_blocks: int) -> Timers:
    return plan_timers(
        work_seconds=60,
        review_seconds=HOUR,
        final_cltv=final_cltv,
        route_blocks=route_blocks,
        hold_expiry_delta=LND_HOLD_EXPIRY_DELTA,
        limits=LIMITS,
    )


def test_the_two_jobs_cost_what_the_broker_would_ask() -> None:
    jobs = [
        price_job(price_msat=sats(price), route_fee_msat=sats(route), limits=LIMITS)
        for price, route in ((10, 0), (10_000, 2))
    ]
    routes = amounts("routing costs")
    assert amounts("price") == amounts("the provider gets") == [job.price_msat for job in jobs]
    assert amounts("fee") == [job.fee_msat for job in jobs]
    assert amounts("routing budget") == [job.routing_msat for job in jobs]
    assert amounts("**the buyer pays**") == [job.total_msat for job in jobs]
    assert routes == [0, sats(2)]
    assert amounts("the broker keeps") == [
        job.total_msat - job.price_msat - route for job, route in zip(jobs, routes, strict=True)
    ]
    credit = price_credit(price_msat=sats(10), limits=LIMITS).total_msat
    assert f"the first job costs {credit:,} msat" in page_text(PAGE)


def test_the_words_about_fee_and_routing_are_the_default_settings() -> None:
    text = page_text(PAGE)
    assert f"{DEFAULTS.fee_base_msat // 1000} sat and {DEFAULTS.fee_ppm // 10_000} % of the price" in text
    floor, cap = DEFAULTS.routing_floor_msat // 1000, DEFAULTS.routing_cap_ppm // 10_000
    assert f"If more than {floor} sat plus {cap} % of the price would be needed" in text
    assert f"at most {ROUTING_FLOOR // 1000} sat or 1 % of it" in text
    assert f"{DEFAULTS.credit_ceiling_msat // 1000:,} sat if the operator does not set another" in text


def test_the_blocks_of_the_example_are_those_of_the_code() -> None:
    plan = timers(final_cltv=80, route_blocks=83)
    margin, spare = LIMITS.guardian_margin_blocks, SPARE_BLOCKS
    job = plan.hold_cltv_blocks - plan.outgoing_cltv_blocks - margin - LND_HOLD_EXPIRY_DELTA - spare
    text = page_text(PAGE)
    blocks = {
        "for the job": job,
        "for the payout": plan.outgoing_cltv_blocks,
        "of margin for the guardian": margin,
        "that LND keeps": LND_HOLD_EXPIRY_DELTA,
        "to spare": spare,
    }
    assert [words for words, number in blocks.items() if f"**{number} blocks** {words}" not in text] == []
    assert f"Together {plan.hold_cltv_blocks} blocks" in text
    assert f"held for at most {timers(final_cltv=0, route_blocks=0).hold_cltv_blocks} blocks" in text
    drawn = page_text("docs/images/blocks.svg")
    assert [number for number in blocks.values() if f">{number}</text>" not in drawn] == []
    assert f"{plan.hold_cltv_blocks} in all" in drawn


async def test_a_broker_quotes_the_first_job_as_the_page_says() -> None:
    agent = Agent("shouter")

    @agent.task(price=sats(10), acceptance=Acceptance.REVIEW, review_seconds=HOUR)
    async def shout(text: str) -> str:
        """Return the text in capitals."""
        return text.upper()

    assert inspect.iscoroutinefunction(shout)
    async with local_market(agent) as market:
        quote = await market.market.quote("shout", text="hi", max_price=Msat(1_000_000))
    assert quote.total_msat == amounts("**the buyer pays**")[0]
    assert f"Together {quote.hold_cltv_blocks} blocks" in page_text(PAGE)


def test_the_times_are_those_of_the_code() -> None:
    work = inspect.signature(Agent.task).parameters["work_seconds"].default
    assert row("to answer a quote")[0] == f"{ANSWER_SECONDS} s"
    assert row("to hire on a quote")[0] == f"{EXPIRY_SECONDS} s"
    assert row("to pay the hold invoice")[0] == f"{DEFAULTS.pay_seconds} s"
    assert row("to work")[0] == f"{work} s, as the listing says"
    assert row("to pay the provider")[0] == f"{DEFAULTS.forward_seconds} s"
    assert LEAST_ATTEMPTS == 5
    assert "at least five refused attempts" in row("to pay the provider")[1]


def test_every_check_of_the_buyer_has_a_row_and_every_row_is_a_check() -> None:
    named = [cells[0].strip("`") for cells in table_rows(PAGE) if cells[0].startswith("`check_")]
    assert sorted(named) == sorted(code.value for code in CheckCode)
    assert f"no more than {MAX_HOLD_CLTV}" in row("`check_invoice_cltv`")[0]


def test_who_could_cheat_is_told_in_the_words_of_quotes_and_listings() -> None:
    told = {cells[0].partition(",")[0]: cells[-1] for cells in table_rows(PAGE)}
    assert {mode.value: told[mode.value] for mode in TRUST} == {
        mode.value: trust.who_could_cheat for mode, trust in TRUST.items()
    }
