"""Mistakes in what follows a crash, an outage or an older copy of the database."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation, script

RECONCILE = f"{BROKER}/escrow/reconcile.py"
SERVICE = f"{BROKER}/escrow/service.py"
ORPHANS = f"{BROKER}/escrow/orphans.py"
ORPHANED = f"{UNIT}/test_orphans.py"
FORGOTTEN = f"{UNIT}/test_forgotten_withdrawals.py"
PAYOUT = f"{BROKER}/escrow/payout.py"
STORIES = f"{UNIT}/test_escrow_stories.py"
PAYING = f"{UNIT}/test_escrow_paying.py"
HOLDING = f"{UNIT}/test_escrow_holding.py"
HEARS = f"{HOLDING}::test_a_broker_hears_of_a_payment_at_once_also_after_a_restart_and_a_cut_stream"
REVIEWED = f"{UNIT}/test_reviewed_money.py"
REVIEWED_SERVICE = f"{UNIT}/test_reviewed_service.py"
MATRIX = "tests/integration/test_kill_matrix.py"

IN_RECOVERY = (
    Mutation(
        name="a start drives nothing on",
        file=RECONCILE,
        old="                for escrow_id in ids:\n                    self._escrows.schedule(escrow_id)\n",
        new="",
        breaks=("I25",),
        caught_by=f"{STORIES}::test_a_payout_that_was_never_sent_is_sent_at_once_after_a_crash[sqlite]",
    ),
    Mutation(
        name="recovery takes a paid escrow for one at its end",
        file=f"{BROKER}/escrow/machine.py",
        old="TERMINAL = frozenset({S.SETTLED, S.CANCELED, S.RETURNED, S.LOST})",
        new="TERMINAL = frozenset({S.FORWARDED, S.SETTLED, S.CANCELED, S.RETURNED, S.LOST})",
        breaks=("I25", "I38"),
        caught_by=script("a broker is killed before the settlement"),
        says="I38 nothing ends the escrow that is forwarded",
    ),
    Mutation(
        name="a broker serves although it could not recover",
        file=RECONCILE,
        old="                if self._steady() >= deadline:\n                    raise RecoveryFailed(",
        new="                if self._steady() >= deadline:\n"
        "                    return 0\n"
        "                    raise RecoveryFailed(",
        breaks=("I25", "I31"),
        caught_by=f"{REVIEWED_SERVICE}::test_a_broker_whose_recovery_gets_no_answer_does_not_start[sqlite]",
    ),
    Mutation(
        name="an older copy that takes the hash for used gives the job up",
        file=SERVICE,
        old="if isinstance(error, HashInUse) and await payout.was_settled_before(self._node, escrow):",
        new="if isinstance(error, HashInUse) and escrow.hold_invoice is not None:",
        breaks=("I30",),
        caught_by=f"{REVIEWED}::test_a_database_from_before_the_hold_invoice_ends_settled[sqlite]",
    ),
    Mutation(
        name="nobody looks for a payout before the money goes back",
        file=SERVICE,
        old="if escrow.mode is PaymentMode.ESCROW and await self._is_held(escrow):",
        new="if escrow.attempts and escrow.mode is PaymentMode.ESCROW:",
        breaks=("I13", "I30"),
        caught_by=f"{REVIEWED}::test_an_older_database_that_does_not_know_of_the_payout_settles_it[sqlite]",
    ),
    Mutation(
        name="a payout that is under way does not keep the money from going back",
        file=SERVICE,
        old="            if seen.status is not PayoutStatus.FAILED:\n"
        "                return await payout.adopt(self, self._node, escrow)\n"
        "        try:",
        new="            if seen.status is PayoutStatus.SUCCEEDED:\n"
        "                return await payout.adopt(self, self._node, escrow)\n"
        "        try:",
        breaks=("I13", "I28", "I30"),
        caught_by=f"{REVIEWED}::test_an_older_database_does_not_refund_while_the_payout_it_forgot_is_under_way[sqlite]",
    ),
    Mutation(
        name="an order to pay that was carried out is carried out again",
        file=PAYOUT,
        old="    if hold.state is InvoiceState.SETTLED:\n",
        new="    if hold.state is InvoiceState.SETTLED and escrow.attempts:\n",
        breaks=("I30", "I38"),
        caught_by=f"{REVIEWED}::test_an_order_to_pay_that_the_node_has_carried_out_and_settled_ends_settled[sqlite]",
    ),
    Mutation(
        name="a settlement on credit that an older database forgot is not credited",
        file=SERVICE,
        old="            if escrow.mode is PaymentMode.CREDIT:\n"
        "                return await self._adopt_settlement(escrow, await self._node.lookup(escrow.payment_hash))\n",
        new="",
        breaks=("I30",),
        caught_by=f"{UNIT}/test_credit_stories.py::test_what_the_node_has_settled_is_owed_although_an_older_database_would_give_it_back[sqlite]",
    ),
    Mutation(
        name="a broker starts on any wallet",
        file=RECONCILE,
        old="            if known is not None and (escrows or paying):\n",
        new="            if known is not None and not pubkey:\n",
        breaks=("I27", "I30"),
        caught_by=f"{REVIEWED}::test_a_broker_on_another_wallet_does_not_start_while_escrows_are_open[sqlite]",
    ),
    Mutation(
        name="a missing permission is found out when it is needed",
        file=RECONCILE,
        old="        except PermissionMissing as error:\n            raise RecoveryFailed(",
        new="        except PermissionMissing as error:\n"
        '            log.warning("node.permission_missing")\n'
        "            continue\n"
        "            raise RecoveryFailed(",
        breaks=("I25",),
        caught_by=f"{REVIEWED_SERVICE}::test_a_macaroon_that_lacks_a_permission_is_named_before_anything_is_held",
    ),
    Mutation(
        name="nobody looks whether a held HTLC is still there",
        file=SERVICE,
        old="if escrow.state not in (EscrowState.OPEN, EscrowState.ACCEPTED, EscrowState.FORWARDING):",
        new="if escrow.state not in (EscrowState.OPEN, EscrowState.FORWARDING):",
        breaks=("I25", "I38"),
        caught_by=script("the node gives the money back while no broker runs"),
    ),
    Mutation(
        name="nobody watches an open invoice",
        file=SERVICE,
        old="                if escrow.state is EscrowState.OPEN:\n"
        "                    self._watch(escrow.id)\n",
        new="",
        breaks=("I38",),
        caught_by=f"{HEARS}[sqlite-nothing]",
    ),
    Mutation(
        name="a stream that was cut is not opened again",
        file=SERVICE,
        old="        finally:\n            self._watching.discard(escrow_id)\n",
        new="",
        breaks=("I38",),
        caught_by=f"{HEARS}[sqlite-a cut stream]",
    ),
    Mutation(
        name="an overdue retry is left for later",
        file=RECONCILE,
        old="        for escrow_id in due:\n            self._escrows.schedule(escrow_id)\n",
        new='        if due:\n            log.info("escrow.retries_due", count=len(due))\n',
        breaks=("I38",),
        caught_by=f"{PAYING}::test_a_payout_that_failed_is_tried_again_when_its_time_has_come[sqlite]",
    ),
    Mutation(
        name="one escrow that cannot be driven ends the sweep",
        file=RECONCILE,
        old="                except BrokerError as error:\n"
        '                    log.error("escrow.sweep_item_failed", job=escrow_id, detail=error.detail)\n'
        "                except Exception as error:\n"
        '                    log.error("escrow.sweep_item_failed", job=escrow_id, exc_info=error)\n',
        new="                except KeyError:\n                    return\n",
        breaks=("I38",),
        caught_by=f"{HOLDING}::test_one_escrow_that_cannot_be_looked_at_does_not_keep_the_sweep_from_the_next_one[sqlite]",
    ),
    Mutation(
        name="accepting and ordering the payout are two commits",
        file=f"{BROKER}/jobs/queue.py",
        old="            if auto:\n"
        "                await self._jobs.release_in(tx, moved, JobChange.ACCEPTED, actor=Actor.BROKER)\n"
        '            tx.after_commit(lambda: self._signals.notify(f"job:{job.id}"))\n',
        new='            tx.after_commit(lambda: self._signals.notify(f"job:{job.id}"))\n'
        "        if auto:\n            await self._jobs.release(moved, JobChange.ACCEPTED, actor=Actor.BROKER)\n",
        breaks=("I25", "I31"),
        caught_by=f"{MATRIX}::test_the_steps_of_a_settled_job_are_its_calls_and_commits_in_their_order",
    ),
    Mutation(
        name="what is held for a forgotten job is given back at once",
        file=ORPHANS,
        old="        if now - since < GRACE_SECONDS:\n",
        new="        if now < since:\n",
        breaks=("I13", "I27"),
        caught_by=f"{ORPHANED}::test_an_orphan_whose_provider_was_not_paid_goes_back_to_the_buyer[sqlite]",
    ),
    Mutation(
        name="what the node holds for others is taken for a forgotten job",
        file=ORPHANS,
        old='return hold.memo.endswith(f" {mark_of(owner)}")',
        new="return mark_of(owner) is not None",
        breaks=("I27",),
        caught_by=f"{ORPHANED}::test_what_is_held_for_somebody_else_on_the_same_node_is_left_alone"
        "[sqlite-of another broker]",
    ),
    Mutation(
        name="a forgotten job is settled with what was paid for something else",
        file=ORPHANS,
        old="            if await ledger.is_claimed(tx, hold.payment_hash):\n",
        new='            if hold.payment_hash == "":\n',
        breaks=("I11", "I23"),
        caught_by=f"{ORPHANED}::test_an_orphan_is_not_settled_with_what_was_paid_for_something_else[sqlite]",
    ),
    Mutation(
        name="with an older copy a balance is withdrawn a second time",
        file=f"{BROKER}/accounts/service.py",
        old="            if await store.stopped(tx) is not None:\n",
        new="            if await store.stopped(tx) == invoice:\n",
        breaks=("I30",),
        caught_by=f"{FORGOTTEN}::test_with_an_older_copy_nothing_is_withdrawn_a_second_time_until_the_operator_has_looked"
        "[sqlite]",
    ),
    Mutation(
        name="what the node has paid is not looked through for what the database forgot",
        file=f"{BROKER}/accounts/forgotten.py",
        old="if not await ledger.is_claimed(tx, one.payment_hash)]",
        new="if await ledger.is_claimed(tx, one.payment_hash)]",
        breaks=("I30",),
        caught_by=f"{FORGOTTEN}::test_an_older_copy_is_noticed_however_old_it_is[sqlite]",
    ),
    Mutation(
        name="what was found and not looked into yet stops nothing at the next start",
        file=f"{BROKER}/accounts/store.py",
        old="sa.and_(_unknown.c.payment_hash == payment_hash, _unknown.c.acknowledged_at.is_not(None))",
        new="sa.and_(_unknown.c.payment_hash == payment_hash)",
        breaks=("I30",),
        caught_by=f"{FORGOTTEN}::test_what_was_acknowledged_stops_nothing_again_and_what_was_not_does[sqlite]",
    ),
    Mutation(
        name="an older copy that has the job open still is let through",
        file=f"{BROKER}/accounts/forgotten.py",
        old=" + await pending(tx)\n",
        new="\n",
        breaks=("I30",),
        caught_by=f"{FORGOTTEN}::test_regression_what_open_jobs_will_be_owed_counts_as_owed[sqlite]",
    ),
    Mutation(
        name="full channels are promised to more jobs",
        file=f"{BROKER}/escrow/slots.py",
        old="return not active or free > promised",
        new="return not active or free > 0",
        breaks=("P2",),
        caught_by=f"{UNIT}/test_slots.py::test_more_than_every_channel_together_could_hold_is_never_promised",
    ),
    Mutation(
        name="a payment of which the database has not heard is given back without a look at the payout",
        file=SERVICE,
        old="return hold is not None and hold.state is InvoiceState.ACCEPTED",
        new="return False",
        breaks=("I13", "I30"),
        caught_by=f"{UNIT}/test_older_copies.py::"
        "test_a_copy_from_before_the_payment_gives_nothing_back_while_the_payout_is_under_way"
        "[sqlite-open-its peer is full]",
    ),
    Mutation(
        name="a hold of another broker on the node is adopted as one's own",
        file=PAYOUT,
        old="(hold.value_msat, hold.memo) != (escrow.total_msat, escrow.memo)",
        new="hold.value_msat != escrow.total_msat",
        breaks=("I10", "I23"),
        caught_by=f"{UNIT}/test_another_broker_on_the_node.py::"
        "test_a_job_that_another_broker_settled_under_the_same_invoice_is_neither_taken_on_nor_a_breach[sqlite]",
    ),
    Mutation(
        name="one job that cannot be read ends the guardian's round",
        file=SERVICE,
        old="                except Exception as error:\n                    # It stays late",
        new="                except TimeoutError as error:\n                    # It stays late",
        breaks=("I19",),
        caught_by=f"{UNIT}/test_one_bad_row.py::"
        "test_a_row_that_cannot_be_read_does_not_keep_the_guardian_from_the_next_one[sqlite-a status that is none]",
    ),
)
