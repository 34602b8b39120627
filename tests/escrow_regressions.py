"""Scripts that are played each time: each found a bug of ours, or is what a mutation of the code must not survive.

Chance finds such scripts once and may then miss them for weeks. When hypothesis fails, write its script down here.
"""

from __future__ import annotations

from dataclasses import dataclass

from escrow_story import FAULTY_CALLS, Op
from faulty_node import Fault

NUMBERS = range(1_024)
SUCCEEDS, HAS_NO_ROUTE, IS_STUCK = 0, 4 * 2, 4
"""What `plan` makes of a payout: see `_outcome` in the story."""


@dataclass(frozen=True, slots=True)
class Script:
    """Operations, and the states of the escrow that they must lead through, or the script is about nothing."""

    name: str
    ops: tuple[Op, ...]
    reaches: frozenset[str]
    brokers: int = 1
    diligent: bool = True


def fault(call: str, kind: Fault) -> Op:
    """Return the operation that has the next call of this name fail in this way."""
    faults = list(Fault)
    wanted = (FAULTY_CALLS.index(call), faults.index(kind))
    found = (n for n in NUMBERS if (n % len(FAULTY_CALLS), n // 16 % len(faults)) == wanted)
    return Op("fault", number=next(found))


def hire(*, review: bool = False, credit: bool = False) -> Op:
    """Return the operation that hires and does nothing else."""

    def fits(n: int) -> bool:
        undisturbed = n // 2 % 3 == 0 and n // 6 % 5 == 0
        return undisturbed and bool(n % 2) is review and (n // 128 % 3 == 2) is credit

    return Op("hire", number=next(n for n in NUMBERS if fits(n)))


PAID = (Op("pay"), Op("lease"))
WAIT = {31: Op("wait", number=9), 61: Op("wait", number=10), 121: Op("wait", number=11)}
THIRTY_BLOCKS, MANY_BLOCKS = 6, 7
SWEEP, SWEEP_OF_OTHER = Op("sweep"), Op("sweep", broker=1)
LATER = (WAIT[31], SWEEP, WAIT[31], SWEEP, WAIT[31], SWEEP)

SCRIPTS = (
    Script("a job", (hire(), *PAID, Op("deliver")), frozenset({"settled"})),
    Script(
        "a payment over a full peer, and one when there is room again",
        (hire(), Op("crowd", number=1), Op("pay"), SWEEP, Op("crowd"), hire(), Op("pay", job=1)),
        frozenset({"canceled", "accepted"}),
    ),
    Script(
        "a job on credit",
        (hire(credit=True), Op("pay"), SWEEP, Op("lease"), SWEEP, Op("deliver")),
        frozenset({"settled"}),
    ),
    Script(
        "a rejected job",
        (hire(review=True), *PAID, Op("deliver"), Op("reject"), Op("rule", number=1)),
        frozenset({"canceled"}),
    ),
    Script(
        "an answer to the payout is lost",
        (hire(), *PAID, Op("plan", number=IS_STUCK), fault("pay", Fault.LOST_AFTER), Op("deliver"), *LATER),
        frozenset({"forwarding", "settled"}),
    ),
    Script(
        "a payout is lost before the node",
        (
            hire(),
            *PAID,
            fault("pay", Fault.LOST_BEFORE),
            fault("pay", Fault.LOST_BEFORE),
            Op("deliver"),
            *LATER,
        ),
        frozenset({"forwarding", "settled"}),
    ),
    Script(
        "the node is silent about a payout that is stuck",
        (
            *(hire(), *PAID, Op("plan", number=IS_STUCK), fault("pay", Fault.LOST_AFTER), Op("deliver")),
            *(Op("node_down"), WAIT[121], SWEEP, WAIT[121], SWEEP, WAIT[121], SWEEP, Op("node_up"), SWEEP),
        ),
        frozenset({"forwarding", "settled"}),
    ),
    Script(
        "a payout is stuck for minutes",
        (
            *(hire(), *PAID, Op("plan", number=IS_STUCK), Op("deliver")),
            *(WAIT[121], SWEEP, WAIT[121], SWEEP, WAIT[31], SWEEP),
        ),
        frozenset({"forwarding", "settled"}),
    ),
    Script(
        "another broker looks for a payout that is on its way, and blocks pass",
        (
            *(hire(), *PAID, fault("pay", Fault.SLOW_BEFORE), Op("deliver"), SWEEP_OF_OTHER),
            *(Op("mine", number=THIRTY_BLOCKS), Op("wait", number=2), SWEEP_OF_OTHER),
        ),
        frozenset({"forwarding", "settled"}),
        brokers=2,
    ),
    Script(
        "a broker is killed after the provider was paid",
        (hire(), *PAID, fault("pay", Fault.CRASH_AFTER), Op("deliver"), Op("start"), SWEEP),
        frozenset({"forwarding", "settled"}),
    ),
    Script(
        "a broker is killed before the settlement",
        (hire(), *PAID, fault("settle", Fault.CRASH_BEFORE), Op("deliver"), Op("start"), SWEEP),
        frozenset({"forwarded", "settled"}),
    ),
    Script(
        "two brokers settle at the same time",
        (
            *(hire(), *PAID, fault("settle", Fault.SLOW_BEFORE), fault("settle", Fault.SLOW_AFTER)),
            *(Op("deliver"), SWEEP_OF_OTHER, SWEEP, Op("deliver_letter"), Op("deliver_letter")),
        ),
        frozenset({"forwarded", "settled"}),
        brokers=2,
    ),
    Script(
        "news of the node comes again",
        (
            hire(),
            *PAID,
            Op("replay", number=0),
            Op("replay", number=1),
            Op("deliver"),
            *(Op("replay", number=n) for n in range(3)),
        ),
        frozenset({"settled"}),
    ),
    Script(
        "blocks come in a burst while a job is worked on",
        (hire(), *PAID, Op("mine", number=MANY_BLOCKS)),
        frozenset({"canceled"}),
        diligent=False,
    ),
    Script(
        "the node gives the money back while no broker runs",
        (hire(), *PAID, Op("kill"), Op("mine", number=MANY_BLOCKS), Op("start")),
        frozenset({"returned"}),
        diligent=False,
    ),
    Script(
        "the node gives back what was delivered",
        (hire(review=True), *PAID, Op("deliver"), Op("kill"), Op("mine", number=MANY_BLOCKS), Op("start")),
        frozenset({"returned"}),
        diligent=False,
    ),
    Script(
        "the settlement has no answer",
        (hire(), *PAID, fault("settle", Fault.LOST_BEFORE), Op("deliver"), *LATER),
        frozenset({"forwarded", "settled"}),
    ),
)
