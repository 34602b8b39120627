"""Mistakes in the life of the buyer's side: the table, holding, releasing, giving back, settling."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation, script

MACHINE = f"{BROKER}/escrow/machine.py"
SERVICE = f"{BROKER}/escrow/service.py"
INCOMING = f"{BROKER}/escrow/incoming.py"
STORE = f"{BROKER}/escrow/store.py"
GUARDIAN = f"{BROKER}/escrow/guardian.py"
WRAP = f"{BROKER}/escrow/wrap.py"
STORIES = f"{UNIT}/test_escrow_stories.py"
HOLDING = f"{UNIT}/test_escrow_holding.py"
REVIEWED = f"{UNIT}/test_reviewed_money.py"
RULES = f"{UNIT}/test_wrap_rules.py"
TABLES = f"{UNIT}/test_machines.py"

IN_ESCROW = (
    Mutation(
        name="an accepted payment on credit is settled at once",
        file=MACHINE,
        old="S.ACCEPTED: Duty.WATCH,",
        new="S.ACCEPTED: Duty.SETTLE,",
        breaks=("I11",),
        caught_by=script("a job on credit"),
        says="I11 settle was called while the escrow was accepted",
    ),
    Mutation(
        name="an escrow may be settled while its payout is under way",
        file=MACHINE,
        old="    (S.FORWARDED, E.SETTLE_CONFIRMED): S.SETTLED,\n",
        new="    (S.FORWARDED, E.SETTLE_CONFIRMED): S.SETTLED,\n"
        "    (S.FORWARDING, E.SETTLE_CONFIRMED): S.SETTLED,\n",
        breaks=("I11", "I33"),
        caught_by=f"{TABLES}::test_an_escrow_takes_no_other_edge",
    ),
    Mutation(
        name="an escrow may be cancelled while its payout is under way",
        file=MACHINE,
        old="    (S.FORWARDING, E.NODE_CANCELED): S.EXPOSED,\n",
        new="    (S.FORWARDING, E.NODE_CANCELED): S.EXPOSED,\n"
        "    (S.FORWARDING, E.CANCEL_ASKED): S.CANCELING,\n",
        breaks=("I13", "I33"),
        caught_by=f"{TABLES}::test_an_escrow_whose_payout_may_be_under_way_cannot_be_cancelled",
    ),
    Mutation(
        name="an HTLC that is gone during the payout ends the escrow",
        file=MACHINE,
        old="(S.FORWARDING, E.NODE_CANCELED): S.EXPOSED,",
        new="(S.FORWARDING, E.NODE_CANCELED): S.RETURNED,",
        breaks=("I13", "I33"),
        caught_by=f"{TABLES}::test_an_escrow_takes_each_edge_of_the_design",
    ),
    Mutation(
        name="what is released can be taken back on request",
        file=SERVICE,
        old="if escrow.state not in (EscrowState.CREATED, EscrowState.OPEN, EscrowState.ACCEPTED):",
        new="if escrow.state in TERMINAL:",
        breaks=("I12",),
        caught_by=f"{REVIEWED}::test_a_release_that_is_decided_is_not_taken_back_by_request[sqlite]",
    ),
    Mutation(
        name="an escrow is moved whatever its state is by now",
        file=STORE,
        old='    _escrow.c.state == sa.bindparam("the_state"),\n',
        new='    sa.bindparam("the_state") != "",\n',
        breaks=("I12", "I22"),
        caught_by=script("two brokers settle at the same time"),
        says="I22 the escrow was",
    ),
    Mutation(
        name="the hold invoice is for the price alone",
        file=SERVICE,
        old="value_msat=escrow.total_msat,",
        new="value_msat=escrow.price_msat,",
        breaks=("I17", "I21"),
        caught_by=script("a job"),
        says="I17 the hold invoice is not for the total",
    ),
    Mutation(
        name="what others have waiting at a peer does not count for its cap",
        file=f"{BROKER}/escrow/slots.py",
        old="return not came_over or any(of_peer[peer] > most_msat for peer in came_over)",
        new="return not came_over or all(htlc.amount_msat > most_msat for htlc in waiting)",
        breaks=("P4",),
        caught_by=f"{UNIT}/test_slots.py::test_a_payment_goes_back_when_a_peer_that_it_came_over_has_more_than_the_cap"
        "[with others]",
    ),
    Mutation(
        name="a hold of less than the total counts as paid",
        file=INCOMING,
        old="if hold.min_expiry_height is None or hold.accepted_msat < escrow.total_msat:",
        new="if hold.min_expiry_height is None or hold.accepted_msat < escrow.price_msat:",
        breaks=("I21",),
        caught_by=f"{HOLDING}::test_a_hold_that_is_accepted_short_funds_nothing[sqlite]",
    ),
    Mutation(
        name="HTLCs that went back are counted as held",
        file=f"{BROKER}/lightning/lnd_invoices.py",
        old="held = [htlc for htlc in found.htlcs if htlc.state != HtlcStateNumber.CANCELED]",
        new="held = list(found.htlcs)",
        breaks=("I21",),
        caught_by="tests/unit/lightning/test_lnd_reading.py::test_the_deadline_of_a_hold_is_the_lowest_of_the_htlcs_that_wait",
    ),
    Mutation(
        name="the deadline is that of the last HTLC",
        file=f"{BROKER}/lightning/lnd_invoices.py",
        old="min_expiry_height=min(waiting, default=None),",
        new="min_expiry_height=max(waiting, default=None),",
        breaks=("I18", "I19"),
        caught_by="tests/unit/lightning/test_lnd_reading.py::test_the_deadline_of_a_hold_is_the_lowest_of_the_htlcs_that_wait",
    ),
    Mutation(
        name="repeated news of a payment is an error",
        file=SERVICE,
        old="                if may(escrow.state, EscrowEvent.HTLC_ACCEPTED, mode=escrow.mode):\n",
        new="                if escrow.state is not None:\n",
        breaks=("I22", "I26"),
        caught_by=f"{HOLDING}::test_late_and_repeated_news_of_the_node_changes_nothing[sqlite-deliver]",
    ),
    Mutation(
        name="late news of a cancellation is an error",
        file=SERVICE,
        old="if may(escrow.state, EscrowEvent.NODE_CANCELED, mode=escrow.mode):",
        new="if escrow.state is not EscrowState.OPEN:",
        breaks=("I22", "I26"),
        caught_by=f"{HOLDING}::test_late_and_repeated_news_of_the_node_changes_nothing[sqlite-fail]",
    ),
    Mutation(
        name="the guardian keeps no margin",
        file=GUARDIAN,
        old="    refund_by = min_expiry_height - hold_expiry_delta - margin_blocks\n",
        new="    refund_by = min_expiry_height - hold_expiry_delta\n",
        breaks=("I19",),
        caught_by="tests/property/test_wrap_plans.py::test_the_guardian_pays_before_it_refunds_and_refunds_before_lnd_does",
    ),
    Mutation(
        name="the guardian acts when it is too late for a payout",
        file=STORE,
        old="_escrow.c.release_by <= height",
        new="_escrow.c.refund_by <= height",
        breaks=("I19",),
        caught_by=f"{UNIT}/test_reviewed_service.py::test_an_escrow_that_moved_on_does_not_keep_the_guardian_from_the_next_one[sqlite-0]",
    ),
    Mutation(
        name="the guardian looks for the very block of the deadline",
        file=STORE,
        old="_escrow.c.release_by <= height",
        new="_escrow.c.release_by == height",
        breaks=("I19", "I37"),
        caught_by=f"{HOLDING}::test_blocks_that_came_in_a_burst_while_no_broker_ran_lead_to_a_refund_at_its_start[sqlite]",
    ),
    Mutation(
        name="nothing claims the provider's hash for the job",
        file=SERVICE,
        old="        if escrow.mode is PaymentMode.ESCROW:\n            await self._claim(tx, escrow)\n",
        new="",
        breaks=("I23",),
        caught_by=script("a job"),
        says="I23 ",
    ),
    Mutation(
        name="a hash that was withdrawn to may guard a job",
        file=SERVICE,
        old='if not await ledger.claim(tx, escrow.payment_hash, purpose=f"escrow:{escrow.id}"):',
        new='if await ledger.claim(tx, escrow.payment_hash, purpose=f"escrow:{escrow.id}") is None:',
        breaks=("I23",),
        caught_by=f"{HOLDING}::test_a_hash_that_was_withdrawn_to_guards_no_job[sqlite]",
    ),
    Mutation(
        name="an invoice made for a job that was given up stays payable",
        file=SERVICE,
        old="        if moved is None and (await self.get(escrow.id)).state in TERMINAL:\n",
        new="        if moved is None and self.now() < escrow.created_at:\n",
        breaks=("I27",),
        caught_by=f"{HOLDING}::test_a_hold_invoice_that_comes_after_its_job_was_given_up_is_cancelled[sqlite]",
    ),
    Mutation(
        name="a call that may still make the invoice is not waited out",
        file=SERVICE,
        old="if escrow.hold_invoice is None and on_its_way:",
        new="if escrow.hold_invoice is not None:",
        breaks=("I27",),
        caught_by=f"{HOLDING}::test_a_job_that_is_given_up_waits_for_the_invoice_that_may_still_come[sqlite]",
    ),
    Mutation(
        name="a preimage of ours is stored before the settlement",
        file=SERVICE,
        old='            memo=f"{terms.memo} {self._limits.mark}",\n            credited_to=',
        new='            memo=f"{terms.memo} {self._limits.mark}",\n'
        "            preimage=self._preimages.preimage_for(terms.credit_seed) if terms.credit_seed else None,\n"
        "            credited_to=",
        breaks=("I20",),
        caught_by=script("a job on credit"),
        says="I20 a preimage is in the database",
    ),
    Mutation(
        name="a change of an escrow is logged with its preimage",
        file=SERVICE,
        old='log.info("escrow.changed", job=moved.id, change=event, state=moved.state)',
        new='log.info("escrow.changed", job=moved.id, change=event, state=moved.state, '
        "proof=moved.preimage and moved.preimage.hex())",
        breaks=("I20",),
        caught_by=script("a job"),
        says="I20 a preimage was logged",
    ),
    Mutation(
        name="an escrow prints its preimage",
        file=STORE,
        old='return f"Escrow(id={self.id}, state={self.state})"',
        new='return f"Escrow(id={self.id}, state={self.state}, preimage={self.preimage})"',
        breaks=("I20",),
        caught_by=f"{UNIT}/test_secrets_do_not_print.py::test_no_row_that_holds_a_secret_prints_it",
    ),
    Mutation(
        name="an invoice of another network is guarded",
        file=WRAP,
        old="if invoice.network.value != limits.network:",
        new="if invoice.network.value not in (limits.network, 'bitcoin', 'mainnet'):",
        breaks=("I17",),
        caught_by=f"{RULES}::test_an_invoice_for_another_network_is_refused",
    ),
    Mutation(
        name="an invoice for more than the price is guarded",
        file=WRAP,
        old="if invoice.amount_msat != price_msat:",
        new="if invoice.amount_msat < price_msat:",
        breaks=("I17",),
        caught_by=f"{RULES}::test_an_invoice_for_another_amount_is_refused_to_the_msat",
    ),
    Mutation(
        name="an invoice under another hash is guarded",
        file=WRAP,
        old="if invoice.payment_hash != payment_hash:",
        new="if not invoice.payment_hash:",
        breaks=("I17", "I23"),
        caught_by=f"{RULES}::test_an_invoice_with_another_hash_than_the_committed_one_is_refused",
    ),
    Mutation(
        name="an invoice of the broker's own node is guarded",
        file=WRAP,
        old="if invoice.payee == limits.own_node:",
        new="if not invoice.payee:",
        breaks=("I17",),
        caught_by=f"{RULES}::test_an_invoice_payable_at_the_broker_s_own_node_is_refused",
    ),
    Mutation(
        name="an invoice that may expire before the payout is guarded",
        file=WRAP,
        old="if invoice.expires_at < now + needed_seconds - EXPIRY_BUFFER_SECONDS:",
        new="if invoice.expires_at < now + EXPIRY_BUFFER_SECONDS:",
        breaks=("I17",),
        caught_by=f"{RULES}::test_an_invoice_that_might_expire_before_the_payout_is_refused",
    ),
    Mutation(
        name="an invoice with any final CLTV is guarded",
        file=WRAP,
        old="if invoice.min_final_cltv > limits.max_final_cltv:",
        new="if invoice.min_final_cltv < 0:",
        breaks=("I18",),
        caught_by=f"{RULES}::test_an_invoice_that_would_lock_the_payout_too_long_is_refused",
    ),
    Mutation(
        name="the hold leaves no blocks for the payout",
        file=WRAP,
        old="hold = job_blocks + outgoing + hold_expiry_delta + limits.guardian_margin_blocks + SPARE_BLOCKS",
        new="hold = job_blocks + hold_expiry_delta + limits.guardian_margin_blocks + SPARE_BLOCKS",
        breaks=("I18", "I38"),
        caught_by="tests/property/test_wrap_plans.py::test_the_hold_outlasts_the_job_the_payout_and_lnd_s_own_deadline",
    ),
)
