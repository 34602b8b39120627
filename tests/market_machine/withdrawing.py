"""Taking what a broker owes: with good invoices, and with every other kind."""

from __future__ import annotations

from typing import Any

from kill_matrix.virtual_time import LoopTime
from market_machine.parties import Seller
from market_machine.world import World

from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_contracts.bolt11 import Network, write_invoice
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat

WAYS = (
    "plain", "plain", "held", "plain", "again", "all", "same key", "over", "expired", "own node", "mainnet",
    "guards a job", "no fee", "junk",
)  # fmt: skip


async def withdraw(world: World, which: int, *, way: str, number: int) -> None:
    """Let a seller in credit mode withdraw, in one of many ways."""
    sellers = [seller for seller in world.sellers if seller.mode is PaymentMode.CREDIT]
    if which % 4:
        sellers.sort(key=lambda one: -_owed(world, one))
    seller = sellers[0 if which % 4 else which // 4 % len(sellers)]
    owed = _owed(world, seller)
    fee = 0 if way == "no fee" else 1_500
    share = {"all": 1.0, "over": 1.5}.get(way, (0.3, 0.5, 0.8)[number % 3])
    amount = max(int(owed * share) - fee, 1_000) if owed else 5_000
    try:
        invoice = await _invoice(world, seller, amount, way=way)
    except LightningUnavailable:
        return  # its node is down
    world.requests += 1
    key = f"withdrawal {world.requests if way != 'same key' else 0}"
    body = {"invoice": invoice, "max_fee_msat": fee}
    reply = await world.desk.ask(seller.key, "POST", "/v1/withdrawals", body, repeat_key=key)
    if not reply.is_good:
        return
    world.withdrawn.append((seller.name, invoice))
    behind = world.clock.shift < 0  # then what has expired has not yet, to the broker
    if way in ("over", "own node", "mainnet", "guards a job", "junk") or (way == "expired" and not behind):
        world.judge.breach(f"a withdrawal was taken that is {way}")
    await world.desk.ask(seller.key, "GET", f"/v1/withdrawals/{reply.body['id']}?wait_seconds={number % 3}")


def _owed(world: World, seller: Seller) -> int:
    row = world.books.one(
        "SELECT COALESCE(SUM(amount_msat), 0) AS owed FROM ledger_entry WHERE account = ?",
        f"balance:{seller.key.public}",
    )
    return 0 if row is None else -int(row["owed"])


async def _invoice(world: World, seller: Seller, amount: int, *, way: str) -> str:
    node = world.network.node("broker" if way == "own node" else seller.name)
    used: list[str] = [text for name, text in world.withdrawn if name == seller.name]
    guards: list[dict[str, Any]] = world.books.rows(
        "SELECT provider_invoice FROM escrow WHERE provider_invoice != ''"
    )
    match way:
        case "junk":
            return "lnbcrt1notaninvoice"
        case "again" if used:
            return used[-1]
        case "guards a job" if guards:
            return str(guards[-1]["provider_invoice"])
        case "guards a job":
            return "lnbcrt1nothing"
        case "mainnet":
            return write_invoice(
                network=Network.MAINNET,
                amount_msat=Msat(amount),
                timestamp=int(LoopTime().now()),
                payment_hash="11" * 32,
                payment_secret="22" * 32,
                private_key=world.state(seller.name).private_key,
                description="real money",
            )
        case "held":
            preimage = seller.draw()
            seller.held[preimage.payment_hash] = preimage
            return await node.add_hold(
                payment_hash=preimage.payment_hash,
                value_msat=Msat(amount),
                expiry_seconds=7_200,
                cltv_blocks=24,
                memo="held",
            )
        case _:
            with world.weather.calm():
                made = await node.add_invoice(
                    value_msat=Msat(amount),
                    expiry_seconds=30 if way == "expired" else 7_200,
                    memo="withdrawal",
                    final_cltv=24,
                )
            return made.payment_request
