"""What must hold of books and node after each step, whatever happened. Each breach is one sentence.

The numbers I1 to I38 name the invariants of the project's reliability notes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from machine_edges import EDGES_OF_MODE, JOB_EDGES, STATUSES_OF_ESCROW
from market_machine.world import BUYERS, CEILING_MSAT, SELLERS, World

from lightwork_broker.ledger.rules import NODE, balance_account, escrow_account, withdrawal_account
from lightwork_broker.lightning.ports import InvoiceState, PayoutStatus
from lightwork_broker.lightning.simulated.invoices import Invoice
from lightwork_broker.lightning.simulated.node_state import Payment
from lightwork_contracts.ids import JobId, PaymentHash, Pubkey, WithdrawalId

PAID = ("forwarded", "settled", "lost")
NEVER_HELD = ("created", "open", "canceling", "canceled")
STAYS = ("progress", "provider_paid")


@dataclass
class Checks:
    """Compares what the broker wrote with what the nodes know. `reached` are all states that were ever written."""

    world: World
    reached: set[str] = field(default_factory=set[str])
    excused: set[str] = field(default_factory=set[str])
    """Hashes of payouts that were made while the broker could not settle in time: see `Story`."""
    expiry: dict[str, int] = field(default_factory=dict[str, int])
    """The height at which the node gives each held payment back by itself."""
    _escrow_seq: int = 0
    _job_seq: int = 0
    _withdrawal_seq: int = 0
    _states: dict[str, str] = field(default_factory=dict[str, str])
    _statuses: dict[str, str] = field(default_factory=dict[str, str])
    _ended: dict[str, str] = field(default_factory=dict[str, str])

    def breach(self, text: str) -> None:
        self.world.judge.breach(text)

    # --- looking ----------------------------------------------------------------------------------------

    def hold(self, payment_hash: str) -> Invoice | None:
        found = self.world.state("broker").invoices.get(PaymentHash(payment_hash))
        return found if found is not None and found.held else None

    def payment(self, payment_hash: str) -> Payment | None:
        return self.world.state("broker").payments.get(PaymentHash(payment_hash))

    def succeeded(self, payment_hash: str) -> bool:
        payment = self.payment(payment_hash)
        return payment is not None and payment.status is PayoutStatus.SUCCEEDED

    def charged(self, payment_hash: str) -> int:
        hold = self.hold(payment_hash)
        return hold.accepted_msat if hold is not None and hold.state is InvoiceState.SETTLED else 0

    def look(self) -> None:
        """Check everything that holds at any time."""
        world = self.world
        world.network.check()
        owned = world.owned()
        if sum(owned.values()) != 0:
            self.breach(f"money came from nowhere: {owned}")
        escrows = world.books.rows("SELECT * FROM escrow")
        jobs = {row["id"]: row for row in world.books.rows("SELECT * FROM job")}
        withdrawals = world.books.rows("SELECT * FROM withdrawal")
        self._ledger(escrows, withdrawals, broker=owned["broker"])
        for row in escrows:
            self._escrow(row, jobs[row["id"]])
        self._withdrawals(withdrawals)
        self._holds({row["payment_hash"]: row for row in escrows})
        self._parties(owned)
        self._paths()

    # --- money ------------------------------------------------------------------------------------------

    def _ledger(
        self, escrows: list[dict[str, Any]], withdrawals: list[dict[str, Any]], *, broker: int
    ) -> None:
        books = self.world.books
        sums: Counter[int] = Counter()
        accounts: Counter[str] = Counter()
        for row in books.rows("SELECT transaction_id, account, amount_msat FROM ledger_entry"):
            sums[row["transaction_id"]] += row["amount_msat"]
            accounts[row["account"]] += row["amount_msat"]
        if any(sums.values()):
            self.breach("I1 a ledger transaction does not balance")
        gain = accounts[NODE]
        for row in escrows:
            payment_hash, state = row["payment_hash"], row["state"]
            spent = row["price_msat"] + (row["routing_paid_msat"] or 0)
            due = spent if state == "forwarded" else 0
            if accounts[escrow_account(JobId(row["id"]))] != due:
                self.breach(f"I8 the account of {state} {row['id']} is not {due} msat")
            if self.succeeded(payment_hash) and state not in PAID:
                gain -= (
                    row["price_msat"]
                    + (self.payment(payment_hash) or Payment(payment_hash=payment_hash)).fee_msat
                )
            if state != "settled":
                gain += self.charged(payment_hash)
        for row in withdrawals:
            reserved = row["amount_msat"] + row["max_fee_msat"] if row["status"] == "paying" else 0
            if accounts[withdrawal_account(WithdrawalId(row["id"]))] != -reserved:
                self.breach(f"a withdrawal that is {row['status']} does not hold {reserved} msat")
            payment = self.payment(row["payment_hash"])
            if payment is not None and payment.status is PayoutStatus.SUCCEEDED and row["status"] != "paid":
                gain -= row["amount_msat"] + payment.fee_msat
        if gain != broker + self._not_heard():
            self.breach(f"I10 the ledger explains {gain} msat, the node has {broker + self._not_heard()}")
        self._owed(escrows, withdrawals, accounts)

    def _not_heard(self) -> int:
        """Return what the broker's node has settled while the payer's, or it, was away."""
        broker = self.world.state("broker").pubkey
        return sum(
            htlc.amount_msat
            for htlc in self.world.network.waiting()
            if htlc.receiver == broker and htlc.ending is not None and htlc.ending.preimage is not None
        )

    def _owed(
        self, escrows: list[dict[str, Any]], withdrawals: list[dict[str, Any]], accounts: Counter[str]
    ) -> None:
        """I4, I9: what is owed is what was settled less what was withdrawn, and at most the ceiling."""
        for seller in self.world.sellers:
            agent = Pubkey(seller.key.public)
            earned = sum(
                row["price_msat"]
                for row in escrows
                if row["credited_to"] == agent and row["state"] == "settled"
            )
            mine = [row for row in withdrawals if row["agent"] == agent]
            taken = sum(row["amount_msat"] + row["fee_paid_msat"] for row in mine if row["status"] == "paid")
            reserved = sum(
                row["amount_msat"] + row["max_fee_msat"] for row in mine if row["status"] == "paying"
            )
            owed = -accounts[balance_account(agent)]
            if owed != earned - taken - reserved:
                self.breach(f"{owed} msat are owed: {earned} earned, {taken} withdrawn, {reserved} under way")
            if owed < 0:
                self.breach(f"I4 a balance is overdrawn by {-owed} msat")
            if owed + reserved > CEILING_MSAT:
                self.breach(f"{owed} msat are owed and {reserved} under way, above the ceiling")

    def _parties(self, owned: dict[str, int]) -> None:
        """What each party won or lost is what its own node's payments say, and none of it without the broker."""
        for name in BUYERS:
            paid = 0
            for payment_hash, payment in self.world.state(name).payments.items():
                if payment.status is not PayoutStatus.SUCCEEDED:
                    continue
                paid += self.charged(payment_hash)
                if not self.charged(payment_hash):
                    self.breach(f"{name} was charged, and the broker's invoice is not settled")
            heard = owned[name] == -paid
            if not heard and not self.world.network.waiting():
                self.breach(f"{name} has {owned[name]} msat, its payments say {-paid}")
        for name in SELLERS:
            got = sum(
                invoice.accepted_msat
                for invoice in self.world.state(name).invoices.values()
                if invoice.state is InvoiceState.SETTLED
            )
            if owned[name] > got:
                self.breach(f"{name} has {owned[name]} msat, its invoices say {got}")

    # --- escrows and what the node holds ----------------------------------------------------------------

    def _escrow(self, row: dict[str, Any], job: dict[str, Any]) -> None:
        payment_hash, state, status = row["payment_hash"], row["state"], job["status"]
        credit = row["credited_to"] is not None
        if status not in STATUSES_OF_ESCROW[state]:
            self.breach(f"the job is {status} while its escrow is {state}")
        if state == "settled" and not self.charged(payment_hash):
            self.breach("the escrow is settled, and the buyer was not charged")
        if state in PAID and not credit and not self.succeeded(payment_hash):
            self.breach(f"I11 the escrow is {state}, and the payout did not succeed")
        if state not in NEVER_HELD and (row["accepted_msat"] or 0) < row["total_msat"]:
            self.breach(f"I21 the escrow is {state}, and only {row['accepted_msat']} msat were held")
        payment = self.payment(payment_hash)
        out = payment is not None and payment.status in (PayoutStatus.IN_FLIGHT, PayoutStatus.SUCCEEDED)
        if out and state in ("canceled", "returned"):
            self.breach(f"I13 the escrow is {state} while the payout is {payment and payment.status}")
        if out and state in ("canceling", "accepted", "releasing") and not self.world.house.restored:
            self.breach(f"I28 the escrow is {state}, as if the payout under way had failed")
        if state in ("lost", "exposed") and payment_hash not in self.excused:
            self.breach(f"the escrow is {state} although a broker could have acted in time")
        if status == "refunded" and job["result"] is not None:
            self.breach("a refunded job still holds the result")
        if job["preimage"] is not None and status != "settled":
            self.breach(f"I20 the job row has a preimage while it is {status}")
        if row["preimage"] is not None and not (self.charged(payment_hash) or self.succeeded(payment_hash)):
            self.breach("I20 a preimage is in the database before its payment")

    def _holds(self, escrows: dict[str, dict[str, Any]]) -> None:
        """I11, I13 as the node saw it: nobody is charged without release, nothing goes back under a payout."""
        state = self.world.state("broker")
        for payment_hash, invoice in state.invoices.items():
            if not invoice.held:
                continue
            row = escrows.get(payment_hash)
            if row is None:
                self.breach("I15 the node has a hold invoice that the books do not know")
                continue
            if invoice.state is InvoiceState.ACCEPTED and invoice.min_expiry_height is not None:
                self.expiry[payment_hash] = invoice.min_expiry_height - state.hold_expiry_delta
            if invoice.state is InvoiceState.SETTLED:
                released = self.world.judge.released if row["credited_to"] else None
                if not (payment_hash in released if released is not None else self.succeeded(payment_hash)):
                    self.breach("I11 a buyer was charged without release")
            if invoice.state is InvoiceState.CANCELED and row["credited_to"] is None:
                payment = self.payment(payment_hash)
                out = payment is not None and payment.status is not PayoutStatus.FAILED
                by_itself = self.world.network.height >= self.expiry.get(payment_hash, 0)
                if out and not by_itself:
                    self.breach("I13 the buyer's HTLC went back while the payout was under way")

    def _withdrawals(self, withdrawals: list[dict[str, Any]]) -> None:
        for row in withdrawals:
            payment = self.payment(row["payment_hash"])
            paid = payment is not None and payment.status is PayoutStatus.SUCCEEDED
            if row["status"] == "paid" and not paid:
                self.breach("a withdrawal is paid, says the ledger, and the payee has nothing")
            out = payment is not None and payment.status is not PayoutStatus.FAILED
            if row["status"] == "failed" and out:
                self.breach("a withdrawal was given back, and its payment is not failed")

    # --- the logs ---------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Read the logs anew from their beginning: the database is an older one."""
        self._escrow_seq = self._job_seq = self._withdrawal_seq = 0
        self._states, self._statuses, self._ended = {}, {}, {}

    def _paths(self) -> None:
        """I5, I22, I33: each change is an edge of its table, and the rows are what the logs lead to."""
        books = self.world.books
        modes = {
            row["id"]: "credit" if row["credited_to"] else "escrow"
            for row in books.rows("SELECT id, credited_to FROM escrow")
        }
        for row in books.rows("SELECT * FROM escrow_event WHERE seq > ? ORDER BY seq", self._escrow_seq):
            self._escrow_seq = row["seq"]
            before, event, after = row["from_state"], row["event"], row["to_state"]
            known = self._states.get(row["escrow_id"])
            edges = EDGES_OF_MODE[modes[row["escrow_id"]]]
            legal = edges.get((before, event)) == after or (event, after) == ("created", "created")
            if before != known or not legal:
                self.breach(f"I22 the escrow was {known}, then {event} took it from {before} to {after}")
            self._states[row["escrow_id"]] = after
            self.reached.add(f"escrow {after}")
        for row in books.rows("SELECT * FROM job_event WHERE seq > ? ORDER BY seq", self._job_seq):
            self._job_seq = row["seq"]
            kind, after = row["kind"].removeprefix("job."), row["status"]
            known = self._statuses.get(row["job_id"])
            edge = JOB_EDGES.get((known or "", kind))
            stays = kind in STAYS and known == after
            if not stays and (edge is None or edge[0] != after) and (known, kind) != (None, "quoted"):
                self.breach(f"I33 the job was {known}, then {kind} made it {after}")
            self._statuses[row["job_id"]] = after
            self.reached.add(f"job {after}")
        for row in books.rows(
            "SELECT * FROM withdrawal_event WHERE seq > ? ORDER BY seq", self._withdrawal_seq
        ):
            self._withdrawal_seq = row["seq"]
            if self._ended.get(row["withdrawal_id"]) in ("paid", "failed"):
                self.breach(f"a withdrawal that had ended became {row['status']}")
            self._ended[row["withdrawal_id"]] = row["status"]
            self.reached.add(f"withdrawal {row['status']}")
        for table, column, logged in (
            ("escrow", "state", self._states),
            ("job", "status", self._statuses),
            ("withdrawal", "status", self._ended),
        ):
            rows = {row["id"]: row[column] for row in books.rows(f"SELECT id, {column} FROM {table}")}
            if rows != logged:
                self.breach(f"I5 the rows of {table} are not what their log leads to")
