"""While the books do not hold, nobody's money is taken into them."""

from __future__ import annotations

import pytest
from escrow_story import BUYER, PROVIDER, Op, Story

from lightwork_broker.errors import PayoutsStopped
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.market import RequestQuote


async def test_with_a_closed_gate_nothing_is_quoted_and_nobody_is_asked(story: Story) -> None:
    broker = story.world.serving()
    await broker.market.seen(PROVIDER)
    broker.gate.close("the books do not hold")
    request = RequestQuote(listing_id=story.world.listings[Acceptance.AUTO], input={"text": "hello"})
    with pytest.raises(PayoutsStopped) as caught:
        await broker.quotes.request(BUYER, request, key=None)
    # Why is the operator's business.
    assert "do not hold" not in str(caught.value)
    assert story.books.rows("SELECT id FROM quote") == []


async def test_with_a_closed_gate_nobody_is_hired_on_a_quote_of_before_and_with_an_open_one_again(
    story: Story,
) -> None:
    broker = story.world.serving()
    quote = await story.world.add_quote(broker, acceptance=Acceptance.AUTO)
    broker.gate.close("the books do not hold")
    with pytest.raises(PayoutsStopped):
        await broker.jobs.hire(BUYER, quote)
    assert story.books.rows("SELECT id FROM job") == []
    assert story.world.node.holds == {}
    broker.gate.open()
    assert (await broker.jobs.hire(BUYER, quote)).quote_id == quote.id


async def test_a_job_under_way_is_told_of_and_refunded_although_the_gate_is_closed(story: Story) -> None:
    for op in (Op("hire"), Op("pay"), Op("lease")):
        assert await story.play(op) == []
    broker = story.world.serving()
    broker.gate.close("the books do not hold")
    (job,) = story.books.rows("SELECT id, quote_id FROM job")
    quote = await broker.quotes.get(job["quote_id"])
    assert (await broker.jobs.hire(BUYER, quote)).id == job["id"]
    assert await story.play(Op("fail")) == []
    assert story.books.rows("SELECT status FROM job") == [{"status": "refunded"}]
