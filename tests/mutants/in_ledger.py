"""Mistakes in the ledger, and in what an escrow's changes mean in it."""

from __future__ import annotations

from mutants.mutation import BROKER, UNIT, Mutation, script

RULES = f"{BROKER}/ledger/rules.py"
STORE = f"{BROKER}/ledger/store.py"
POSTINGS = "tests/property/test_ledger_postings.py"
ROWS = f"{UNIT}/test_ledger_store.py"
WATCHDOG = "tests/integration/test_watchdog.py"

IN_LEDGER = (
    Mutation(
        name="a posting that does not balance is taken",
        file=RULES,
        old="if len(self.entries) < 2 or sum(entry.amount_msat for entry in self.entries) != 0:",
        new="if len(self.entries) < 2:",
        breaks=("I1",),
        caught_by=f"{POSTINGS}::test_only_entries_that_balance_make_a_posting",
    ),
    Mutation(
        name="a transaction that fails leaves its first entries",
        file=f"{BROKER}/db/sqlite.py",
        old='            writer.raw.execute("ROLLBACK TO one")\n',
        new="",
        breaks=("I1", "I31"),
        caught_by=f"{ROWS}::test_a_posting_in_a_transaction_that_fails_leaves_no_trace[sqlite]",
    ),
    Mutation(
        name="fractions, truths and zeros are taken for amounts",
        file=RULES,
        old="if type(entry.amount_msat) is not int or not 0 < abs(entry.amount_msat) <= MAX_MSAT:",
        new="if not abs(entry.amount_msat) <= MAX_MSAT:",
        breaks=("I2",),
        caught_by=f"{POSTINGS}::test_an_entry_that_is_no_whole_positive_or_negative_amount_is_refused",
    ),
    Mutation(
        name="there is no bound for an amount",
        file=RULES,
        old="not 0 < abs(entry.amount_msat) <= MAX_MSAT",
        new="entry.amount_msat == 0",
        breaks=("I2",),
        caught_by=f"{POSTINGS}::test_an_entry_that_is_no_whole_positive_or_negative_amount_is_refused",
    ),
    Mutation(
        name="no trigger refuses an update of a log",
        file=f"{BROKER}/db/migrations/dialects.py",
        old='for verb in ("UPDATE", "DELETE"):',
        new='for verb in ("DELETE",):',
        breaks=("I3",),
        caught_by=f"{ROWS}::test_the_database_refuses_to_change_what_was_recorded[sqlite]",
    ),
    Mutation(
        name="the ledger's entries have no trigger",
        file=f"{BROKER}/db/migrations/versions/0001_the_first_schema.py",
        old='APPEND_ONLY = ("ledger_transaction", "ledger_entry",',
        new='APPEND_ONLY = ("ledger_transaction",',
        breaks=("I3",),
        caught_by=f"{ROWS}::test_every_table_that_is_a_log_is_append_only[sqlite]",
    ),
    Mutation(
        name="an escrow moves without a line in its log",
        file=f"{BROKER}/escrow/store.py",
        old="    await _log(tx, escrow_id=escrow.id, event=event, before=escrow.state, to=target, at=now, data=data)\n",
        new="",
        breaks=("I5",),
        caught_by=script("a job"),
        says="I5 the escrow rows are not what their log leads to",
    ),
    Mutation(
        name="an account's balance forgets its credits",
        file=STORE,
        old="            _entries.c.account == account\n        )\n    )\n    return int(total)",
        new="            _entries.c.account == account, _entries.c.amount_msat > 0\n"
        "        )\n"
        "    )\n"
        "    return int(total)",
        breaks=("I5",),
        caught_by=f"{POSTINGS}::test_balances_are_the_sum_of_what_was_posted_first_under_each_key[sqlite]",
    ),
    Mutation(
        name="other entries under a used key are taken for the same posting",
        file=STORE,
        old='            raise LedgerConflict(f"posting {posting.key} was made before with other entries")\n',
        new="            return False\n",
        breaks=("I6",),
        caught_by=f"{ROWS}::test_other_entries_under_a_used_key_are_refused_and_add_nothing[sqlite]",
    ),
    Mutation(
        name="a payout is posted without a cause",
        file=RULES,
        old='cause=f"provider paid for {job_id}"',
        new='cause=""',
        breaks=("I7",),
        caught_by=script("a job"),
        says="a posting has a key and a cause",
    ),
    Mutation(
        name="the settlement forgets what routing took from the escrow",
        file=f"{BROKER}/escrow/booking.py",
        old="            price_msat=escrow.price_msat,\n            routing_msat=routing,",
        new="            price_msat=escrow.price_msat,\n            routing_msat=0,",
        breaks=("I8",),
        caught_by=script("a job"),
        says="I8 ",
    ),
    Mutation(
        name="the audit overlooks an escrow account that was not closed",
        file=f"{BROKER}/audit.py",
        old='if account.startswith("escrow:") and account not in between',
        new='if account.startswith("escrow:") and amount < 0 and account not in between',
        breaks=("I8", "I10"),
        caught_by=f"{ROWS}::test_the_audit_finds_an_escrow_account_that_was_not_closed[sqlite]",
    ),
    Mutation(
        name="what routing did not need is booked as a fee",
        file=RULES,
        old="    unspent = received_msat - price_msat - routing_msat - fee_msat\n",
        new="    unspent, fee_msat = 0, received_msat - price_msat - routing_msat\n",
        breaks=("I9",),
        caught_by=f"{POSTINGS}::test_a_settlement_closes_the_escrow_account_for_every_price_fee_and_route",
    ),
    Mutation(
        name="half of the routing estimate is rounded down",
        file=f"{BROKER}/escrow/wrap.py",
        old="ceil_share(route_fee_msat, ppm=500_000)",
        new="route_fee_msat // 2",
        breaks=("I9",),
        caught_by=f"{UNIT}/test_wrap_rules.py::test_the_price_is_itemised_as_the_operator_says",
    ),
    Mutation(
        name="a loss is not booked",
        file=f"{BROKER}/escrow/booking.py",
        old="    if escrow.state is EscrowState.LOST:\n",
        new="    if escrow.state is EscrowState.LOST and not routing:\n",
        breaks=("I8", "I10"),
        caught_by=f"{UNIT}/test_escrow_stories.py::test_a_loss_is_booked_where_everybody_sees_it[sqlite]",
    ),
    Mutation(
        name="a breach is logged and payouts go on",
        file=f"{BROKER}/watchdog.py",
        old='            self._gate.close("; ".join(breaches[:3]))\n',
        new='            log.error("watchdog.breach", breaches=breaches[:3])\n',
        breaks=("I10",),
        caught_by=f"{WATCHDOG}::test_what_does_not_hold_stops_payouts_and_says_so[an entry alone]",
    ),
    Mutation(
        name="a closed gate holds back only payouts that were tried before",
        file=f"{BROKER}/escrow/service.py",
        old="case Duty.DISPATCH if self.gate.is_closed:",
        new="case Duty.DISPATCH if self.gate.is_closed and escrow.attempts:",
        breaks=("I10",),
        caught_by=f"{WATCHDOG}::test_what_does_not_hold_stops_payouts_and_says_so[an entry alone]",
    ),
    Mutation(
        name="jobs are hired although the books do not hold",
        file=f"{BROKER}/escrow/service.py",
        old="        self.gate.require_open()\n",
        new="",
        breaks=("I10",),
        caught_by=f"{UNIT}/test_stopped_hires.py::"
        "test_with_a_closed_gate_nobody_is_hired_on_a_quote_of_before_and_with_an_open_one_again[sqlite]",
    ),
    Mutation(
        name="the watchdog believes the books about what routing cost",
        file=f"{BROKER}/audit.py",
        old="    elif should and cost <= escrow.routing_msat and payout.fee_msat != escrow.routing_paid_msat:",
        new="    elif should and payout.fee_msat is None:",
        breaks=("I10",),
        caught_by=f"{WATCHDOG}::test_what_does_not_hold_stops_payouts_and_says_so[another routing fee]",
    ),
)
