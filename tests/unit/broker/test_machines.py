"""The two closed tables: every edge as the design has it, and no other."""

from __future__ import annotations

import pytest
from machine_edges import (
    CREDIT_EDGES,
    EDGES_OF_MODE,
    ENDS_OF_MODE,
    ESCROW_EDGES,
    JOB_EDGES,
    JOB_ENDS,
    STATUSES_OF_ESCROW,
)

from lightwork_broker.errors import IllegalTransition, WrongStatus
from lightwork_broker.escrow import machine as escrow
from lightwork_broker.escrow.machine import DUTIES, TERMINAL, Duty, EscrowEvent, EscrowState
from lightwork_broker.jobs import machine as jobs
from lightwork_broker.jobs.machine import Actor, JobChange
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.status import CAPABILITIES, JobStatus

JOB_STATUSES = [status.value for status in JobStatus]
MODES = list(PaymentMode)
ESCROW_EDGES_OF_EACH_MODE = [
    (PaymentMode(mode), state, event, target)
    for mode, edges in EDGES_OF_MODE.items()
    for (state, event), target in edges.items()
]
NO_SUCH_ESCROW_EDGE = [
    (PaymentMode(mode), state, event)
    for mode, edges in EDGES_OF_MODE.items()
    for state in EscrowState
    for event in EscrowEvent
    if (state, event) not in edges
]
NO_SUCH_JOB_EDGE = [
    (status, change) for status in JobStatus for change in JobChange if (status, change) not in JOB_EDGES
]
WRONG_ACTORS = [
    (status, change, actor)
    for (status, change), (_, actors) in JOB_EDGES.items()
    for actor in Actor
    if actor.value not in actors
]


def _reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    found, pending = {start}, [start]
    while pending:
        for target in edges.get(pending.pop(), set()) - found:
            found.add(target)
            pending.append(target)
    return found


def _targets(pairs: list[tuple[str, str]]) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for source, target in pairs:
        edges.setdefault(source, set()).add(target)
    return edges


ESCROW_STEPS = {
    mode: _targets([(state, target) for (state, _), target in edges.items()])
    for mode, edges in EDGES_OF_MODE.items()
}
JOB_STEPS = _targets([(status, target) for (status, _), (target, _) in JOB_EDGES.items()])


@pytest.mark.parametrize(("mode", "state", "event", "target"), ESCROW_EDGES_OF_EACH_MODE)
def test_an_escrow_takes_each_edge_of_the_design(
    mode: PaymentMode, state: str, event: str, target: str
) -> None:
    assert escrow.after(EscrowState(state), EscrowEvent(event), mode=mode).value == target
    assert escrow.may(EscrowState(state), EscrowEvent(event), mode=mode)


@pytest.mark.parametrize(("mode", "state", "event"), NO_SUCH_ESCROW_EDGE)
def test_an_escrow_takes_no_other_edge(mode: PaymentMode, state: EscrowState, event: EscrowEvent) -> None:
    assert not escrow.may(state, event, mode=mode)
    with pytest.raises(IllegalTransition):
        escrow.after(state, event, mode=mode)


def test_an_escrow_that_has_ended_never_moves_again() -> None:
    assert {state.value for state in TERMINAL} == set().union(*ENDS_OF_MODE.values())
    assert not {state for mode in MODES for state, _ in escrow.TRANSITIONS[mode]} & TERMINAL


def test_every_escrow_that_has_not_ended_has_a_duty_and_no_other_has() -> None:
    assert set(DUTIES) == set(EscrowState) - TERMINAL
    assert DUTIES == {
        EscrowState.CREATED: Duty.ADD_HOLD,
        EscrowState.OPEN: Duty.WATCH,
        EscrowState.ACCEPTED: Duty.WATCH,
        EscrowState.RELEASING: Duty.DISPATCH,
        EscrowState.FORWARDING: Duty.FINISH_PAYOUT,
        EscrowState.EXPOSED: Duty.FINISH_PAYOUT,
        EscrowState.FORWARDED: Duty.SETTLE,
        EscrowState.SETTLING: Duty.SETTLE,
        EscrowState.CANCELING: Duty.CANCEL,
    }


def test_every_escrow_state_is_reached_and_can_end() -> None:
    reached = {mode: _reachable(ESCROW_STEPS[mode], "created") for mode in EDGES_OF_MODE}
    assert set().union(*reached.values()) == {state.value for state in EscrowState}
    assert reached["escrow"] == {state.value for state in EscrowState} - {"settling"}
    for mode, states in reached.items():
        assert all(_reachable(ESCROW_STEPS[mode], state) & ENDS_OF_MODE[mode] for state in states)


def test_an_escrow_whose_payout_may_be_under_way_cannot_be_cancelled() -> None:
    for state in (EscrowState.FORWARDING, EscrowState.FORWARDED, EscrowState.EXPOSED):
        assert not escrow.may(state, EscrowEvent.CANCEL_ASKED, mode=PaymentMode.ESCROW)
        assert "canceling" not in ESCROW_STEPS["escrow"][state.value]


def test_an_escrow_settles_only_after_the_payout_succeeded() -> None:
    without_success = [
        (state, target)
        for (state, event), target in ESCROW_EDGES.items()
        if event != EscrowEvent.PAYOUT_SUCCEEDED.value
    ]
    assert _reachable(_targets(without_success), "created").isdisjoint({"settled", "lost"})


def test_an_escrow_in_credit_mode_settles_only_after_release_was_recorded_or_by_the_nodes_word() -> None:
    ways = {(state, event) for (state, event), target in CREDIT_EDGES.items() if target == "settled"}
    assert ways == {("settling", "settle_confirmed"), ("canceling", "settle_confirmed")}
    assert [key for key, target in CREDIT_EDGES.items() if target == "settling"] == [
        ("accepted", "release_asked")
    ]


def test_an_escrow_in_credit_mode_that_is_being_settled_cannot_be_cancelled() -> None:
    assert not escrow.may(EscrowState.SETTLING, EscrowEvent.CANCEL_ASKED, mode=PaymentMode.CREDIT)


@pytest.mark.parametrize(
    ("status", "change", "target", "actor"),
    [(*key, target, actor) for key, (target, actors) in JOB_EDGES.items() for actor in sorted(actors)],
)
def test_a_job_takes_each_edge_of_the_design(status: str, change: str, target: str, actor: str) -> None:
    assert jobs.after(JobStatus(status), JobChange(change), actor=Actor(actor)).value == target
    assert jobs.may(JobStatus(status), JobChange(change))


@pytest.mark.parametrize(("status", "change", "actor"), WRONG_ACTORS)
def test_a_job_s_edge_is_refused_to_everybody_else(status: str, change: str, actor: Actor) -> None:
    with pytest.raises(WrongStatus):
        jobs.after(JobStatus(status), JobChange(change), actor=actor)


@pytest.mark.parametrize(("status", "change"), NO_SUCH_JOB_EDGE)
def test_a_job_takes_no_other_edge(status: JobStatus, change: JobChange) -> None:
    assert not jobs.may(status, change)
    for actor in Actor:
        with pytest.raises(WrongStatus):
            jobs.after(status, change, actor=actor)


def test_every_edge_of_a_job_has_somebody_who_may_take_it() -> None:
    assert all(actors for _, actors in jobs.EDGES.values())


def test_every_job_status_is_reached_and_can_end() -> None:
    assert _reachable(JOB_STEPS, "quoted") == set(JOB_STATUSES)
    assert all(_reachable(JOB_STEPS, status) & JOB_ENDS for status in JOB_STATUSES)


def test_a_job_that_has_ended_never_moves_again() -> None:
    assert {status.value for status in JobStatus if CAPABILITIES[status].terminal} == JOB_ENDS
    assert not {status.value for status, _ in jobs.EDGES} & JOB_ENDS


def test_the_diagram_shows_every_edge_once() -> None:
    lines = jobs.diagram().splitlines()
    assert len(lines) == len(set(lines)) == 2 + len(JOB_EDGES) + len(JOB_ENDS)


def test_every_status_says_what_it_means() -> None:
    assert set(CAPABILITIES) == set(JobStatus)
    assert all(CAPABILITIES[status].meaning for status in JobStatus)


@pytest.mark.parametrize("status", JobStatus)
def test_what_a_status_permits_agrees_with_its_edges(status: JobStatus) -> None:
    can = CAPABILITIES[status]
    assert can.buyer_may_pay == jobs.may(status, JobChange.FUNDED)
    assert can.provider_may_work == jobs.may(status, JobChange.DELIVERED)
    assert can.buyer_may_rule == jobs.may(status, JobChange.REJECTED)
    # An unpaid job is cancelled through its escrow; the node then says that it was never paid.
    assert can.buyer_may_cancel == (jobs.may(status, JobChange.CANCELLED) or status is JobStatus.OPEN)


def test_money_is_held_from_funding_until_release_or_refund() -> None:
    held = {status.value for status in JobStatus if CAPABILITIES[status].money_held}
    assert held == {"funded", "working", "delivered", "disputed", "releasing", "refunding"}
    assert held > STATUSES_OF_ESCROW["accepted"] | STATUSES_OF_ESCROW["forwarded"]


def test_a_result_shows_only_after_delivery_and_never_after_a_refund() -> None:
    shown = {status for status in JobStatus if CAPABILITIES[status].result_visible}
    assert shown == {JobStatus.DELIVERED, JobStatus.DISPUTED, JobStatus.RELEASING, JobStatus.SETTLED}
