"""Hiring a task and watching it: every event as it comes, and the nodes' balances around it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from demonstration.books import Check, Held, Moves, Wealth, held_htlc, promised, read_wealth, wait_quiet
from lightwork import JobFailed, SyncMarket, sats
from lightwork_contracts.wire.jobs import JobEvent, JobForBuyer
from lightwork_contracts.wire.market import QuoteView
from lightwork_regtest import Network


@dataclass(frozen=True, slots=True)
class Seen:
    """An event, and how long after the hire it reached the buyer."""

    seconds: float
    event: JobEvent


@dataclass(frozen=True, slots=True)
class Purchase:
    """A job from hire to end."""

    job: JobForBuyer
    events: tuple[Seen, ...]
    held: Held | None
    moves: Moves

    def as_json(self, checks: tuple[Check, ...]) -> dict[str, JsonValue]:
        """The same for programs; amounts in msat."""
        quote, job = self.job.quote, self.job
        return {
            "job": job.id,
            "task": quote.task,
            "status": job.status.value,
            "result": job.result,
            "error": None if job.error is None else {"code": job.error.code, "message": job.error.message},
            "quote_msat": {
                "total": quote.total_msat,
                "price": quote.price_msat,
                "fee": quote.fee_msat,
                "routing": quote.routing_msat,
            },
            "routing_paid_msat": job.routing_paid_msat,
            "events": [
                {
                    "kind": seen.event.kind,
                    "status": seen.event.status.value,
                    "seconds": round(seen.seconds, 3),
                }
                for seen in self.events
            ],
            "balances_msat": {
                "before": _amounts(self.moves.before),
                "after": _amounts(self.moves.after),
                "moved": {node: self.moves.of(node) for node in self.moves.before},
                "promised": _amounts(promised(job)),
            },
            "checks": [check.as_json() for check in checks],
        }


class Watcher(Protocol):
    """Who is told while a job runs."""

    def quoted(self, quote: QuoteView) -> None: ...

    def event(self, seen: Seen) -> None: ...

    def htlc(self, held: Held) -> None: ...


def buy(
    network: Network,
    market: SyncMarket,
    task: str,
    arguments: Mapping[str, JsonValue],
    *,
    max_sat: int,
    watcher: Watcher,
) -> Purchase:
    """Hire, pay with the buyer's LND, follow the job to its end, and read the nodes before and after."""
    before = read_wealth(network)
    started = time.monotonic()
    job = market.start(task, arguments, max_price=sats(max_sat))
    payment_hash = job.view.quote.payment_hash
    watcher.quoted(job.view.quote)
    events: list[Seen] = []
    held: Held | None = None
    for event in job.events():
        seen = Seen(time.monotonic() - started, event)
        events.append(seen)
        watcher.event(seen)
        if held is None and event.kind in ("job.funded", "job.leased"):
            held = held_htlc(network, payment_hash)
            if held is not None:
                watcher.htlc(held)
    with suppress(JobFailed):  # the view says how it ended, and the checks judge it
        job.wait()
    wait_quiet(network, payment_hash)
    return Purchase(job.refresh(), tuple(events), held, Moves(before, read_wealth(network)))


def _amounts(wealth: Wealth) -> dict[str, JsonValue]:
    return {**wealth}
