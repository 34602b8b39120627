"""Mistakes in paying the provider: what is believed, what is allowed, and who may still act."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation, script

PAYOUT = f"{BROKER}/escrow/payout.py"
STORIES = f"{UNIT}/test_escrow_stories.py"
PAYING = f"{UNIT}/test_escrow_paying.py"
REVIEWED = f"{UNIT}/test_reviewed_money.py"
WITHDRAWALS = f"{UNIT}/test_withdrawals.py"

IN_PAYOUT = (
    Mutation(
        name="an unknown payout is taken for a failed one",
        file=PAYOUT,
        old="        case PayoutStatus.FAILED:\n            failure = payout.failure",
        new="        case PayoutStatus.FAILED | PayoutStatus.UNKNOWN:\n            failure = payout.failure",
        breaks=("I13", "I14", "I28"),
        caught_by=script("an answer to the payout is lost"),
        says="I28 the escrow is",
    ),
    Mutation(
        name="a payout that is under way is taken for a failed one after a while",
        file=PAYOUT,
        old="        seen = await node.wait(escrow.payment_hash, FOLLOW_SECONDS)\n",
        new="        seen = await node.wait(escrow.payment_hash, FOLLOW_SECONDS)\n"
        "        if not seen.status.is_final and recorder.now() > (escrow.intended_at or 0) + FOLLOW_SECONDS:\n"
        "            late = Payout(\n"
        "                status=PayoutStatus.FAILED,\n"
        "                payment_hash=escrow.payment_hash,\n"
        "                failure=PayoutFailure.TIMEOUT,\n"
        "            )\n"
        "            return await _record(recorder, escrow, late)\n",
        breaks=("I13", "I28"),
        caught_by=script("a payout is stuck for minutes"),
        says="I28 the escrow is",
    ),
    Mutation(
        name="the first no is believed while a call may be on its way",
        file=PAYOUT,
        old="    if not may_be_over(now=now, called_at=escrow.intended_at or 0):\n        return False\n"
        "    if escrow.unseen_since is None:\n        await recorder.mark_unseen(escrow)\n        return False\n",
        new="    if escrow.unseen_since is None:\n        return True\n",
        breaks=("I13", "I14", "I28"),
        caught_by=script("another broker looks for a payout that is on its way, and blocks pass"),
        says="I13 cancel was called while a payout could still begin",
    ),
    Mutation(
        name="a call is thought dead after three seconds",
        file=f"{BROKER}/lightning/conclusion.py",
        old="GRACE_SECONDS = 30\n",
        new="GRACE_SECONDS = 3\n",
        breaks=("I28",),
        caught_by=f"{WITHDRAWALS}::test_a_call_that_is_late_on_its_way_is_waited_for_before_anything_is_given_back[sqlite]",
    ),
    Mutation(
        name="the node need say only once that nothing was paid",
        file=f"{BROKER}/lightning/conclusion.py",
        old="return now - unseen_since >= SECOND_LOOK_SECONDS",
        new="return now >= unseen_since",
        breaks=("I28",),
        caught_by=f"{PAYING}::test_the_node_must_say_again_after_a_while_that_nothing_was_paid[sqlite]",
    ),
    Mutation(
        name="the intent is committed after the call",
        file=PAYOUT,
        old="    intent = await recorder.change(\n        escrow,\n        EscrowEvent.PAYOUT_INTENDED,",
        new="    await _pay(node, escrow, limit=limit)\n"
        "    intent = await recorder.change(\n        escrow,\n        EscrowEvent.PAYOUT_INTENDED,",
        breaks=("I15",),
        caught_by=script("a job"),
        says="I15 a payout was sent",
    ),
    Mutation(
        name="whoever took too long after the intent still pays",
        file=PAYOUT,
        old="    if intent is None or _is_stale(recorder, since=now, begun_at=begun_at):\n        return intent\n",
        new="    if intent is None:\n        return intent\n",
        breaks=("I14", "I29"),
        caught_by=f"{PAYING}::test_a_broker_that_stood_still_after_its_intent_does_not_pay_any_more[sqlite]",
    ),
    Mutation(
        name="routing may cost the broker's fee as well",
        file=PAYOUT,
        old="fee_limit_msat=escrow.routing_msat,",
        new="fee_limit_msat=Msat(escrow.routing_msat + escrow.fee_msat),",
        breaks=("I16",),
        caught_by=script("a job"),
        says="I16 the fee limit is not what was collected for it",
    ),
    Mutation(
        name="LND is given no fee limit",
        file=f"{BROKER}/lightning/lnd_payouts.py",
        old="            fee_limit_msat=fee_limit_msat,\n",
        new="",
        breaks=("I16",),
        caught_by="tests/unit/lightning/test_lnd_payouts.py::test_lnd_is_told_every_limit_of_a_payment",
    ),
    Mutation(
        name="LND is given no limit of blocks",
        file=f"{BROKER}/lightning/lnd_payouts.py",
        old="            cltv_limit=cltv_limit,\n",
        new="",
        breaks=("I18",),
        caught_by="tests/unit/lightning/test_lnd_payouts.py::test_lnd_is_told_every_limit_of_a_payment",
    ),
    Mutation(
        name="a payout may be locked until LND gives the money back",
        file=f"{BROKER}/escrow/guardian.py",
        old="return min(min_expiry_height - hold_expiry_delta - margin_blocks - height, max_blocks)",
        new="return min(min_expiry_height - height, max_blocks)",
        breaks=("I18",),
        caught_by="tests/property/test_wrap_plans.py::test_a_payout_is_never_locked_beyond_what_the_incoming_htlc_allows",
    ),
    Mutation(
        name="the payout may be locked for any number of blocks",
        file=PAYOUT,
        old="        max_blocks=escrow.outgoing_cltv_blocks + SPARE_ROUTE_BLOCKS,\n",
        new="        max_blocks=2_016,\n",
        breaks=("I18",),
        caught_by=f"{PAYING}::test_a_payout_is_locked_for_no_more_blocks_than_its_route_needs[sqlite]",
    ),
    Mutation(
        name="the blocks that are left are not looked at again before a payout",
        file=PAYOUT,
        old="if limit < escrow.outgoing_cltv_blocks or _was_tried_enough(escrow, now=now):",
        new="if _was_tried_enough(escrow, now=now):",
        breaks=("I18", "I19"),
        caught_by=f"{STORIES}::test_with_too_few_blocks_left_the_provider_is_not_paid_any_more[sqlite]",
    ),
    Mutation(
        name="a height that may be old is counted with",
        file=PAYOUT,
        old="    if not summary.synced_to_chain:\n",
        new="    if not summary.block_height:\n",
        breaks=("I18",),
        caught_by=f"{PAYING}::test_nobody_is_paid_by_a_node_that_does_not_know_the_present_height[sqlite]",
    ),
    Mutation(
        name="the late answer to an earlier attempt ends the present one",
        file=f"{BROKER}/escrow/store.py",
        old='    _escrow.c.attempts == sa.bindparam("the_attempt"),\n',
        new='    sa.bindparam("the_attempt") >= 0,\n',
        breaks=("I14", "I29"),
        caught_by=f"{STORIES}::test_the_late_answer_to_an_earlier_attempt_does_not_end_the_present_one[sqlite]",
    ),
    Mutation(
        name="a second call is made without taking the attempt over",
        file=f"{BROKER}/escrow/service.py",
        old="tx, escrow, attempts=escrow.attempts + 1, intended_at=now, retry_at=now, unseen_since=None",
        new="tx, escrow, attempts=escrow.attempts, intended_at=now, retry_at=now, unseen_since=None",
        breaks=("I14", "I29"),
        caught_by=f"{STORIES}::test_a_second_call_that_was_made_for_safety_is_not_forgotten[sqlite]",
    ),
    Mutation(
        name="a failed payout is given up by time alone",
        file=PAYOUT,
        old="return escrow.attempts >= LEAST_ATTEMPTS and escrow.forward_by is not None and now > escrow.forward_by",
        new="return escrow.forward_by is not None and now > escrow.forward_by",
        breaks=("I28", "I38"),
        caught_by=f"{REVIEWED}::test_five_refused_attempts_and_the_forward_window_end_a_payout[sqlite]",
    ),
    Mutation(
        name="a retry set by a clock that ran ahead is waited for",
        file=PAYOUT,
        old="if now < escrow.retry_at <= now + FARTHEST_SECONDS:",
        new="if now < escrow.retry_at:",
        breaks=("I37", "I38"),
        caught_by=f"{REVIEWED}::test_a_retry_that_was_set_by_a_clock_that_ran_ahead_is_made[sqlite]",
    ),
    Mutation(
        name="the attempt is read again after its intent, and may be another broker's by then",
        file=PAYOUT,
        old="    begun = replace(escrow, state=EscrowState.FORWARDING, attempts=attempt, unknown_since=None)\n",
        new="    begun = await recorder.get(escrow.id)\n",
        breaks=("I14", "I29"),
        caught_by=f"{PAYING}::test_a_broker_whose_attempt_was_taken_over_at_once_does_not_end_it[sqlite]",
    ),
)
