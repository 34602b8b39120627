"""The demo's own checks: they hold for what the quote promises, and fail one msat beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from types import ModuleType
from typing import Protocol

import pytest
from docs_pages import REPOSITORY

from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat
from lightwork_contracts.status import JobStatus
from lightwork_contracts.wire.jobs import JobForBuyer
from lightwork_contracts.wire.market import QuoteView

PREIMAGE = "07" * 32
BEFORE = {"buyer": 100_000, "broker": 200_000, "provider": 300_000}
PROMISED = {"buyer": -12_100, "broker": 1_900, "provider": 10_000}


class Check(Protocol):
    @property
    def claim(self) -> str: ...

    @property
    def ok(self) -> bool: ...


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(REPOSITORY / "scripts"), *sys.path])
    return import_module("demonstration.books")


def job(status: JobStatus, *, preimage: str | None = None) -> JobForBuyer:
    """A job of 10 sat, fee 1.1 sat, routing budget 1 sat, of which 0.2 sat were spent."""
    quote = QuoteView.model_construct(
        price_msat=Msat(10_000),
        fee_msat=Msat(1_100),
        routing_msat=Msat(1_000),
        total_msat=Msat(12_100),
        payment_hash=PaymentHash(sha256(bytes.fromhex(PREIMAGE)).hexdigest()),
    )
    paid = Msat(200) if status is JobStatus.SETTLED else None
    return JobForBuyer.model_construct(
        status=status, quote=quote, preimage=preimage, routing_paid_msat=paid, result=None
    )


def failed(checks: Sequence[Check]) -> list[str]:
    return [check.claim for check in checks if not check.ok]


def moves(books: ModuleType, **moved: int) -> object:
    return books.Moves(BEFORE, {node: BEFORE[node] + moved.get(node, 0) for node in BEFORE})


def test_a_settled_job_that_moved_what_was_promised_holds(books: ModuleType) -> None:
    checks = books.check_settled(job(JobStatus.SETTLED, preimage=PREIMAGE), moves(books, **PROMISED))
    assert failed(checks) == []


@pytest.mark.parametrize("node", ["buyer", "broker", "provider"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_settled_job_that_moved_one_msat_more_or_less_does_not_hold(
    books: ModuleType, node: str, off: int
) -> None:
    moved = {**PROMISED, node: PROMISED[node] + off}
    checks = books.check_settled(job(JobStatus.SETTLED, preimage=PREIMAGE), moves(books, **moved))
    assert len(failed(checks)) == 1
    assert node in failed(checks)[0]


@pytest.mark.parametrize("preimage", [None, "08" * 32])
def test_a_settled_job_without_its_own_preimage_does_not_hold(
    books: ModuleType, preimage: str | None
) -> None:
    checks = books.check_settled(job(JobStatus.SETTLED, preimage=preimage), moves(books, **PROMISED))
    assert len(failed(checks)) == 1


def test_a_refunded_job_holds_only_if_nothing_moved_and_the_htlc_was_seen(books: ModuleType) -> None:
    held, refunded = books.Held(12, 133), job(JobStatus.REFUNDED)
    assert failed(books.check_refunded(refunded, moves(books), held=held)) == []
    assert len(failed(books.check_refunded(refunded, moves(books), held=None))) == 1
    assert len(failed(books.check_refunded(refunded, moves(books, broker=1), held=held))) == 1


def test_books_that_differ_from_the_node_do_not_hold(books: ModuleType) -> None:
    before = books.Audit(balances={"assets:node": 5}, breaches=())
    after = books.Audit(balances={"assets:node": 2_105}, breaches=())
    assert failed(books.check_ledger(before, after, gained_msat=2_100)) == []
    assert len(failed(books.check_ledger(before, after, gained_msat=2_101))) == 1
    breached = books.Audit(balances={"assets:node": 2_105}, breaches=("something",))
    assert len(failed(books.check_ledger(before, breached, gained_msat=2_100))) == 1
