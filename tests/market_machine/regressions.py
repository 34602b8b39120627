"""Stories that once ended badly, or that come to where chance seldom comes.

Each is a list of operations that anybody can play again: `play_script` in `market_machine.story`.
"""

from __future__ import annotations

from dataclasses import dataclass

from market_machine.mailboxes import MODES
from market_machine.nature import FAULTS
from market_machine.operations import Op


@dataclass(frozen=True, slots=True)
class Script:
    """A list of operations, and whether buyers and sellers do their part at the end.

    `reaches` are states that it is kept for.
    """

    name: str
    operations: tuple[Op, ...]
    diligent: bool = True
    reaches: frozenset[str] = frozenset()


A_SECOND, TEN_SECONDS, HALF_A_MINUTE, TWO_MINUTES, FIVE_MINUTES = 0, 3, 5, 8, 9
"""Which time `wait` lets pass."""
BURST = 11
"""200 blocks at once, for `mine`."""
AN_HOUR_FORWARD, AN_HOUR_BACK = 6, 7
"""Which way `jump` sets the broker's clock."""

CREDIT, CREDIT_BY_ROAD, ESCROW, ESCROW_HELD = (
    Op("deal", 8, 3),
    Op("deal", 12, 3),
    Op("deal", 0, 3),
    Op("deal", 4, 13),
)
"""A delivered job: owed to a seller, paid to one, and one whose payout the seller's wallet holds."""
REVIEWED, REJECT, DELIVER = Op("deal", 2, 3), Op("decide", 0, 1), Op("work")
PAY_COMES_LATE = Op("fault", 28, 2)
"""The next call to pay reaches the node after 24 s; the broker has heard after 10 s that nobody knows."""
HOLD_COMES_LATE, HOLD_LOST = Op("fault", 32, 2), Op("fault", 4, 0)
WITHDRAW, WITHDRAW_ALL = Op("withdraw", 1, 0), Op("withdraw", 1, 5)
MAX_HANGS, MAX_IS_DOWN, MAX_IS_UP = Op("receiver", 1, 5), Op("receiver", 1, 2), Op("receiver", 1, 0)
"""What becomes of the webhook that the buyer of these deals has from the beginning."""
MAX_REMOVES_IT = Op("unsubscribe", 1, 1)
STALL, SETTLE_HELD = Op("road"), Op("wallet")


def _withdrawn_before_a_jump(seconds: int) -> tuple[Op, ...]:
    """The sweeps come each ten seconds: at some of these moments, two fall between the jump and the late call."""
    return (
        *(CREDIT,) * 2,
        *(Op("wait", A_SECOND),) * seconds,
        PAY_COMES_LATE,
        WITHDRAW,
        Op("wait", TEN_SECONDS),
        Op("jump", AN_HOUR_FORWARD),
        Op("wait", HALF_A_MINUTE),
    )


SCRIPTS: tuple[Script, ...] = (
    *(
        Script(
            f"at the payout, {fault.value}",
            (Op("fault", 0, kind), ESCROW, Op("wait", TWO_MINUTES)),
            reaches=frozenset({f"fault {fault.name}"}),
        )
        for kind, fault in enumerate(FAULTS)
    ),
    Script(
        "what a withdrawal that fails brings back does not exceed the ceiling",
        (*(CREDIT_BY_ROAD,) * 5, Op("wait", 1), STALL, WITHDRAW_ALL, *(CREDIT_BY_ROAD,) * 5),
    ),
    Script(
        "a clock that is put back does not stop the sweep",
        (
            ESCROW_HELD,
            Op("wait", TWO_MINUTES),
            Op("jump", AN_HOUR_BACK),
            Op("wait", TWO_MINUTES),
            SETTLE_HELD,
            Op("wait", FIVE_MINUTES),
        ),
    ),
    *(
        Script(
            f"a clock that jumps forward gives no withdrawal back that is on its way, {seconds} s later",
            _withdrawn_before_a_jump(seconds),
        )
        for seconds in (7, 8, 9)
    ),
    Script(
        "a clock that jumps forward leaves no hold invoice behind",
        (
            HOLD_COMES_LATE,
            *(HOLD_LOST,) * 2,
            Op("deal", 0, 0),
            Op("jump", AN_HOUR_FORWARD),
            Op("wait", HALF_A_MINUTE),
            Op("wait", TEN_SECONDS),
        ),
    ),
    Script(
        "whose it is not to decide decides nothing, and a release is paid",
        (REVIEWED, REJECT, Op("decide", 0, 0), Op("wait", TEN_SECONDS)),
        reaches=frozenset({"job disputed", "job settled"}),
    ),
    Script(
        "a ruled refund hands out no result",
        (REVIEWED, REJECT, Op("decide", 0, 1), Op("wait", TEN_SECONDS)),
        reaches=frozenset({"job disputed", "job refunded"}),
    ),
    Script(
        "a lease that was lost delivers nothing",
        (Op("deal", 0, 2), Op("wait", 4), Op("serve"), Op("work", 0, 6), DELIVER),
        reaches=frozenset({"job settled"}),
    ),
    Script("one quote that is hired on twice at once is one job", (Op("quote", 0, 4), Op("hire", 0, 2))),
    Script("jobs under way count towards the ceiling", (Op("deal", 12, 2),) * 6),
    Script(
        "a withdrawal of which nobody knows is not given back",
        (*(CREDIT,) * 2, Op("fault", 0, 5), WITHDRAW, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"withdrawal paid"}),
    ),
    Script(
        "an older database does not cancel under a payout that it does not know of",
        (
            Op("deal", 4, 12),
            Op("keep"),
            DELIVER,
            Op("kill"),
            Op("restore"),
            Op("work", 0, 3),
            SETTLE_HELD,
            Op("wait", TWO_MINUTES),
        ),
        reaches=frozenset({"escrow canceling", "escrow settled"}),
    ),
    *(
        Script(
            f"a receiver that is {mode} is told all the same",
            (Op("receiver", 1, kind), ESCROW, Op("wait", TWO_MINUTES), MAX_IS_UP, Op("wait", FIVE_MINUTES)),
            reaches=frozenset({f"receiver {mode}"}) if mode != "moody" else frozenset(),
        )
        for kind, mode in enumerate(MODES)
        if mode != "up"
    ),
    Script(
        "a broker that dies while a receiver hangs tells it all the same",
        (
            MAX_HANGS,
            ESCROW,
            Op("wait", A_SECOND),
            Op("kill"),
            Op("start"),
            MAX_IS_UP,
            Op("wait", TWO_MINUTES),
        ),
        reaches=frozenset({"receiver hangs", "receiver up"}),
    ),
    Script(
        "an older database tells a receiver again, and in order",
        (
            MAX_IS_DOWN,
            Op("deal", 0, 2),
            Op("wait", TEN_SECONDS),
            Op("keep"),
            MAX_IS_UP,
            DELIVER,
            Op("wait", TWO_MINUTES),
            Op("kill"),
            Op("restore"),
            DELIVER,
        ),
        reaches=frozenset({"receiver down", "receiver up"}),
    ),
    Script(
        "a webhook that is removed while its receiver hangs hears no more",
        (MAX_HANGS, ESCROW, Op("wait", A_SECOND), MAX_REMOVES_IT, MAX_IS_UP, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"receiver hangs"}),
    ),
    Script(
        "a webhook that fails for days is given up, and others are told",
        (MAX_IS_DOWN, ESCROW, Op("days", 3), MAX_IS_UP, ESCROW, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"receiver given up"}),
    ),
    Script(
        "an outage beyond the margin with the payout made is a loss, and booked",
        (ESCROW_HELD, Op("wait", 1), Op("kill"), SETTLE_HELD, Op("mine", BURST), Op("start"), Op("wait", 3)),
        reaches=frozenset({"escrow lost"}),
    ),
    Script(
        "an outage beyond the margin with the payout under way is an alarm, and ends well",
        (
            ESCROW_HELD,
            Op("wait", 1),
            Op("node", 17, 0),
            Op("node", 0, 0),
            Op("mine", BURST),
            Op("node", 0, 1),
            Op("wait", 3),
        ),
        reaches=frozenset({"escrow exposed", "escrow returned"}),
    ),
)

KILL_ONE, START_ONE = Op("kill", 0), Op("start", 0)
SHARED_SCRIPTS: tuple[Script, ...] = (
    Script(
        "what a killed broker has begun the other one ends",
        (Op("deal", 0, 2), KILL_ONE, DELIVER, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"job settled"}),
    ),
    Script(
        "a payout that a killed broker has sent is settled by the other one",
        (ESCROW_HELD, Op("wait", A_SECOND), KILL_ONE, SETTLE_HELD, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"escrow settled"}),
    ),
    Script(
        "a killed broker's receiver is told by the other one",
        (MAX_HANGS, ESCROW, Op("wait", A_SECOND), KILL_ONE, MAX_IS_UP, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"receiver hangs", "receiver up"}),
    ),
    Script(
        "accepting at one broker and rejecting at the other is one of the two",
        (REVIEWED, Op("race", 0, 0), Op("wait", TEN_SECONDS), REVIEWED, Op("race", 0, 3)),
        reaches=frozenset({"job settled"}),
    ),
    Script(
        "a signed request is good at one of the brokers, once",
        (Op("read", 0, 0), Op("again"), Op("again"), ESCROW, Op("again")),
    ),
    Script(
        "brokers that do not hear of each other bring jobs to their end",
        (Op("line", 0, 0), ESCROW, CREDIT, WITHDRAW, Op("wait", TWO_MINUTES)),
        reaches=frozenset({"job settled"}),
    ),
    Script(
        "an older database under both brokers does not cancel under a payout that it does not know of",
        (
            Op("deal", 4, 12),
            Op("keep"),
            DELIVER,
            KILL_ONE,
            Op("kill", 1),
            Op("restore"),
            Op("work", 0, 3),
            SETTLE_HELD,
            Op("wait", TWO_MINUTES),
        ),
        reaches=frozenset({"escrow settled"}),
    ),
)
"""For two brokers on one database."""
