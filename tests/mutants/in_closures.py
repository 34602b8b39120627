"""Mistakes in comparing the books with what became of HTLCs, in open channels and on the chain of closed ones."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation

AUDIT = f"{BROKER}/chain_audit.py"
RULES = f"{BROKER}/chain_rules.py"
AUDITING = f"{UNIT}/test_chain_audit.py"
ENDS = f"{BROKER}/htlc_audit.py"
ENDED = f"{UNIT}/test_htlc_audit.py"
JUDGING = f"{UNIT}/test_chain_rules.py"

IN_CLOSURES = (
    Mutation(
        name="the watchdog looks at the chain and says nothing",
        file=f"{BROKER}/watchdog.py",
        old="            breaches += await self._look_at_htlcs()\n",
        new="            await self._look_at_htlcs()\n",
        breaks=("I10",),
        caught_by=f"{AUDITING}::test_the_watchdog_stops_payouts_for_what_a_payer_took_back_long_after_its_job_was_over"
        "[sqlite]",
    ),
    Mutation(
        name="an invoice that is settled is believed whatever the chain says",
        file=RULES,
        old="if self.counts(one) and one.end is HtlcEnd.RETURNED)",
        new="if not self.counts(one) and one.end is HtlcEnd.RETURNED)",
        breaks=("I10",),
        caught_by=f"{JUDGING}::test_a_settled_job_whose_htlc_went_back_on_the_chain_is_a_loss_of_that_amount",
    ),
    Mutation(
        name="jobs that were cancelled explain nothing of what went back",
        file=RULES,
        old="                    explained += 1\n",
        new="                    pass\n",
        breaks=("I10",),
        caught_by=f"{JUDGING}::"
        "test_without_a_record_a_job_that_was_cancelled_explains_what_went_back_but_that_is_not_certain",
    ),
    Mutation(
        name="what the node could not tell yet is never asked again",
        file=AUDIT,
        old="for one in asked if not can_change(one, closures)}",
        new="for one in asked}",
        breaks=("I10",),
        caught_by=f"{AUDITING}::test_an_htlc_without_an_end_is_asked_about_until_it_has_one[sqlite]",
    ),
    Mutation(
        name="a channel that closes makes nobody ask again",
        file=AUDIT,
        old="            self._known.clear()\n",
        new="",
        breaks=("I10",),
        caught_by=f"{AUDITING}::test_a_job_that_was_well_at_one_look_is_asked_about_when_another_channel_has_closed[sqlite]",
    ),
    Mutation(
        name="what is booked is booked again",
        file=f"{BROKER}/ledger/rules.py",
        old='        key=f"{ON_CHAIN}{subject}={booked_msat + lost_msat}",\n',
        new='        key=f"{ON_CHAIN}{subject}={lost_msat}",\n',
        breaks=("I6",),
        caught_by=f"{JUDGING}::test_two_losses_of_one_amount_are_two_postings",
    ),
    Mutation(
        name="what became of HTLCs in open channels is asked by nobody",
        file=f"{BROKER}/watchdog.py",
        old="for one in merged(found, chain.findings)]",
        new="for one in merged(chain.findings)]",
        breaks=("I10",),
        caught_by=f"{ENDED}::"
        "test_what_the_payer_has_back_of_a_job_that_the_node_calls_settled_is_named_and_stops_payouts[sqlite]",
    ),
    Mutation(
        name="an HTLC without an end counts as one that ended well",
        file=ENDS,
        old=" if not _has(one, HtlcEnd.WAITING, HtlcEnd.UNASKED)]",
        new="]",
        breaks=("I10", "I28"),
        caught_by=f"{ENDED}::"
        "test_an_htlc_that_is_in_its_channel_still_is_asked_about_until_it_has_an_end[sqlite]",
    ),
    Mutation(
        name="what was found of HTLCs is forgotten with the process",
        file=ENDS,
        old="for one in (*known, *(Lost(",
        new="for one in (*known[:0], *(Lost(",
        breaks=("I10", "I25"),
        caught_by=f"{ENDED}::"
        "test_what_was_found_is_found_after_a_restart_too_though_the_node_has_forgotten_it[sqlite]",
    ),
    Mutation(
        name="what was booked of an HTLC is found again",
        file=ENDS,
        old="booked_msat=booked.get(one.id, 0))",
        new="booked_msat=0)",
        breaks=("I10",),
        caught_by=f"{ENDED}::"
        "test_what_is_acknowledged_of_it_is_booked_as_a_loss_once_and_payouts_go_on[sqlite]",
    ),
    Mutation(
        name="a channel that is over a moment after it was asked about counts as over then",
        file=f"{BROKER}/lightning/lnd_closures.py",
        old="HtlcEnd.UNTOLD if is_over else",
        new="HtlcEnd.UNTOLD if htlc.chan_id in await self._channels_that_are_over() else",
        breaks=("I10", "I28"),
        caught_by="tests/unit/lightning/test_lnd_closures.py::"
        "test_an_htlc_whose_channel_is_over_a_moment_after_it_was_asked_about_is_asked_about_again",
    ),
    Mutation(
        name="what the broker may not ask counts as checked",
        file=ENDS,
        old="if not _has(one, HtlcEnd.WAITING, HtlcEnd.UNASKED)",
        new="if not _has(one, HtlcEnd.WAITING)",
        breaks=("I10", "I28"),
        caught_by=f"{ENDED}::test_what_the_broker_may_not_ask_is_asked_with_a_better_macaroon_and_of_one_job_until_then"
        "[sqlite]",
    ),
)
