"""What the LND nodes and the broker's ledger say, and whether that is what the quote promised. Msat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, JsonValue

from lightwork_contracts.money import format_msat
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_regtest import Network
from lightwork_regtest.polling import until

NODES = ("buyer", "broker", "provider")
QUIET_SECONDS = 20.0

Wealth = Mapping[str, int]
"""For each node what it owns in its channels, in msat."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim of the demo, and whether it held."""

    claim: str
    ok: bool

    def as_json(self) -> dict[str, JsonValue]:
        return {**asdict(self)}


@dataclass(frozen=True, slots=True)
class Held:
    """The buyer's HTLC, as the buyer's own LND shows it while the job runs."""

    amount_sat: int
    expires_in_blocks: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What a job did to the nodes' balances."""

    before: Wealth
    after: Wealth

    def of(self, node: str) -> int:
        return self.after[node] - self.before[node]


class Audit(BaseModel):
    """What `lightwork broker audit --json` prints; empty books by default."""

    balances: dict[str, int] = {}
    breaches: tuple[str, ...] = ()

    @property
    def node_msat(self) -> int:
        return self.balances.get("assets:node", 0)


def read_wealth(network: Network) -> Wealth:
    """Ask each LND node what it owns."""
    return {name: network.node(name).wealth_msat() for name in NODES}


def held_htlc(network: Network, payment_hash: str) -> Held | None:
    """Ask the buyer's LND for the HTLC of a job; None when there is none."""
    for htlc in network.node("buyer").pending_htlcs():
        if htlc.payment_hash == payment_hash:
            height = network.node("buyer").info().block_height
            return Held(htlc.amount_sat, htlc.expiry_height - height)
    return None


def wait_quiet(network: Network, payment_hash: str) -> None:
    """Wait until no channel of any node holds an HTLC of this payment.

    Raises:
        NodeFailedError: one stays.
    """

    def gone() -> bool:
        return not any(
            htlc.payment_hash == payment_hash for name in NODES for htlc in network.node(name).pending_htlcs()
        )

    until(gone, what="the HTLCs of the job gone from every channel", seconds=QUIET_SECONDS, every=0.05)


def read_audit(variables: Mapping[str, str]) -> Audit:
    """Let the broker recompute its own ledger."""
    command = [str(Path(sys.executable).parent / "lightwork"), "broker", "audit", "--json"]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
    return Audit.model_validate(json.loads(done.stdout))


def promised(job: JobForBuyer) -> Wealth:
    """What the quote says must move, given how the job ended."""
    quote, paid = job.quote, job.routing_paid_msat or 0
    if job.status is not JobStatus.SETTLED:
        return dict.fromkeys(NODES, 0)
    return {
        "buyer": -quote.total_msat,
        "broker": quote.fee_msat + quote.routing_msat - paid,
        "provider": quote.price_msat,
    }


def check_settled(job: JobForBuyer, moves: Moves) -> tuple[Check, ...]:
    """The claims about a job that was paid."""
    quote, said = job.quote, promised(job)
    gain = moves.of("broker")
    unspent = quote.routing_msat - (job.routing_paid_msat or 0)
    return (
        Check(f"the job is settled ({job.status.value})", job.status is JobStatus.SETTLED),
        Check(
            f"the buyer's node paid the quote's total: {format_msat(quote.total_msat)}",
            moves.of("buyer") == said["buyer"],
        ),
        Check(
            f"the provider's node got the price: {format_msat(quote.price_msat)}",
            moves.of("provider") == said["provider"],
        ),
        Check(
            f"the broker gained {format_msat(gain)} = fee {format_msat(quote.fee_msat)} "
            f"+ unspent routing budget {format_msat(unspent)}",
            gain == said["broker"],
        ),
        Check("the buyer's proof of payment opens the provider's payment hash", _is_proof(job)),
    )


def check_refunded(job: JobForBuyer, moves: Moves, *, held: Held | None) -> tuple[Check, ...]:
    """The claims about a job that failed."""
    return (
        Check(f"the job is refunded ({job.status.value})", job.status is JobStatus.REFUNDED),
        Check("the HTLC was seen in the buyer's channel, and is gone", held is not None),
        Check(
            "no result and no proof of payment was handed out", job.result is None and job.preimage is None
        ),
        Check("not one msat moved on any node", all(moves.of(node) == 0 for node in NODES)),
    )


def check_ledger(before: Audit, after: Audit, *, gained_msat: int) -> tuple[Check, ...]:
    """The claim about the broker's own books."""
    booked = after.node_msat - before.node_msat
    return (
        Check(
            f"the broker's ledger says {format_msat(booked)}, its LND node {format_msat(gained_msat)}",
            booked == gained_msat,
        ),
        Check("`lightwork broker audit` finds no breach", not after.breaches),
    )


def _is_proof(job: JobForBuyer) -> bool:
    return (
        job.preimage is not None and sha256(bytes.fromhex(job.preimage)).hexdigest() == job.quote.payment_hash
    )
