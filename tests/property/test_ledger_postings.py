"""Whatever is posted: it balances in whole msat, its escrow account closes, and balances are what was added."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from databases import Template
from fast_folder import fast_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightwork_broker.db.place import open_database
from lightwork_broker.ledger import store
from lightwork_broker.ledger.rules import (
    FEES,
    LOSSES,
    NODE,
    ROUTING_UNSPENT,
    Entry,
    Posting,
    escrow_account,
    loss_posting,
    payout_posting,
    settlement_posting,
)
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import MAX_MSAT

JOB = JobId("job_1")
CAP = MAX_MSAT // 4
price_ = st.integers(1, CAP)
part_ = st.integers(0, CAP)
not_money = st.one_of(
    st.just(0),
    st.booleans(),
    st.floats(),
    st.integers(min_value=MAX_MSAT + 1),
    st.integers(max_value=-MAX_MSAT - 1),
    st.just("5"),
    st.none(),
)


def _sums(*postings: Posting) -> dict[str, int]:
    found: Counter[str] = Counter()
    for posting in postings:
        assert sum(entry.amount_msat for entry in posting.entries) == 0
        for entry in posting.entries:
            found[entry.account] += entry.amount_msat
    return {account: amount for account, amount in found.items() if amount}


def _without_zeros(balances: dict[str, int]) -> dict[str, int]:
    return {account: amount for account, amount in balances.items() if amount}


@given(wrong=not_money, other=st.integers(1, MAX_MSAT))
def test_an_entry_that_is_no_whole_positive_or_negative_amount_is_refused(wrong: object, other: int) -> None:
    with pytest.raises(ValueError, match="whole amount"):
        Posting(key="k", cause="c", entries=(Entry(NODE, wrong), Entry(FEES, other)))  # pyright: ignore[reportArgumentType]  (the point)


@given(amounts=st.lists(st.integers(-MAX_MSAT, MAX_MSAT).filter(bool), max_size=6))
def test_only_entries_that_balance_make_a_posting(amounts: list[int]) -> None:
    entries = tuple(Entry(f"a{index}", amount) for index, amount in enumerate(amounts))
    if len(entries) >= 2 and sum(amounts) == 0:
        Posting(key="k", cause="c", entries=entries)
    else:
        with pytest.raises(ValueError, match="balance"):
            Posting(key="k", cause="c", entries=entries)


@given(amounts=st.lists(st.integers(1, MAX_MSAT // 10), min_size=1, max_size=6))
def test_entries_with_their_counterpart_are_accepted(amounts: list[int]) -> None:
    entries = tuple(Entry(f"a{index}", amount) for index, amount in enumerate(amounts))
    Posting(key="k", cause="c", entries=(*entries, Entry(NODE, -sum(amounts))))


@given(
    price=price_, fee=part_, budget=part_, share_ppm=st.integers(0, 1_000_000), over=st.integers(0, 10_000)
)
def test_a_settlement_closes_the_escrow_account_for_every_price_fee_and_route(
    price: int, fee: int, budget: int, share_ppm: int, over: int
) -> None:
    routing = budget * share_ppm // 1_000_000
    received = price + fee + budget + over
    sums = _sums(
        payout_posting(JOB, price_msat=price, routing_msat=routing),
        settlement_posting(JOB, received_msat=received, price_msat=price, routing_msat=routing, fee_msat=fee),
    )
    assert escrow_account(JOB) not in sums
    gain = received - price - routing
    assert sums == _without_zeros({NODE: gain, FEES: -fee, ROUTING_UNSPENT: -(gain - fee)})


@given(price=price_, routing=part_)
def test_a_loss_closes_the_escrow_account_and_is_shown(price: int, routing: int) -> None:
    sums = _sums(
        payout_posting(JOB, price_msat=price, routing_msat=routing),
        loss_posting(JOB, spent_msat=price + routing),
    )
    assert sums == {NODE: -(price + routing), LOSSES: price + routing}


@given(price=price_, fee=part_, budget=part_, over=st.integers(1, 10_000))
def test_routing_above_its_budget_still_closes_the_account(
    price: int, fee: int, budget: int, over: int
) -> None:
    routing = budget + over
    sums = _sums(
        payout_posting(JOB, price_msat=price, routing_msat=routing),
        settlement_posting(
            JOB, received_msat=price + fee + budget, price_msat=price, routing_msat=routing, fee_msat=fee
        ),
    )
    assert sums == _without_zeros({NODE: fee - over, FEES: -fee, ROUTING_UNSPENT: over})


accounts = st.sampled_from([NODE, FEES, ROUTING_UNSPENT, LOSSES, escrow_account(JOB)])


def _transfer(*, key: int, source: str, target: str, amount: int) -> Posting:
    return Posting(key=str(key), cause="c", entries=(Entry(source, amount), Entry(target, -amount)))


postings = st.builds(
    _transfer,
    key=st.integers(0, 6),
    source=accounts,
    target=accounts,
    amount=st.integers(1, 10**12),
)


@given(wanted=st.lists(postings, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_balances_are_the_sum_of_what_was_posted_first_under_each_key(
    template: Template, wanted: list[Posting]
) -> None:
    async def run(place: str) -> None:
        database = open_database(place)
        known: dict[str, Posting] = {}
        try:
            for number, posting in enumerate(wanted):
                try:
                    async with database.write() as tx:
                        added = await store.post(tx, posting, now=number)
                except store.LedgerConflict:
                    assert known[posting.key].entries != posting.entries
                else:
                    assert added == (posting.key not in known)
                    assert known.setdefault(posting.key, posting).entries == posting.entries
            expected = _sums(*known.values())
            async with database.read() as tx:
                assert await store.balances(tx) == expected
                for account in (NODE, FEES, "nobody"):
                    assert await store.balance(tx, account) == expected.get(account, 0)
        finally:
            await database.close()

    with fast_folder() as folder:
        asyncio.run(run(template.copy(folder)))


@pytest.mark.parametrize(
    ("key", "cause"), [("", "work"), ("settle:job", ""), (" ", "work"), ("settle:job", "\n")]
)
def test_a_posting_without_a_key_or_a_cause_is_refused(key: str, cause: str) -> None:
    with pytest.raises(ValueError, match="a key and a cause"):
        Posting(key=key, cause=cause, entries=(Entry("a", 1), Entry("b", -1)))
