"""What must hold of a broker's books and its node, whatever happened. Each breach is one sentence.

The numbers are those of the invariants in docs/incidents.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from databases import Look, Rows
from escrow_world import LIMITS, PREIMAGES
from faulty_node import HOLD_EXPIRY_DELTA, FaultyNode
from machine_edges import EDGES_OF_MODE, ESCROW_ENDS, JOB_EDGES, JOB_ENDS, STATUSES_OF_ESCROW

from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus
from lightwork_broker.market.quotes import signed_terms
from lightwork_contracts.ids import PaymentHash

MONEY_OUT = (PayoutStatus.IN_FLIGHT, PayoutStatus.SUCCEEDED)
PAID = ("forwarded", "settled", "lost")
RELEASED_CREDIT = ("settling", "settled")
SECRET_TABLES = ("escrow", "escrow_event", "job", "job_event", "quote", "ledger_transaction", "ledger_entry")


class Books(Look):
    """A look at the committed rows, past the code under test."""

    def escrow(self, payment_hash: str) -> dict[str, Any] | None:
        found = self.rows("SELECT * FROM escrow WHERE payment_hash = ?", payment_hash)
        return found[0] if found else None


@dataclass
class Auditor:
    """Watches each call to the node, and compares books and node after each step."""

    books: Books
    node: FaultyNode
    breaches: list[str] = field(default_factory=list[str])
    checked_events: int = 0
    checked_job_events: int = 0
    checked_postings: int = 0
    states: dict[str, str] = field(default_factory=dict[str, str])
    statuses: dict[str, str] = field(default_factory=dict[str, str])
    excused: set[PaymentHash] = field(default_factory=set[PaymentHash])
    within: set[PaymentHash] = field(default_factory=set[PaymentHash])
    """What waited at a moment at which the broker asked and there was not too much at the peer."""

    # --- at each call -----------------------------------------------------------------------------------

    def called(self, name: str, payment_hash: PaymentHash | None, **facts: int) -> None:
        if payment_hash is None:
            return
        row = self.books.escrow(payment_hash)
        if row is None:
            self._breach(f"I15 {name} was called for a hash that is not in the database")
            return
        match name:
            case "add_hold":
                if facts["value_msat"] != row["price_msat"] + row["fee_msat"] + row["routing_msat"]:
                    self._breach("I17 the hold invoice is not for the total")
            case "pay" if _is_credit(row):
                self._breach("a payout was sent for a job in credit mode")
            case "pay":
                self._check_pay(payment_hash, row, facts)
            case "cancel":
                self._check_cancel(payment_hash, row)
            case "settle":
                released = RELEASED_CREDIT if _is_credit(row) else ("forwarded", "settled")
                if row["state"] not in released:
                    self._breach(f"I11 settle was called while the escrow was {row['state']}")
            case _:
                pass

    def happened(self, name: str, payment_hash: PaymentHash | None) -> None:
        if name == "waiting_htlcs":
            waiting = self.node.waiting()
            if sum(htlc.amount_msat for htlc in waiting) <= LIMITS.held_msat_of_peer:
                self.within.update(htlc.payment_hash for htlc in waiting)
        if payment_hash is None:
            return
        if name == "cancel":
            self._check_no_money_out(payment_hash, "I13 the incoming side was cancelled")
        if name == "settle" and not self._released(payment_hash):
            self._breach(
                "I11 the incoming side was settled before the payout succeeded, or release was recorded"
            )

    def _check_pay(self, payment_hash: PaymentHash, row: dict[str, Any], facts: dict[str, int]) -> None:
        # A broker that was overtaken by another one may still ask again: then it is a repeat, and harmless.
        known = self.node.payments.get(payment_hash)
        repeat = known is not None and known.status in MONEY_OUT
        if row["state"] != "forwarding" and not repeat:
            self._breach(f"I15 a payout was sent while the escrow was {row['state']}, without an intent")
        if row["intended_at"] is None:
            self._breach("I15 a payout was sent before its intent was committed")
        if facts["fee_limit_msat"] != row["routing_msat"] or facts["fee_limit_msat"] <= 0:
            self._breach("I16 the fee limit is not what was collected for it")
        if facts["amount_msat"] != row["price_msat"]:
            self._breach("I17 the provider's invoice is not for the price")
        hold = self.node.holds.get(payment_hash)
        if hold is None or (hold.state is not InvoiceState.ACCEPTED and not repeat):
            self._breach("W9 a payout was sent while no HTLC was held")
        elif hold.min_expiry is not None:
            latest = self.node.height + facts["cltv_limit"] + HOLD_EXPIRY_DELTA
            if facts["cltv_limit"] <= 0 or latest >= hold.min_expiry:
                self._breach(
                    f"I18 a payout may stay out until {latest}, the HTLC expires at {hold.min_expiry}"
                )

    def _check_cancel(self, payment_hash: PaymentHash, row: dict[str, Any]) -> None:
        if row["state"] not in ("canceling", *ESCROW_ENDS):
            self._breach(f"I13 cancel was called while the escrow was {row['state']}")
        self._check_no_money_out(payment_hash, "I13 cancel was called")

    def _check_no_money_out(self, payment_hash: PaymentHash, what: str) -> None:
        payment = self.node.payments.get(payment_hash)
        if payment is not None and payment.status in MONEY_OUT:
            hold = self.node.holds.get(payment_hash)
            if hold is None or not hold.state.is_final:
                self._breach(f"{what} while the payout was {payment.status}")
        if self.node.pays_on_the_wire(payment_hash):
            self._breach(f"{what} while a payout could still begin")

    # --- after each step --------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """Return every breach so far."""
        self._check_node()
        escrows = self.books.rows("SELECT * FROM escrow")
        self._check_ledger(escrows)
        self._check_causes()
        self._check_claims(escrows)
        jobs = {row["id"]: row for row in self.books.rows("SELECT * FROM job")}
        for row in escrows:
            self._check_escrow(row, jobs[row["id"]])
        self._check_paths()
        self._check_secrets()
        return self.breaches

    def _check_node(self) -> None:
        node = self.node
        if sum(node.balances.values()) != 0:
            self._breach(f"money came from nowhere: {node.balances}")
        for payment_hash, count in node.successes.items():
            if count > 1:
                self._breach(f"I14 {payment_hash} was paid {count} times")
        for hold in node.holds.values():
            if hold.state is InvoiceState.SETTLED and not self._released(hold.payment_hash):
                self._breach("I11 a hold invoice is settled, but its payout did not succeed")

    def _check_ledger(self, escrows: Rows) -> None:
        sums: Counter[int] = Counter()
        accounts: Counter[str] = Counter()
        for row in self.books.rows("SELECT transaction_id, account, amount_msat FROM ledger_entry"):
            sums[row["transaction_id"]] += row["amount_msat"]
            accounts[row["account"]] += row["amount_msat"]
        if any(sums.values()):
            self._breach("I1 a ledger transaction does not balance")
        gain = accounts["assets:node"]
        owed = {
            f"balance:{row['credited_to']}": -sum(
                other["price_msat"]
                for other in escrows
                if other["credited_to"] == row["credited_to"] and other["state"] == "settled"
            )
            for row in escrows
            if _is_credit(row)
        }
        for account, amount in owed.items():
            if accounts[account] != amount:
                self._breach(f"what is owed is {accounts[account]} msat, the settled jobs say {amount} msat")
            if -amount > LIMITS.credit_ceiling_msat:
                self._breach(f"{-amount} msat are owed, above the ceiling")
        for row in escrows:
            payment_hash = PaymentHash(row["payment_hash"])
            paid = self.node.payments.get(payment_hash)
            hold = self.node.holds.get(payment_hash)
            spent = row["price_msat"] + (row["routing_paid_msat"] or 0)
            due = spent if row["state"] == "forwarded" else 0
            if accounts[f"escrow:{row['id']}"] != due:
                self._breach(f"I8 the account of {row['state']} {row['id']} is not {due} msat")
            if paid is not None and paid.status is PayoutStatus.SUCCEEDED and row["state"] not in PAID:
                gain -= paid.price_msat + paid.fee_msat
            if hold is not None and hold.state is InvoiceState.SETTLED and row["state"] != "settled":
                gain += hold.amount_msat
        if gain != self.node.balances["broker"]:
            self._breach(f"I10 the ledger explains {gain} msat, the node has {self.node.balances['broker']}")

    def _check_causes(self) -> None:
        for row in self.books.rows(
            f"SELECT id, key, cause FROM ledger_transaction WHERE id > {self.checked_postings} ORDER BY id"
        ):
            self.checked_postings = row["id"]
            if row["key"].partition(":")[2] not in row["cause"]:
                self._breach(f"I7 the posting {row['key']} says {row['cause']!r}, not what caused it")

    def _check_claims(self, escrows: Rows) -> None:
        claims = {
            row["payment_hash"]: row["purpose"] for row in self.books.rows("SELECT * FROM payment_claim")
        }
        for row in escrows:
            if claims.get(row["payment_hash"]) != (None if _is_credit(row) else f"escrow:{row['id']}"):
                self._breach(f"I23 the hash of {row['id']} is claimed for {claims.get(row['payment_hash'])}")

    def _check_escrow(self, row: dict[str, Any], job: dict[str, Any]) -> None:
        payment_hash = PaymentHash(row["payment_hash"])
        state, status = row["state"], job["status"]
        self._check_quote(row, job)
        if status not in STATUSES_OF_ESCROW[state]:
            self._breach(f"the job is {status} while its escrow is {state}")
        if _is_credit(row):
            hold = self.node.holds.get(payment_hash)
            if state == "settled" and (hold is None or hold.state is not InvoiceState.SETTLED):
                self._breach("I11 the provider is credited, but the buyer was not charged")
        elif state in PAID and not self._succeeded(payment_hash):
            self._breach(f"I11 the escrow is {state}, but the payout did not succeed")
        if state not in ("created", "open", "canceling", "canceled"):
            held = self.node.ever_accepted.get(payment_hash, 0)
            if held < row["total_msat"] or (row["accepted_msat"] or 0) < row["total_msat"]:
                self._breach(f"I21 the escrow is {state}, but only {held} msat was ever held")
            was_asked = self.node.observer is self and "waiting_htlcs" not in self.node.denied
            if was_asked and payment_hash not in self.within:
                self._breach(f"P4 the escrow is {state}, but there was always too much at the peer")
        payment = self.node.payments.get(payment_hash)
        out = payment is not None and payment.status in MONEY_OUT
        if out and state in ("canceling", "canceled", "returned"):
            self._breach(f"I13 the escrow is {state} while the payout is {payment and payment.status}")
        if out and state in ("accepted", "releasing"):
            self._breach(f"I28 the escrow is {state}, as if the payout that is under way had failed")
        if state == "lost" and payment_hash not in self.excused:
            self._breach("money was lost although a broker could have acted in time")
        if status == "refunded" and job["result"] is not None:
            self._breach("a refunded job still holds the result")
        if job["preimage"] is not None and status != "settled":
            self._breach(f"I20 the job row has a preimage while it is {status}")

    def _check_quote(self, row: dict[str, Any], job: dict[str, Any]) -> None:
        """Compare a job and its escrow with the quote that the broker signed."""
        (quote,) = self.books.rows("SELECT event FROM quote WHERE id = ?", job["quote_id"])
        terms = signed_terms(quote["event"])[1]
        for column in ("price_msat", "payment_hash", "work_seconds", "review_seconds", "listing_version"):
            if job[column] != getattr(terms, column):
                self._breach(f"I34 the {column} of the job is not that of its quote")
        for column in ("price_msat", "fee_msat", "routing_msat", "total_msat", "payment_hash"):
            if row[column] != getattr(terms, column):
                self._breach(f"I34 the {column} of the escrow is not that of its quote")
        if row["hold_cltv_blocks"] != terms.hold_cltv_blocks:
            self._breach("I34 the hold lasts for other blocks than the quote says")

    def _check_paths(self) -> None:
        for row in self.books.rows(
            f"SELECT * FROM escrow_event WHERE seq > {self.checked_events} ORDER BY seq"
        ):
            self.checked_events = row["seq"]
            before, event, after = row["from_state"], row["event"], row["to_state"]
            known = self.states.get(row["escrow_id"])
            owner = self.books.rows("SELECT credited_to FROM escrow WHERE id = ?", row["escrow_id"])[0]
            edges = EDGES_OF_MODE["credit" if _is_credit(owner) else "escrow"]
            legal = edges.get((before, event)) == after or (event, after) == ("created", "created")
            if before != known or not legal:
                self._breach(f"I22 the escrow was {known}, then {event} took it from {before} to {after}")
            self.states[row["escrow_id"]] = after
        for row in self.books.rows(
            f"SELECT * FROM job_event WHERE seq > {self.checked_job_events} ORDER BY seq"
        ):
            self.checked_job_events = row["seq"]
            kind, after = row["kind"].removeprefix("job."), row["status"]
            known = self.statuses.get(row["job_id"])
            edge = JOB_EDGES.get((known or "", kind))
            stays = kind in ("progress", "provider_paid") and known == after
            if not stays and (edge is None or edge[0] != after) and (known, kind) != (None, "quoted"):
                self._breach(f"I33 the job was {known}, then {kind} made it {after}")
            self.statuses[row["job_id"]] = after
        present = {row["id"]: row["state"] for row in self.books.rows("SELECT id, state FROM escrow")}
        if present != self.states:
            self._breach("I5 the escrow rows are not what their log leads to")

    def _check_secrets(self) -> None:
        hidden = [
            preimage.hex()
            for payment_hash, preimage in self.node.preimages.items()
            if not self._succeeded(payment_hash)
        ]
        for row in self.books.rows("SELECT * FROM escrow WHERE credited_to IS NOT NULL"):
            hold = self.node.holds.get(PaymentHash(row["payment_hash"]))
            if hold is None or hold.state is not InvoiceState.SETTLED:
                hidden.append(PREIMAGES.preimage_for(row["credit_seed"]).hex())
        if not hidden:
            return
        text = "\n".join(
            str(row) for table in SECRET_TABLES for row in self.books.rows(f"SELECT * FROM {table}")
        )
        if any(secret in text for secret in hidden):
            self._breach("I20 a preimage is in the database although its payout did not succeed")

    # --- at the end -------------------------------------------------------------------------------------

    def check_end(self) -> list[str]:
        """Return every breach, with every job over and every party's money where it belongs."""
        self.check()
        jobs = {row["id"]: row for row in self.books.rows("SELECT * FROM job")}
        for row in self.books.rows("SELECT * FROM escrow"):
            status = jobs[row["id"]]["status"]
            payment_hash = PaymentHash(row["payment_hash"])
            if row["state"] not in ESCROW_ENDS or status not in JOB_ENDS:
                self._breach(f"I38 nothing ends the escrow that is {row['state']} (job {status})")
                continue
            charged = self.node.charged.get(payment_hash, 0)
            paid = self.node.paid_out.get(payment_hash, 0)
            due = 0 if _is_credit(row) else row["price_msat"]
            if row["state"] == "settled" and (charged < row["total_msat"] or paid != due):
                self._breach(f"a settled job: the buyer paid {charged}, the provider received {paid} msat")
            if row["state"] in ("canceled", "returned") and (charged or paid):
                self._breach(f"a job given back: the buyer paid {charged}, the provider received {paid} msat")
        for hold in self.node.holds.values():
            if not hold.state.is_final:
                self._breach(f"I27 the node still holds an invoice that is {hold.state}")
        books = self.books.rows(
            "SELECT account, SUM(amount_msat) AS total FROM ledger_entry GROUP BY account"
        )
        gain = {row["account"]: row["total"] for row in books}.get("assets:node", 0)
        if gain != self.node.balances["broker"]:
            self._breach(f"I10 the ledger has {gain} msat, the node {self.node.balances['broker']}")
        return self.breaches

    def _released(self, payment_hash: PaymentHash) -> bool:
        """Tell whether the buyer's money may be taken: the provider is paid, or its credit is recorded."""
        row = self.books.escrow(payment_hash)
        if row is not None and _is_credit(row):
            return row["state"] in RELEASED_CREDIT
        return self._succeeded(payment_hash)

    def _succeeded(self, payment_hash: PaymentHash) -> bool:
        payment = self.node.payments.get(payment_hash)
        return payment is not None and payment.status is PayoutStatus.SUCCEEDED

    def _breach(self, text: str) -> None:
        if text not in self.breaches:
            self.breaches.append(text)


def _is_credit(row: dict[str, Any]) -> bool:
    return row["credited_to"] is not None


def count_by(rows: Rows, column: str) -> dict[str, int]:
    """Return how many rows have each value of a column."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        found[row[column]] += 1
    return dict(found)
