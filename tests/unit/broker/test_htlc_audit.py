"""Jobs that are over against what became of their HTLCs: an LND may call settled what the payer has back."""

from __future__ import annotations

from typing import Any

import pytest
from escrow_story import Op, Story
from faulty_node import Fault
from faulty_port import Port

from lightwork_broker.audit import audit
from lightwork_broker.htlc_audit import LATE_BLOCKS, check_htlcs, merged
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import LOSSES
from lightwork_broker.lightning.closures import Closure, HtlcEnd, IncomingHtlc
from lightwork_broker.lightning.errors import PermissionMissing
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.watchdog import Watchdog, acknowledge
from lightwork_contracts.ids import PaymentHash


class Counting(Port):
    """A connection that remembers of which hashes it was asked."""

    def __init__(self, story: Story) -> None:
        super().__init__(story.world.node)
        self.asked: list[PaymentHash] = []
        self.may_ask_of_the_chain = True

    async def closures(self) -> tuple[Closure, ...]:
        if not self.may_ask_of_the_chain:
            raise PermissionMissing("the macaroon does not allow this")
        return await super().closures()

    async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
        self.asked.append(payment_hash)
        return await super().incoming_htlcs(payment_hash)


async def _play(story: Story, *script: Op) -> dict[str, Any]:
    """Play; return the row of the first job."""
    await story.play_all(*script)
    return story.hired()


async def _settled(story: Story) -> dict[str, Any]:
    return await _play(story, Op("hire"), Op("pay"), Op("lease"), Op("deliver"))


def _watchdog(story: Story, node: Port | None = None, *, gate: PayoutGate | None = None) -> Watchdog:
    broker = story.world.serving()
    return Watchdog(
        database=broker.database,
        node=node or broker.port,
        clock=story.world.clock,
        gate=gate or broker.gate,
        seconds=60,
    )


def _checks(story: Story) -> list[dict[str, Any]]:
    return story.books.rows("SELECT job_id, lost_msat FROM htlc_check ORDER BY job_id")


def _total(story: Story, job: dict[str, Any]) -> int:
    (row,) = story.books.rows("SELECT total_msat FROM escrow WHERE id = ?", job["id"])
    return int(row["total_msat"])


async def test_what_the_payer_has_back_of_a_job_that_the_node_calls_settled_is_named_and_stops_payouts(
    story: Story,
) -> None:
    job = await _settled(story)
    assert job["status"] == "settled"
    story.world.node.strays.add(job["payment_hash"])
    gate = PayoutGate()
    said = (f"{job['id']} is settled, but {_total(story, job)} msat of it went back to the payer",)
    assert await _watchdog(story, gate=gate).look() == said
    assert gate.is_closed


async def test_what_was_found_is_found_after_a_restart_too_though_the_node_has_forgotten_it(
    story: Story,
) -> None:
    job = await _settled(story)
    story.world.node.strays.add(job["payment_hash"])
    (said,) = await _watchdog(story).look()
    story.world.node.strays.clear()
    story.world.node.height += 10 * LATE_BLOCKS
    await _play(story, Op("kill"), Op("start"))
    gate = PayoutGate()
    for _ in range(2):
        story.world.clock.time += 3_600
        assert await _watchdog(story, gate=gate).look() == (said,)
    assert gate.is_closed


async def test_what_is_acknowledged_of_it_is_booked_as_a_loss_once_and_payouts_go_on(story: Story) -> None:
    job = await _settled(story)
    story.world.node.strays.add(job["payment_hash"])
    broker = story.world.serving()
    assert await _watchdog(story).look() != ()
    story.world.clock.time += 1
    for _ in range(2):
        findings = await check_htlcs(broker.database, broker.port, now=None)
        await acknowledge(broker.database, now=story.world.clock.now(), findings=findings)
    async with broker.database.read() as tx:
        assert await ledger.balance(tx, LOSSES) == _total(story, job)
    assert (await audit(broker.database)).breaches == ()
    gate = PayoutGate()
    gate.close("until somebody looks")
    assert await _watchdog(story, gate=gate).look() == ()
    assert not gate.is_closed


async def test_what_we_have_of_a_job_that_was_given_back_is_named(story: Story) -> None:
    job = await _play(story, Op("hire"), Op("pay"), Op("cancel"))
    assert job["status"] == "refunded"
    story.world.node.strays.add(job["payment_hash"])
    (said,) = await _watchdog(story).look()
    assert said == f"{job['id']} is canceled, but {_total(story, job)} msat of it were claimed"


@pytest.mark.parametrize("last", ["deliver", "cancel"])
async def test_a_job_whose_htlcs_ended_as_it_did_is_asked_about_once_by_all_watchdogs_together(
    story: Story, last: str
) -> None:
    steps = [Op("lease")] if last == "deliver" else []
    job = await _play(story, Op("hire"), Op("pay"), *steps, Op(last))
    node = Counting(story)
    for _ in range(2):
        dog = _watchdog(story, node)
        for _ in range(2):
            assert await dog.look() == ()
    assert node.asked == [job["payment_hash"]]
    assert _checks(story) == [{"job_id": job["id"], "lost_msat": 0}]


async def test_an_htlc_that_is_in_its_channel_still_is_asked_about_until_it_has_an_end(story: Story) -> None:
    job = await _settled(story)
    story.world.node.ends[job["payment_hash"]] = HtlcEnd.WAITING
    dog = _watchdog(story)
    for _ in range(3):
        assert await dog.look() == ()
    assert _checks(story) == []
    story.world.node.ends[job["payment_hash"]] = HtlcEnd.RETURNED
    assert len(await dog.look()) == 1


async def test_an_htlc_of_long_ago_of_which_the_node_knows_no_end_is_not_asked_about_for_ever(
    story: Story,
) -> None:
    job = await _settled(story)
    story.world.node.ends[job["payment_hash"]] = HtlcEnd.WAITING
    node = Counting(story)
    (row,) = story.books.rows("SELECT min_expiry_height FROM escrow")
    story.world.node.height = row["min_expiry_height"] + LATE_BLOCKS
    assert await _watchdog(story, node).look() == ()
    assert len(node.asked) == 1
    story.world.node.height += 1
    assert await _watchdog(story, node).look() == ()
    assert len(node.asked) == 1


async def test_a_node_that_keeps_no_record_of_single_htlcs_is_asked_once_and_breaches_nothing(
    story: Story,
) -> None:
    job = await _settled(story)
    story.world.node.ends[job["payment_hash"]] = HtlcEnd.UNTOLD
    node = Counting(story)
    for _ in range(2):
        assert await _watchdog(story, node).look() == ()
    assert len(node.asked) == 1


async def test_what_the_broker_may_not_ask_is_asked_with_a_better_macaroon_and_of_one_job_until_then(
    story: Story,
) -> None:
    for index in range(3):
        await story.play_all(Op("hire"), *(Op(step, job=index) for step in ("pay", "lease", "deliver")))
    hashes = [story.hired(index)["payment_hash"] for index in range(3)]
    story.world.node.strays.update(hashes)
    story.world.node.ends = dict.fromkeys(hashes, HtlcEnd.UNASKED)
    node = Counting(story)
    assert await _watchdog(story, node).look() == ()
    assert (len(node.asked), _checks(story)) == (1, [])
    story.world.node.ends = {}
    assert len(await _watchdog(story, node).look()) == len(_checks(story)) == 3


async def test_a_job_that_is_not_over_is_not_asked_about(story: Story) -> None:
    await _play(story, Op("hire"), Op("pay"), Op("lease"))
    node = Counting(story)
    assert await _watchdog(story, node).look() == ()
    assert node.asked == []
    assert _checks(story) == []


async def test_a_node_that_says_nothing_of_an_htlc_opens_no_gate_and_is_asked_again(story: Story) -> None:
    job = await _settled(story)
    gate = PayoutGate()
    story.world.node.strays.add(job["payment_hash"])
    story.world.node.faults = [("incoming_htlcs", Fault.LOST_BEFORE)]
    gate.close("until it has healed")
    assert await _watchdog(story, gate=gate).look() == ()
    assert gate.is_closed
    assert len(await _watchdog(story, gate=gate).look()) == 1


async def test_the_audit_looks_at_the_same_and_writes_nothing(story: Story) -> None:
    job = await _settled(story)
    story.world.node.strays.add(job["payment_hash"])
    broker = story.world.serving()
    for _ in range(2):
        (found,) = await check_htlcs(broker.database, broker.port, now=None)
        assert (found.subject, found.lost_msat) == (job["id"], _total(story, job))
    assert _checks(story) == []
    # What is found in two ways is one thing.
    assert merged((found,), (found,)) == (found,)


async def test_two_watchdogs_on_one_database_may_ask_at_the_same_time(story: Story) -> None:
    job = await _settled(story)
    broker = story.world.serving()

    class Slow(Counting):
        async def incoming_htlcs(self, payment_hash: PaymentHash) -> tuple[IncomingHtlc, ...]:
            found = await super().incoming_htlcs(payment_hash)
            # Meanwhile the other one has asked and written.
            assert await check_htlcs(broker.database, broker.port, now=1) == ()
            return found

    assert await check_htlcs(broker.database, Slow(story), now=2) == ()
    assert _checks(story) == [{"job_id": job["id"], "lost_msat": 0}]


async def test_a_macaroon_that_may_not_ask_of_channels_stops_nothing(story: Story) -> None:
    job = await _settled(story)
    story.world.node.strays.add(job["payment_hash"])
    node = Counting(story)
    node.may_ask_of_the_chain = False
    assert await _watchdog(story, node).look() == ()
    assert node.asked == []
