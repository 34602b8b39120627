"""Whether a run has cost anybody anything: what the nodes say against what jobs and ledger say. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lightwork_contracts.status import CAPABILITIES, JobStatus

LOSSES = "expenses:losses"
NODE = "assets:node"
PAID = "SUCCEEDED"


@dataclass(frozen=True, slots=True)
class JobFact:
    """A job and its escrow, as the brokers' database has them at the end. Msat."""

    id: str
    status: JobStatus
    escrow: str
    payment_hash: str
    price_msat: int
    total_msat: int
    on_credit: bool
    routing_paid_msat: int
    is_unknown: bool
    reason: str

    @property
    def is_over(self) -> bool:
        return CAPABILITIES[self.status].terminal

    @property
    def is_explained(self) -> bool:
        """Whether it is under way for a reason that no broker can do anything about."""
        return not self.is_over and self.is_unknown and bool(self.reason)

    @property
    def provider_paid(self) -> bool:
        """Whether a Lightning payment went to the provider for it."""
        return not self.on_credit and self.escrow in ("settled", "lost")

    @property
    def buyer_paid(self) -> bool:
        return self.escrow == "settled"


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of the buyers' node, by its own word. Msat."""

    status: str
    amount_msat: int
    fee_msat: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a verdict needs. Payments and invoices by their hash, and only those of the run.

    `moved`: what each node owns in its channels now, less what it did before.
    """

    jobs: tuple[JobFact, ...]
    moved: Mapping[str, int]
    payments: Mapping[str, Payment]
    received: Mapping[str, int]
    balances: Mapping[str, int]
    owed_msat: int
    audit_exit: int
    audit_breaches: tuple[str, ...]
    htlcs: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def lost_msat(self) -> int:
        """What anybody has lost: a buyer who paid for nothing, a provider unpaid, a broker out of pocket."""
        settled = [job for job in self.jobs if job.buyer_paid]
        buyers = sum(job.total_msat for job in settled) + self.moved["buyer"]
        providers = sum(job.price_msat for job in settled if not job.on_credit) - self.moved["provider"]
        return max(-buyers, 0) + max(providers, 0) + self.balances.get(LOSSES, 0)


def breaches_of(facts: Facts) -> tuple[str, ...]:
    """Return everything that is wrong; nothing, if no sat was lost, won or forgotten."""
    return (*_of_books(facts), *_of_jobs(facts), *_of_nodes(facts), *_of_payments(facts), *facts.wrong)


def _of_books(facts: Facts) -> Iterator[str]:
    if facts.audit_exit != 0:
        yield f"`lightwork broker audit --node` ended with {facts.audit_exit}"
    yield from facts.audit_breaches
    if facts.balances.get(LOSSES, 0) != 0:
        yield f"the ledger has booked a loss of {facts.balances[LOSSES]} msat"
    owed = -sum(amount for account, amount in facts.balances.items() if account.startswith("balance:"))
    earned = sum(job.price_msat for job in facts.jobs if job.on_credit and job.buyer_paid)
    if not owed == earned == facts.owed_msat:
        yield (
            f"providers on credit have earned {earned} msat, the ledger owes them {owed}, "
            f"they are told {facts.owed_msat}"
        )
    if not facts.jobs:
        yield "nobody hired anything"
    elif not any(job.buyer_paid for job in facts.jobs):
        yield "no job was settled"


def _of_jobs(facts: Facts) -> Iterator[str]:
    settled = JobStatus.SETTLED
    for job in facts.jobs:
        if not job.is_over and not job.is_explained:
            yield f"{job.id} is {job.status} (escrow {job.escrow}), and nothing explains it"
        if (job.status is settled) != (job.escrow in ("settled", "lost")):
            yield f"{job.id} is {job.status}, but its escrow is {job.escrow}"
        if job.escrow in ("lost", "exposed"):
            yield f"the escrow of {job.id} is {job.escrow}"
    waiting = {job.payment_hash for job in facts.jobs if job.is_explained}
    for htlc in facts.htlcs:
        if htlc.rpartition(" ")[2] not in waiting:
            yield f"an HTLC is left: {htlc}"


def _of_nodes(facts: Facts) -> Iterator[str]:
    paid = sum(job.total_msat for job in facts.jobs if job.buyer_paid)
    out = sum(job.price_msat for job in facts.jobs if job.provider_paid)
    routing = sum(job.routing_paid_msat for job in facts.jobs if job.provider_paid)
    fees = sum(payment.fee_msat for payment in facts.payments.values() if payment.status == PAID)
    for node, should in (
        ("buyer", -paid - fees),
        ("provider", out),
        ("broker", paid - out - routing),
    ):
        if facts.moved[node] != should:
            yield f"the {node}'s node moved {facts.moved[node]} msat, the jobs say {should}"
    if facts.moved["broker"] != facts.balances.get(NODE, 0):
        yield (
            f"the broker's node moved {facts.moved['broker']} msat, its ledger says {facts.balances.get(NODE, 0)}"
        )
    # All channels are direct, so what one node loses another one gains.
    if sum(facts.moved.values()) != 0:
        yield f"{-sum(facts.moved.values())} msat have left all three nodes"


def _of_payments(facts: Facts) -> Iterator[str]:
    jobs = {job.payment_hash: job for job in facts.jobs}
    for payment_hash, payment in facts.payments.items():
        job = jobs.get(payment_hash)
        if payment.status not in (PAID, "FAILED") and (job is None or job.is_over):
            yield f"the payment {payment_hash} is {payment.status}, and its job is over"
        if payment.status == PAID and (job is None or not job.buyer_paid):
            yield f"a buyer paid {payment.amount_msat} msat for {'no job' if job is None else job.id}"
    for job in facts.jobs:
        payment = facts.payments.get(job.payment_hash)
        if job.buyer_paid:
            took = payment.amount_msat if payment is not None and payment.status == PAID else 0
            if took != job.total_msat:
                yield f"{job.id} cost {job.total_msat} msat, its buyer's node says {took}"
        got = facts.received.get(job.payment_hash, 0)
        should = job.price_msat if job.provider_paid else 0
        if got != should:
            yield f"the provider got {got} msat for {job.id}, and should have {should}"
    for payment_hash in facts.received.keys() - jobs.keys():
        yield f"the provider got {facts.received[payment_hash]} msat for no job: {payment_hash}"
