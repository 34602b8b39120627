"""Where channels, or the chain for those that were closed, say otherwise than the books about HTLCs. Pure.

Amounts are msat. A loss is what the books say that we took and the payer has back; a gain, which is a loss below zero,
is what we have and the books say that we did not take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lightwork_broker.escrow.machine import EscrowState
from lightwork_broker.lightning.closures import ChannelNumber, Closure, HtlcEnd, IncomingHtlc
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import MSAT_PER_SAT

NAMED_AT_MOST = 5
"""So many jobs are named where one of them is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that is over, with its HTLCs."""

    job: JobId
    state: EscrowState
    htlcs: tuple[IncomingHtlc, ...]

    def counts(self, htlc: IncomingHtlc) -> bool:
        """Whether the books say that this HTLC is ours."""
        return self.state is EscrowState.SETTLED and htlc.is_settled

    @property
    def lost_msat(self) -> int:
        """What is certainly lost; below zero what is certainly gained."""
        lost = sum(one.amount_msat for one in self.htlcs if self.counts(one) and one.end is HtlcEnd.RETURNED)
        gained = sum(
            one.amount_msat for one in self.htlcs if not self.counts(one) and one.end is HtlcEnd.TAKEN
        )
        return lost - gained


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference that was not booked yet. `subject` is the job, or channel and amount when it may be several."""

    subject: str
    lost_msat: int
    booked_msat: int
    """What was booked of it before, when the chain had not ended all of it."""
    text: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong, and what cannot be told."""

    findings: tuple[Finding, ...]
    doubts: tuple[str, ...]


def judge(
    ended: Sequence[Ended],
    closures: Sequence[Closure],
    booked: Mapping[str, int],
    *,
    lost: Collection[JobId] = (),
) -> Judgement:
    """Compare jobs that are over with the chain; `booked` is the loss that was booked before, by subject.

    `lost` are jobs that are named already, from when the node said more: what went back of them is not counted again.

    Where the node keeps a record of each HTLC the answer is certain. Where it keeps none, as LND by default, the HTLCs
    of one channel and amount are counted: when more went back than jobs of that amount were cancelled, one that the
    books call settled is among them. HTLCs without an output on the chain are not counted by anybody.
    """
    certain = (
        finding_of(one.job, one.state, lost_msat=one.lost_msat, booked_msat=booked.get(one.job, 0))
        for one in ended
    )
    findings = [one for one in certain if one is not None]
    doubts: list[str] = []
    for closure in closures:
        if closure.channel is None:
            continue
        for amount, returned in Counter(closure.returned_sat).items():
            found, doubt = _counted(closure.channel, amount, returned, ended, booked, lost)
            findings += found
            doubts += doubt
    return Judgement(tuple(findings), tuple(doubts))


def can_change(one: Ended, closures: Sequence[Closure]) -> bool:
    """Whether the node may say something else of this job later, while no other channel closes."""
    # Without one that is being closed, what waits is in an open channel, and is no matter of the chain.
    if all(closure.is_over for closure in closures):
        return False
    return not all(htlc.end.is_final for htlc in one.htlcs)


def finding_of(job: JobId, state: EscrowState, *, lost_msat: int, booked_msat: int) -> Finding | None:
    """Return what is not booked yet of a job's loss, or of its gain, which is below zero."""
    left = lost_msat - booked_msat
    # What was booked was an end, and an end is final: a node that says nothing of it now takes nothing back.
    if left == 0 or lost_msat == 0:
        return None
    if left > 0:
        text = f"{job} is {state}, but {left} msat of it went back to the payer"
    else:
        text = f"{job} is {state}, but {-left} msat of it were claimed"
    return Finding(job, left, booked_msat, text)


def _counted(
    channel: ChannelNumber,
    amount_sat: int,
    returned: int,
    ended: Iterable[Ended],
    booked: Mapping[str, int],
    lost_jobs: Collection[JobId],
) -> tuple[list[Finding], list[str]]:
    """Count what went back in one channel, of one amount, and of which the node does not say what it was."""
    ours: list[JobId] = []
    unsaid = returned
    explained = 0
    for one in ended:
        for htlc in one.htlcs:
            if htlc.channel != channel or htlc.amount_msat // MSAT_PER_SAT != amount_sat:
                continue
            match htlc.end:
                case HtlcEnd.RETURNED:
                    unsaid -= 1
                case HtlcEnd.UNTOLD | HtlcEnd.UNASKED if (
                    one.counts(htlc) and not booked.get(one.job) and one.job not in lost_jobs
                ):
                    ours.append(one.job)
                case HtlcEnd.UNTOLD | HtlcEnd.UNASKED:
                    explained += 1
                case HtlcEnd.TAKEN | HtlcEnd.WAITING:
                    pass
    subject = f"{channel}:{amount_sat}"
    before = booked.get(subject, 0)
    lost = min(max(unsaid - explained, 0), len(ours)) * amount_sat * MSAT_PER_SAT
    names = _names(ours)
    if lost > before:
        of = "which is" if len(ours) == 1 else "which is one of"
        text = f"{lost - before} msat of settled jobs went back to a payer on the chain, {of} {names}"
        return [Finding(subject, lost - before, before, text)], []
    if ours and unsaid > 0 and not before:
        doubt = f"{amount_sat} sat went back on the chain, most likely of a job that was cancelled; "
        return [], [f"{doubt}the node does not say that it was none of {names}"]
    return [], []


def _names(jobs: Sequence[JobId]) -> str:
    more = len(jobs) - NAMED_AT_MOST
    return ", ".join(jobs[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
