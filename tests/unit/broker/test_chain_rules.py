"""What the books say that we took, against what the chain has given."""

from __future__ import annotations

import pytest

from lightwork_broker.chain_rules import Ended, can_change, judge
from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.ledger.rules import LOSSES, NODE, Entry, chain_posting
from lightwork_broker.lightning.closures import Closure, HtlcEnd, IncomingHtlc
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat

CHANNEL = 115_448_720_982_016
OTHER = CHANNEL + 1
SAT = 20_000
MSAT = 20_000_007


def htlc(end: HtlcEnd, *, is_settled: bool = True, msat: int = MSAT, channel: int = CHANNEL) -> IncomingHtlc:
    return IncomingHtlc(channel=channel, amount_msat=Msat(msat), is_settled=is_settled, end=end)


def job(name: str, *htlcs: IncomingHtlc, state: EscrowState = EscrowState.SETTLED) -> Ended:
    return Ended(job=JobId(name), state=state, htlcs=htlcs)


def over(*returned: int, taken: tuple[int, ...] = (), channel: int = CHANNEL) -> Closure:
    return Closure(point="a:0", channel=channel, height=900, returned_sat=returned, taken_sat=taken)


def canceled(name: str, end: HtlcEnd) -> Ended:
    return job(name, htlc(end, is_settled=False), state=EscrowState.CANCELED)


def test_a_settled_job_whose_htlc_went_back_on_the_chain_is_a_loss_of_that_amount() -> None:
    judged = judge([job("job_a", htlc(HtlcEnd.RETURNED)), job("job_b", htlc(HtlcEnd.TAKEN))], [over(SAT)], {})
    (found,) = judged.findings
    assert (found.subject, found.lost_msat) == ("job_a", MSAT)
    assert found.text == f"job_a is settled, but {MSAT} msat of it went back to the payer"


@pytest.mark.parametrize("state", [EscrowState.CANCELED, EscrowState.LOST])
def test_what_was_claimed_of_a_job_that_is_not_settled_is_found(state: EscrowState) -> None:
    (found,) = judge(
        [job("job_a", htlc(HtlcEnd.TAKEN, is_settled=False), state=state)], [over()], {}
    ).findings
    assert (found.subject, found.lost_msat) == ("job_a", -MSAT)
    assert found.text == f"job_a is {state}, but {MSAT} msat of it were claimed"


def test_books_and_chain_that_say_the_same_are_sound() -> None:
    ended = [job("job_a", htlc(HtlcEnd.TAKEN)), canceled("job_b", HtlcEnd.RETURNED)]
    judged = judge(ended, [over(SAT, taken=(SAT,))], {})
    assert (judged.findings, judged.doubts) == ((), ())


def test_a_first_attempt_that_went_back_is_no_loss_of_the_second_one_that_was_settled() -> None:
    paid_twice = job("job_a", htlc(HtlcEnd.RETURNED, is_settled=False), htlc(HtlcEnd.TAKEN))
    assert judge([paid_twice], [over(SAT)], {}).findings == ()


def test_only_the_parts_that_went_back_are_lost() -> None:
    parts = job("job_a", htlc(HtlcEnd.TAKEN, msat=3_000_000), htlc(HtlcEnd.RETURNED, msat=2_000_000))
    (found,) = judge([parts], [over(2_000)], {}).findings
    assert found.lost_msat == 2_000_000


def test_what_has_no_end_yet_is_no_breach_and_is_looked_at_again() -> None:
    waiting, going = job("job_a", htlc(HtlcEnd.WAITING)), Closure(point="a:0")
    judged = judge([waiting], [going], {})
    assert (judged.findings, judged.doubts) == ((), ())
    assert can_change(waiting, [going, over()])
    # It is in an open channel; when that closes, all are asked again.
    assert not can_change(waiting, [over()])


def test_what_has_an_end_or_will_never_be_told_is_not_asked_again() -> None:
    for end in (HtlcEnd.TAKEN, HtlcEnd.RETURNED, HtlcEnd.UNTOLD):
        assert not can_change(job("job_a", htlc(end)), [over()])
    assert not can_change(job("job_a"), [Closure(point="a:0")])
    assert can_change(job("job_a", htlc(HtlcEnd.UNTOLD)), [over(), Closure(point="a:0")])


def test_what_was_booked_before_is_not_found_again_and_what_came_since_is() -> None:
    lost = job("job_a", htlc(HtlcEnd.RETURNED), htlc(HtlcEnd.RETURNED, msat=1_000_000))
    assert judge([lost], [over(SAT)], {"job_a": MSAT + 1_000_000}).findings == ()
    (found,) = judge([lost], [over(SAT)], {"job_a": MSAT}).findings
    assert (found.lost_msat, found.booked_msat) == (1_000_000, MSAT)


# --- a node that keeps no record of single HTLCs ----------------------------------------------------------------


def test_a_job_that_is_named_already_is_not_counted_again_by_a_node_that_has_lost_its_record() -> None:
    named, other = job("job_a", htlc(HtlcEnd.UNTOLD)), job("job_b", htlc(HtlcEnd.UNTOLD))
    judged = judge([named], [over(SAT)], {}, lost={JobId("job_a")})
    assert (judged.findings, judged.doubts) == ((), ())
    (found,) = judge([named, other], [over(SAT, SAT)], {}, lost={JobId("job_a")}).findings
    assert found.text.endswith("which is job_b")


def test_without_a_record_more_went_back_than_was_cancelled_and_the_one_settled_job_is_named() -> None:
    judged = judge(
        [job("job_a", htlc(HtlcEnd.UNTOLD)), canceled("job_b", HtlcEnd.UNTOLD)], [over(SAT, SAT)], {}
    )
    (found,) = judged.findings
    assert (found.subject, found.lost_msat) == (f"{CHANNEL}:{SAT}", SAT * 1_000)
    assert (
        found.text == f"{SAT * 1_000} msat of settled jobs went back to a payer on the chain, which is job_a"
    )


def test_without_a_record_all_that_it_may_have_been_are_named_and_few_stand_for_many() -> None:
    several = [job(f"job_{number}", htlc(HtlcEnd.UNTOLD)) for number in range(7)]
    (found,) = judge(several, [over(SAT, SAT)], {}).findings
    assert found.lost_msat == 2 * SAT * 1_000
    assert found.text.endswith("which is one of job_0, job_1, job_2, job_3, job_4 and 2 more")


def test_without_a_record_a_job_that_was_cancelled_explains_what_went_back_but_that_is_not_certain() -> None:
    ended = [job("job_a", htlc(HtlcEnd.UNTOLD)), canceled("job_b", HtlcEnd.UNTOLD)]
    judged = judge(ended, [over(SAT)], {})
    assert judged.findings == ()
    (doubt,) = judged.doubts
    assert "job_a" in doubt
    assert f"{SAT} sat" in doubt


def test_without_a_record_another_channel_or_amount_says_nothing() -> None:
    ended = [
        job("job_a", htlc(HtlcEnd.UNTOLD, msat=MSAT + 1_000)),
        job("job_b", htlc(HtlcEnd.UNTOLD, channel=OTHER)),
    ]
    judged = judge(ended, [over(SAT), over(channel=OTHER)], {})
    assert (judged.findings, judged.doubts) == ((), ())


def test_a_record_of_a_cancelled_job_explains_what_went_back_for_good() -> None:
    ended = [job("job_a", htlc(HtlcEnd.UNTOLD)), canceled("job_b", HtlcEnd.RETURNED)]
    judged = judge(ended, [over(SAT)], {})
    assert (judged.findings, judged.doubts) == ((), ())


def test_a_record_that_was_begun_later_explains_what_it_has() -> None:
    ended = [job("job_a", htlc(HtlcEnd.UNTOLD)), job("job_b", htlc(HtlcEnd.RETURNED))]
    assert [found.subject for found in judge(ended, [over(SAT)], {}).findings] == ["job_b"]


def test_a_loss_that_was_booked_for_its_job_is_not_counted_again_without_a_record() -> None:
    ended = [job("job_a", htlc(HtlcEnd.UNTOLD)), job("job_b", htlc(HtlcEnd.UNTOLD))]
    assert judge(ended, [over(SAT)], {"job_a": MSAT}).findings == ()
    assert judge(ended, [over(SAT)], {f"{CHANNEL}:{SAT}": SAT * 1_000}).findings == ()


# --- the ledger --------------------------------------------------------------------------------------------------


def test_a_loss_makes_the_node_poorer_and_a_gain_takes_it_off_the_losses() -> None:
    lost = chain_posting("job_a", lost_msat=5, booked_msat=0)
    assert lost.entries == (Entry(LOSSES, 5), Entry(NODE, -5))
    gained = chain_posting("job_a", lost_msat=-5, booked_msat=5)
    assert gained.entries == (Entry(LOSSES, -5), Entry(NODE, 5))
    assert lost.key != gained.key


def test_two_losses_of_one_amount_are_two_postings() -> None:
    first = chain_posting("job_a", lost_msat=5, booked_msat=0)
    assert chain_posting("job_a", lost_msat=5, booked_msat=0) == first
    assert chain_posting("job_a", lost_msat=5, booked_msat=5).key != first.key
