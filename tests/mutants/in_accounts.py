"""Mistakes in what the broker owes agents, and in withdrawals."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation

SERVICE = f"{BROKER}/accounts/service.py"
STORE = f"{BROKER}/accounts/store.py"
WITHDRAWALS = f"{UNIT}/test_withdrawals.py"
NO_ANSWER = f"{WITHDRAWALS}::test_an_answer_that_does_not_come_fails_nothing_and_gives_nothing_back"
CREDIT = f"{UNIT}/test_credit_stories.py"

BEFORE = f"{UNIT}/test_calls_of_before.py"
FORGOTTEN = f"{UNIT}/test_forgotten_withdrawals.py"

IN_ACCOUNTS = (
    Mutation(
        name="a withdrawal is given back by the clock alone, which may jump",
        file=SERVICE,
        old="            if not is_last_word or not is_confirmed(",
        new="            if not is_confirmed(",
        breaks=("I37",),
        caught_by=f"{BEFORE}::test_the_call_of_a_killed_broker_is_waited_for_although_the_clock_jumps_before_the_next_start"
        "[sqlite-29-forward]",
    ),
    Mutation(
        name="what a node said before it stood still counts afterwards",
        file=SERVICE,
        old="            self._watch.was_not_denied(withdrawal.id)\n",
        new="",
        breaks=("I28",),
        caught_by=f"{BEFORE}::test_a_node_that_stood_still_is_asked_twice_after_it_goes_on[sqlite]",
    ),
    Mutation(
        name="a clock that was put back hides that a broker stood still",
        file=SERVICE,
        old="by_steady=self._watch.now() - begun)",
        new="by_steady=0)",
        breaks=("I29", "I37"),
        caught_by=f"{BEFORE}::test_a_broker_that_stood_still_before_its_call_does_not_make_it_when_another_may_have_given_up"
        "[sqlite-clock put back meanwhile]",
    ),
    Mutation(
        name="the routing of a withdrawal is not part of what it needs",
        file=SERVICE,
        old="if withdrawal.reserved_msat > free:",
        new="if withdrawal.amount_msat > free:",
        breaks=("I4",),
        caught_by=f"{WITHDRAWALS}::test_all_of_the_balance_and_not_a_msat_more_can_be_taken[sqlite]",
    ),
    Mutation(
        name="a withdrawal is paid before anything is reserved for it",
        file=SERVICE,
        old="            await ledger.post(tx, reserve, now=int(now))\n",
        new="",
        breaks=("I4",),
        caught_by=f"{WITHDRAWALS}::test_what_is_under_way_cannot_be_taken_a_second_time[sqlite]",
    ),
    Mutation(
        name="the balance is checked before the transaction that takes from it",
        file=SERVICE,
        old="            await self._require_room(tx, withdrawal)\n            if not await ledger.claim(",
        new="            async with self._database.read() as before:\n"
        "                await self._require_room(before, withdrawal)\n"
        "            if not await ledger.claim(",
        breaks=("I4",),
        caught_by=f"{WITHDRAWALS}::test_many_who_ask_at_once_take_the_balance_once[sqlite]",
    ),
    Mutation(
        name="another withdrawal under a used key is taken for the first one",
        file=SERVICE,
        old="if (known.invoice, known.max_fee_msat) != (invoice, max_fee_msat):",
        new="if known.agent != agent:",
        breaks=("I6",),
        caught_by=f"{WITHDRAWALS}::test_the_same_key_gives_the_same_withdrawal_and_another_body_is_a_conflict[sqlite]",
    ),
    Mutation(
        name="the key of a withdrawal is ignored",
        file=SERVICE,
        old="known = None if key is None else await store.by_key(tx, agent, key)",
        new="known = None",
        breaks=("I6",),
        caught_by=f"{WITHDRAWALS}::test_the_same_key_at_the_same_time_gives_one_withdrawal[sqlite]",
    ),
    Mutation(
        name="withdrawals pass a closed gate",
        file=SERVICE,
        old="        if self._gate.is_closed:\n",
        new="        if self._gate.is_closed and withdrawal.unknown_since is not None:\n",
        breaks=("I10",),
        caught_by=f"{WITHDRAWALS}::test_a_closed_gate_holds_a_withdrawal_back_and_an_open_one_lets_it_go_on[sqlite]",
    ),
    Mutation(
        name="a withdrawal may spend its amount on routing",
        file=SERVICE,
        old="fee_limit_msat=withdrawal.max_fee_msat,",
        new="fee_limit_msat=withdrawal.amount_msat,",
        breaks=("I16",),
        caught_by=f"{WITHDRAWALS}::test_a_withdrawal_that_fails_for_good_is_owed_again_to_the_msat[sqlite]",
    ),
    Mutation(
        name="the hash of a job's invoice can be withdrawn to",
        file=SERVICE,
        old='if not await ledger.claim(tx, withdrawal.payment_hash, purpose=f"withdrawal:{withdrawal.id}"):',
        new='if await ledger.claim(tx, withdrawal.payment_hash, purpose=f"withdrawal:{withdrawal.id}") is None:',
        breaks=("I11", "I23"),
        caught_by=f"{WITHDRAWALS}::test_the_hash_of_a_providers_invoice_that_guards_a_job_cannot_be_withdrawn_to[sqlite]",
    ),
    Mutation(
        name="a withdrawal without an answer is given back",
        file=SERVICE,
        old='            log.critical("withdrawal.permission_missing", withdrawal=withdrawal.id)\n'
        "            return\n",
        new='            log.critical("withdrawal.permission_missing", withdrawal=withdrawal.id)\n'
        "            return\n"
        "        if seen.status is PayoutStatus.UNKNOWN:\n"
        "            seen = Payout(\n"
        "                status=PayoutStatus.FAILED,\n"
        "                payment_hash=withdrawal.payment_hash,\n"
        "                failure=PayoutFailure.TIMEOUT,\n"
        "            )\n",
        breaks=("I28",),
        caught_by=f"{NO_ANSWER}[sqlite-the call has its effect, and nobody can say which]",
    ),
    Mutation(
        name="a withdrawal is ended whatever became of it by now",
        file=STORE,
        old=".where(_withdrawal.c.id == withdrawal.id, _withdrawal.c.status == withdrawal.status.value)",
        new=".where(_withdrawal.c.id == withdrawal.id)",
        breaks=("I29", "I33"),
        caught_by=f"{WITHDRAWALS}::test_what_has_ended_is_not_ended_again_by_one_who_read_it_before[sqlite]",
    ),
    Mutation(
        name="a withdrawal that has failed may be paid after all",
        file=f"{BROKER}/accounts/machine.py",
        old="    (S.PAYING, E.FAILED): S.FAILED,\n",
        new="    (S.PAYING, E.FAILED): S.FAILED,\n    (S.FAILED, E.SUCCEEDED): S.PAID,\n",
        breaks=("I33",),
        caught_by=f"{WITHDRAWALS}::test_a_withdrawal_takes_the_edges_of_the_design_and_no_other",
    ),
    Mutation(
        name="an invoice of another network is paid from a balance",
        file=f"{BROKER}/accounts/rules.py",
        old="if invoice.network.value != network:",
        new="if not invoice.network.value:",
        breaks=("I17",),
        caught_by=f"{WITHDRAWALS}::test_an_invoice_that_cannot_be_paid_is_refused_before_anything_is_reserved[sqlite-invoice_network-mainnet]",
    ),
    Mutation(
        name="a withdrawal is shown to whoever knows its id",
        file=SERVICE,
        old="if found is None or found.agent != agent:",
        new="if found is None:",
        breaks=("I32",),
        caught_by=f"{WITHDRAWALS}::test_a_stranger_has_nothing_to_take_and_sees_nothing[sqlite]",
    ),
    Mutation(
        name="the day's limit is off",
        file=SERVICE,
        old="if most and taken + withdrawal.reserved_msat > most:",
        new="if most and taken > most:",
        breaks=("P1",),
        caught_by=f"{WITHDRAWALS}::test_a_days_limit_holds_until_the_day_is_over[sqlite-day_msat]",
    ),
    Mutation(
        name="withdrawals that failed do not count in a day",
        file=STORE,
        old="    clause = sa.and_(_withdrawal.c.agent == agent, _withdrawal.c.created_at > since)\n",
        new="    failed = WithdrawalStatus.FAILED.value\n"
        "    clause = sa.and_(\n"
        "        _withdrawal.c.agent == agent, _withdrawal.c.created_at > since, _withdrawal.c.status != failed\n"
        "    )\n",
        breaks=("P2",),
        caught_by=f"{WITHDRAWALS}::test_only_so_many_are_asked_for_in_a_day_although_each_fails_and_costs_nothing"
        "[sqlite]",
    ),
    Mutation(
        name="the ceiling ignores the jobs that are under way",
        file=f"{BROKER}/escrow/ceiling.py",
        old="if owed + under_way + price_msat > ceiling:",
        new="if owed + price_msat > ceiling:",
        breaks=("P1",),
        caught_by=f"{CREDIT}::test_the_ceiling_counts_what_is_owed_and_what_is_under_way[sqlite]",
    ),
    Mutation(
        name="the ceiling is looked at when a job is quoted and not when it is hired",
        file=f"{BROKER}/jobs/service.py",
        old="            if terms.mode is PaymentMode.CREDIT:\n                await require_below_ceiling(",
        new="            if terms.mode is PaymentMode.CREDIT and quote.expires_at is None:\n"
        "                await require_below_ceiling(",
        breaks=("P1",),
        caught_by=f"{CREDIT}::test_the_ceiling_counts_what_is_owed_and_what_is_under_way[sqlite]",
    ),
    Mutation(
        name="a settlement on credit credits what the buyer paid",
        file=f"{BROKER}/escrow/booking.py",
        old="            price_msat=escrow.price_msat,\n"
        "            fee_msat=escrow.fee_msat,\n"
        "        )\n"
        "        await ledger.post(tx, posting, now=now)\n"
        "    elif",
        new="            price_msat=escrow.total_msat,\n"
        "            fee_msat=0,\n"
        "        )\n"
        "        await ledger.post(tx, posting, now=now)\n"
        "    elif",
        breaks=("I9",),
        caught_by=f"{CREDIT}::test_a_delivered_job_is_settled_and_owed_to_its_provider_to_the_msat[sqlite]",
    ),
    Mutation(
        name="what an older copy has still to pay is paid while withdrawals are stopped",
        file=SERVICE,
        old="mine = not is_stopped and await store.take_call(tx, withdrawal, now=now)",
        new="mine = await store.take_call(tx, withdrawal, now=now)",
        breaks=("I4", "I30"),
        caught_by=f"{FORGOTTEN}::test_what_an_older_copy_had_still_to_pay_waits_for_the_operator_as_well[sqlite]",
    ),
    Mutation(
        name="a database that goes back under a running broker is not noticed",
        file=SERVICE,
        old="        self._newest_call = withdrawal\n",
        new="",
        breaks=("I4", "I30"),
        caught_by=f"{FORGOTTEN}::"
        "test_a_database_that_goes_back_under_a_running_broker_lets_nothing_be_withdrawn_a_second_time[sqlite]",
    ),
    Mutation(
        name="what the node has paid is left open while withdrawals are stopped",
        file=SERVICE,
        old="            await self._take_over(withdrawal)\n",
        new="            pass\n",
        breaks=("I30", "I38"),
        caught_by=f"{FORGOTTEN}::"
        "test_what_an_older_copy_had_still_to_pay_and_the_node_has_paid_is_booked_without_the_operator[sqlite]",
    ),
)
