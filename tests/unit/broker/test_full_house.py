"""Keys cost nothing: who comes with many of them, and pays for nothing, does not keep others out."""

from __future__ import annotations

from typing import Any

import pytest
from escrow_story import BUYER, PROVIDER, Op, Story
from escrow_world import LIMITS

from lightwork_broker.errors import TooManyJobs
from lightwork_broker.escrow.slots import UNPAID_SECONDS
from lightwork_broker.jobs.caps import Caps
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.signals import Signals
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.market import RequestQuote


def _small(story: Story) -> Jobs:
    """The same broker with room for two jobs."""
    broker = story.world.serving()
    return Jobs(
        database=broker.database,
        clock=story.world.clock,
        ids=story.world.ids,
        signals=Signals(),
        escrows=broker.escrows,
        limits=LIMITS,
        caps=Caps(of_buyer=9, of_all=2),
    )


async def _hire(story: Story) -> str:
    quote = await story.world.add_quote(story.world.serving(), acceptance=Acceptance.AUTO)
    job = await _small(story).hire(BUYER, quote)
    await story.world.calm()
    return job.id


def _rows(story: Story) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in story.books.rows("SELECT * FROM job")}


async def test_in_a_full_house_the_job_that_is_unpaid_for_longest_gives_way_to_a_newcomer(
    story: Story,
) -> None:
    first, second = await _hire(story), await _hire(story)
    with pytest.raises(TooManyJobs):
        await _hire(story)
    story.world.clock.time += UNPAID_SECONDS + 1
    third = await _hire(story)
    rows = _rows(story)
    assert (rows[first]["status"], rows[first]["error_code"]) == ("expired", "gave_way")
    assert rows[second]["status"] == rows[third]["status"] == "open"
    assert story.auditor.check() == []


async def test_a_job_that_is_paid_gives_way_to_nobody(story: Story) -> None:
    await _hire(story)
    await _hire(story)
    for op in (Op("pay", job=0), Op("pay", job=1), Op("sweep")):
        assert await story.play(op) == []
    assert {row["status"] for row in _rows(story).values()} == {"funded"}
    story.world.clock.time += UNPAID_SECONDS + 1
    with pytest.raises(TooManyJobs):
        await _hire(story)
    assert {row["status"] for row in _rows(story).values()} == {"funded"}


async def test_a_payment_that_comes_while_its_job_gives_way_goes_back(story: Story) -> None:
    first = await _hire(story)
    await _hire(story)
    story.world.clock.time += UNPAID_SECONDS + 1
    payment_hash = _rows(story)[first]["payment_hash"]
    story.world.node.buyer_pays(payment_hash, story.world.node.holds[payment_hash].value_msat)
    await _hire(story)
    for op in (Op("sweep"), Op("tick"), Op("sweep")):
        assert await story.play(op) == []
    assert _rows(story)[first]["status"] in ("expired", "refunded", "funded")
    assert await story.heal(diligent=True) == []


async def _is_quoted(story: Story) -> bool:
    """Whether the broker takes the question for a price to the provider."""
    broker = story.world.serving()
    await broker.market.seen(PROVIDER)
    request = RequestQuote(listing_id=story.world.listings[Acceptance.AUTO], input={"text": "hello"})
    await story.world.ask(broker, broker.quotes.request(BUYER, request, key=None), name="quote")
    return story.books.rows("SELECT id FROM quote WHERE status = 'requested'") != []


async def test_slots_that_are_promised_to_who_does_not_pay_keep_nobody_from_a_quote_for_long(
    story: Story,
) -> None:
    story.world.node.slots_taken = LIMITS.held_htlcs_of_channel - 2
    await _hire(story)
    await _hire(story)
    assert not await _is_quoted(story)
    story.world.clock.time += UNPAID_SECONDS + 1
    assert await _is_quoted(story)
