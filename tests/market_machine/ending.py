"""The end of a story: everything heals, time passes, and then everybody's money is explained to the msat."""

from __future__ import annotations

from collections.abc import Callable

from market_machine import nature, trading
from market_machine.checks import Checks
from market_machine.clocks import let_pass
from market_machine.world import BUYERS, SELLERS, World

from lightwork_broker.ledger.rules import LOSSES, NODE
from lightwork_broker.lightning.ports import PayoutStatus
from lightwork_broker.webhooks.service import LAST_RETRY_SECONDS
from lightwork_contracts.ids import PaymentHash

ROUNDS = 120
ROUND_SECONDS = 120.0
SOON_BLOCKS, LATER_BLOCKS = 1, 12
SOON_ROUNDS = 12
"""So long the blocks come slowly; then faster, since only the chain can end what is left."""
POST_ROUNDS = 60
UNFINISHED = (
    "SELECT escrow.state || ', job ' || job.status AS what FROM escrow JOIN job USING (id) "
    "WHERE escrow.state NOT IN ('settled', 'canceled', 'returned', 'lost') "
    "OR job.status NOT IN ('settled', 'refunded', 'expired') "
    "UNION ALL SELECT 'withdrawal ' || status FROM withdrawal WHERE status = 'paying'"
)


async def bring_to_end(
    world: World, checks: Checks, *, diligent: bool, watch: Callable[[float], None]
) -> None:
    """Heal all that was broken; then buyers and sellers do their part, or nothing at all, until all is over."""
    await _heal(world)
    if await _is_stuck(world):
        checks.breach("the broker does not start although all is well")
        return
    for turn in range(ROUNDS):
        if not _left(world):
            break
        if diligent:
            await _do_their_part(world, turn)
        await nature.wallet(world, turn, settle=diligent)
        await let_pass(ROUND_SECONDS, stride=4)
        await world.house.bury()
        watch(ROUND_SECONDS)
        await nature.mine(world, SOON_BLOCKS if turn < SOON_ROUNDS else LATER_BLOCKS, pace=1)
        watch(0)
    for left in _left(world):
        checks.breach(f"I38 nothing ends what is left: {left}")
    await nature.wait(world, 30)
    _settle_accounts(world, checks)
    await _deliver_the_post(world, checks)


async def _heal(world: World) -> None:
    world.weather.clear()
    world.house.disarm()
    world.clock.shift = 0.0
    for state in world.network.states():
        nature.node(world, state.name, "start")
    world.network.flow("road")
    world.books.line.mend()
    world.office.heal()
    await world.house.bury()


async def _is_stuck(world: World) -> bool:
    for _ in range(3):
        if await world.house.start():
            return False
    return True


def _left(world: World) -> list[str]:
    """Return what is not over, at the broker or on the network."""
    left = [str(row["what"]) for row in world.books.rows(UNFINISHED)]
    return left or [f"an HTLC at {htlc.expiry_height}" for htlc in world.network.waiting()]


async def _do_their_part(world: World, turn: int) -> None:
    for seller in world.sellers:
        await seller.poll(jobs=3)
    for job in world.jobs():
        if job["status"] == "working":
            await trading.work(world, job, way="deliver")
        elif job["status"] in ("delivered", "disputed"):
            await trading.decide(world, job, release=turn % 2 == 0)


async def _deliver_the_post(world: World, checks: Checks) -> None:
    """Whatever happened to broker and receivers, each event arrives in the end, unless the webhook was given up."""
    for _ in range(POST_ROUNDS):
        if not world.office.late():
            return
        await let_pass(LAST_RETRY_SECONDS / POST_ROUNDS * 2, stride=10)
    for owed in world.office.late():
        checks.breach(f"never sent: {owed}")


def _settle_accounts(world: World, checks: Checks) -> None:
    """Explain what everybody has by the jobs and withdrawals alone."""
    owed = world.owned()
    expected = dict.fromkeys((*BUYERS, *SELLERS, "broker", "nobody"), 0)
    for job in world.jobs():
        escrow = world.books.rows("SELECT * FROM escrow WHERE id = ?", job["id"])[0]
        state, lost = escrow["state"], escrow["state"] == "lost"
        if state not in ("settled", "lost"):
            continue
        paid_out = 0 if escrow["credited_to"] else job["price_msat"]
        expected[world.seller_of(job["provider"]).name] += paid_out
        expected["broker"] -= paid_out + (escrow["routing_paid_msat"] or 0)
        if not lost:
            taken = escrow["accepted_msat"] or 0
            if taken < escrow["total_msat"]:
                checks.breach(f"a settled job took {taken} msat of {escrow['total_msat']}")
            expected["broker"] += taken
            expected[_payer(world, escrow["payment_hash"])] -= taken
    for row in world.books.rows("SELECT * FROM withdrawal WHERE status = 'paid'"):
        expected[world.seller_of(row["agent"]).name] += row["amount_msat"]
        expected["broker"] -= row["amount_msat"] + row["fee_paid_msat"]
    for name, msat in expected.items():
        if owed.get(name, 0) != msat:
            checks.breach(f"at the end {name} has {owed[name]} msat, and jobs and withdrawals say {msat}")
    books = {
        row["account"]: row["total"]
        for row in world.books.rows(
            "SELECT account, SUM(amount_msat) AS total FROM ledger_entry GROUP BY account"
        )
    }
    if books.get(NODE, 0) != owed["broker"]:
        checks.breach(f"I10 the ledger has {books.get(NODE, 0)} msat, the node {owed['broker']}")
    if books.get(LOSSES, 0) and not checks.excused:
        checks.breach(f"{books[LOSSES]} msat were lost")


def _payer(world: World, payment_hash: str) -> str:
    """Return whose wallet paid: it need not be the buyer's."""
    for name in BUYERS:
        payment = world.state(name).payments.get(PaymentHash(payment_hash))
        if payment is not None and payment.status is PayoutStatus.SUCCEEDED:
            return name
    return "nobody"
