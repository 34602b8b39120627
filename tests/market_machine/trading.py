"""What buyers, sellers and the operator do: in time, too late, twice, wrongly, and where it is not theirs."""

from __future__ import annotations

import asyncio
from typing import Any

from kill_matrix.virtual_time import LoopTime
from market_machine.desk import Reply
from market_machine.parties import COMMITMENTS, HUGE, Buyer, Seller
from market_machine.world import World

from lightwork_broker.lightning.errors import LightningError
from lightwork_contracts.bolt11 import Network, read_invoice, write_invoice
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.keys import SecretKey

GOOD = "hi"
ROUNDS = 4


async def quote(world: World, buyer: Buyer, listing: int, *, way: str, hire: bool = False) -> Reply | None:
    """Ask for a quote, and let the seller answer in its way; with `hire`, in one call with a repeatable key."""
    offers = [(seller, one) for seller in world.sellers for one in seller.listings]
    if not offers:
        return None
    seller, listing_id = offers[listing % len(offers)]
    request = {
        "listing_id": listing_id,
        "input": {"text": "hi"},
        "modes": [mode.value for mode in PaymentMode],
    }
    world.requests += 1
    key = f"request {world.requests:04}"
    await seller.poll(quotes=0)
    asking = asyncio.create_task(
        world.desk.ask(buyer.key, "POST", "/v1/jobs", {"request": request}, repeat_key=key)
        if hire
        else world.desk.ask(buyer.key, "POST", "/v1/quotes", request)
    )
    await asyncio.sleep(0.01)
    if way == "late":
        await asyncio.sleep(11)
    for _ in range(ROUNDS if way != "silent" else 0):
        for work in await seller.poll(wait=1, quotes=8):
            if work["kind"] == "quote":
                await seller.answer(work, way=way if way in (*COMMITMENTS, "refuse") else "plain")
        if asking.done():
            break
    reply = await asking
    if hire and reply.is_good:
        await _hired_again(world, buyer, request, key=key, job=reply.body["id"])
    elif reply.is_good:
        world.quotes.append({**reply.body, "buyer": buyer.name})
    return reply


async def _hired_again(world: World, buyer: Buyer, request: dict[str, Any], *, key: str, job: str) -> None:
    again = await world.desk.ask(buyer.key, "POST", "/v1/jobs", {"request": request}, repeat_key=key)
    if again.is_good and again.body["id"] != job:
        world.judge.breach("the same Idempotency-Key hired twice")
    other = {**request, "input": {"text": "another"}}
    conflict = await world.desk.ask(buyer.key, "POST", "/v1/jobs", {"request": other}, repeat_key=key)
    if conflict.is_good:
        world.judge.breach("an Idempotency-Key was good for another request")


async def hire(world: World, which: int, *, way: str) -> None:
    """Hire on a quote that somebody holds: once, twice at once, or as somebody else."""
    if not world.quotes:
        return
    held = world.quotes[-1 - which % len(world.quotes)]
    buyer = next(one for one in world.buyers if (one.name == held["buyer"]) != (way == "other"))
    times = 2 if way == "twice" else 1
    replies = await asyncio.gather(
        *(world.desk.ask(buyer.key, "POST", "/v1/jobs", {"quote_id": held["id"]}) for _ in range(times))
    )
    if len({reply.body["id"] for reply in replies if reply.is_good}) > 1:
        world.judge.breach("one quote led to two jobs")
    if way == "other" and any(reply.is_good for reply in replies):
        world.judge.breach("somebody hired on another's quote")


async def pay(world: World, job: dict[str, Any], *, way: str) -> None:
    """Pay a job's invoice: in full, too little, more, twice, or from another's wallet. It is held, or goes back."""
    invoice = job["hold_invoice"]
    if invoice is None:
        return
    payer = world.buyer_of(job["buyer"])
    if way in ("other", "both"):
        other = next(buyer for buyer in world.buyers if buyer is not payer)
        await _begin(world, other, invoice)
    if way in ("short", "over"):
        invoice = _other_amount(world, invoice, share=0.9 if way == "short" else 1.2)
    if way != "other":
        await _begin(world, payer, invoice)
        if way == "twice":
            await _begin(world, payer, invoice)


async def _begin(world: World, payer: Buyer, invoice: str) -> None:
    try:
        await world.network.node(payer.name).begin(
            invoice=invoice,
            payment_hash=read_invoice(invoice).payment_hash,
            fee_limit_msat=Msat(0),
            cltv_limit=0,
        )
    except LightningError:
        return


def _other_amount(world: World, invoice: str, *, share: float) -> str:
    """Return the invoice as a wallet reads it that pays what it likes."""
    read = read_invoice(invoice)
    return write_invoice(
        network=Network.REGTEST,
        amount_msat=Msat(int((read.amount_msat or 0) * share)),
        timestamp=int(LoopTime().now()),
        payment_hash=read.payment_hash,
        payment_secret=read.payment_secret,
        private_key=world.state("broker").private_key,
        description="forged",
        min_final_cltv=read.min_final_cltv,
    )


async def work(world: World, job: dict[str, Any], *, way: str) -> None:
    """Let the seller of a job do something with a lease that it has, or has had."""
    seller = world.seller_of(job["provider"])
    epochs = seller.epochs.get(job["id"], [])
    if not epochs:
        return
    epoch = epochs[0] if way == "stale" else epochs[-1] + (way == "future")
    path = f"/v1/work/jobs/{job['id']}"
    match way:
        case "heartbeat":
            await world.desk.ask(
                seller.key, "POST", f"{path}/heartbeat", {"epoch": epoch, "progress": 0.5, "note": "half"}
            )
        case "fail":
            body = {"epoch": epoch, "code": "task_failed", "message": "it broke"}
            await world.desk.ask(seller.key, "POST", f"{path}/fail", body)
        case _:
            result: Any = {"junk": {"no": 1}, "huge": HUGE, "odd": "\ud800"}.get(way, GOOD)
            for _ in range(2 if way == "twice" else 1):
                reply = await world.desk.ask(
                    seller.key, "POST", f"{path}/deliver", {"epoch": epoch, "result": result}
                )
            if way in ("junk", "huge", "future", "odd") and reply.is_good:
                world.judge.breach(f"a delivery was taken that is {way}")
            if reply.is_good and epoch != _epoch_of(world, job):
                world.judge.breach(f"I29 a delivery was taken with the epoch {epoch}, which holds no lease")


def _epoch_of(world: World, job: dict[str, Any]) -> int:
    return next(row["epoch"] for row in world.jobs() if row["id"] == job["id"])


async def decide(world: World, job: dict[str, Any], *, release: bool) -> None:
    """Let whoever may decide on a job do so, for the seller or for the buyer; the other side tries it first."""
    buyer, seller = world.buyer_of(job["buyer"]).key, world.seller_of(job["provider"]).key
    match job["status"]:
        case "open" | "funded" if not release:
            await act(world, seller, job, "cancel")
            await act(world, buyer, job, "cancel")
        case "delivered":
            what = "accept" if release else "reject"
            await act(world, seller, job, what)
            await act(world, buyer, job, what)
        case "disputed":
            what = "release" if release else "refund"
            await act(world, seller if release else buyer, job, what)
            await act(world, world.operator, job, what)
        case _:
            return


ACTS = ("cancel", "accept", "reject", "release", "refund", "read")


async def act(world: World, key: SecretKey, job: dict[str, Any], what: str) -> Reply:
    """Let anybody do anything to a job, at any time."""
    path = f"/v1/jobs/{job['id']}"
    match what:
        case "reject":
            reply = await world.desk.ask(key, "POST", f"{path}/reject", {"reason": "not what I asked for"})
        case "release" | "refund":
            body = {"release": what == "release", "reason": "looked at it"}
            reply = await world.desk.ask(key, "POST", f"{path}/ruling", body)
        case "read":
            reply = await world.desk.ask(key, "GET", path)
        case _:
            reply = await world.desk.ask(key, "POST", f"{path}/{what}")
    _check_right(world, key, job, what, reply)
    return reply


def _check_right(world: World, key: SecretKey, job: dict[str, Any], what: str, reply: Reply) -> None:
    """I32: nobody does what is not theirs to do."""
    rightful = {
        "release": {world.operator.public},
        "refund": {world.operator.public},
        "read": {job["buyer"], job["provider"]},
    }.get(what, {job["buyer"]})
    if reply.is_good and key.public not in rightful:
        world.judge.breach(f"I32 somebody could {what} a job that is not theirs")


def who(world: World, job: dict[str, Any], number: int) -> SecretKey:
    """Return one of all keys that there are."""
    keys = [party.key for party in (*world.buyers, *world.sellers)]
    return [world.operator, world.buyer_of(job["buyer"]).key, world.seller_of(job["provider"]).key, *keys][
        number % (3 + len(keys))
    ]


async def read_around(world: World, number: int) -> None:
    """Read what parties and strangers read."""
    party = [*world.buyers, *world.sellers][number % (len(world.buyers) + len(world.sellers))]
    paths = ("/v1/jobs", "/v1/jobs?role=provider", "/v1/balance", "/v1/balance/entries", "/v1/withdrawals")
    for path in (paths[number % len(paths)], "/v1/listings", "/v1/health"):
        if path == "/v1/health":
            continue  # it says 503 with a body of its own when the node is down
        await world.desk.ask(party.key, "GET", path)


async def race(world: World, job: dict[str, Any], number: int) -> None:
    """Let several of those who may decide do so at once."""
    buyer, seller = world.buyer_of(job["buyer"]), world.seller_of(job["provider"])
    pairs = (
        (act(world, buyer.key, job, "accept"), act(world, buyer.key, job, "reject")),
        (act(world, buyer.key, job, "cancel"), seller.poll(jobs=3)),
        (work(world, job, way="deliver"), work(world, job, way="fail")),
        (act(world, world.operator, job, "release"), act(world, world.operator, job, "refund")),
        (pay(world, job, way="plain"), act(world, buyer.key, job, "cancel")),
    )
    chosen = pairs[number % len(pairs)]
    for pair in pairs:
        if pair is not chosen:
            for one in pair:
                one.close()
    await asyncio.gather(*chosen)


def escrow_sellers(world: World) -> list[Seller]:
    return [seller for seller in world.sellers if seller.mode is PaymentMode.ESCROW]
