"""The broker's connection to its node, watched: each call that moves money is compared with the books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from market_machine.books import Books

from lightwork_broker.lightning.ports import InvoiceState, Payout, PayoutStatus
from lightwork_broker.lightning.preimage import Preimage
from lightwork_broker.lightning.simulated import SimulatedNode
from lightwork_broker.lightning.simulated.node_state import NodeState
from lightwork_contracts.bolt11 import read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.money import Msat

ENDS = ("settled", "canceled", "returned", "lost")
OUT = (PayoutStatus.IN_FLIGHT, PayoutStatus.SUCCEEDED)


@dataclass
class Judge:
    """What must hold at the moment of a call. `released` are the hashes that the broker settled rightly."""

    books: Books
    node: Callable[[], NodeState]
    height: Callable[[], int]
    breaches: list[str] = field(default_factory=list[str])
    released: set[str] = field(default_factory=set[str])

    def breach(self, text: str) -> None:
        if text not in self.breaches:
            self.breaches.append(text)

    def row(self, payment_hash: str) -> dict[str, Any] | None:
        return self.books.one("SELECT * FROM escrow WHERE payment_hash = ?", payment_hash)

    def hold(self, payment_hash: PaymentHash, value_msat: Msat) -> None:
        row = self.row(payment_hash)
        if row is None:
            self.breach("I15 a hold invoice was asked for before its intent was committed")
        elif value_msat != row["price_msat"] + row["fee_msat"] + row["routing_msat"]:
            self.breach("I17 the hold invoice is not for the total")

    def pay(self, invoice: str, payment_hash: PaymentHash, *, fee_limit_msat: Msat, cltv_limit: int) -> None:
        row = self.row(payment_hash)
        if row is None:
            self._withdrawal(invoice, payment_hash, fee_limit_msat=fee_limit_msat)
            return
        known = self.node().payments.get(payment_hash)
        repeat = known is not None and known.status in OUT
        if row["credited_to"] is not None:
            self.breach("a payout was sent for a job in credit mode")
        if row["state"] != "forwarding" and not repeat:
            self.breach(f"I15 a payout was sent while the escrow was {row['state']}")
        if fee_limit_msat != row["routing_msat"]:
            self.breach("I16 the fee limit is not what was collected for it")
        if invoice != row["provider_invoice"] or read_invoice(invoice).amount_msat != row["price_msat"]:
            self.breach("I17 it is not the provider's invoice, or not for the price")
        hold = self.node().invoices.get(payment_hash)
        expiry = None if hold is None else hold.min_expiry_height
        if hold is None or (hold.state is not InvoiceState.ACCEPTED and not repeat):
            self.breach("W9 a payout was sent while no HTLC was held")
        elif expiry is not None and not repeat:
            latest = self.height() + cltv_limit + self.node().hold_expiry_delta
            if cltv_limit <= 0 or latest >= expiry:
                self.breach(f"I18 a payout may stay out until {latest}, and the HTLC expires at {expiry}")

    def _withdrawal(self, invoice: str, payment_hash: PaymentHash, *, fee_limit_msat: Msat) -> None:
        row = self.books.one("SELECT * FROM withdrawal WHERE payment_hash = ?", payment_hash)
        if row is None or row["called_at"] is None:
            self.breach("I15 a payment was sent whose intent is not in the books")
        elif (row["invoice"], row["max_fee_msat"]) != (invoice, fee_limit_msat):
            self.breach("I16 a withdrawal is paid otherwise than it was asked for")
        elif row["status"] == "failed":
            self.breach("a withdrawal was paid after it was given back")

    def cancel(self, payment_hash: PaymentHash) -> None:
        row = self.row(payment_hash)
        if row is None:
            return  # the probe of the permissions asks for a hash that nobody has
        if row["state"] not in ("canceling", *ENDS):
            self.breach(f"I13 cancel was called while the escrow was {row['state']}")
        payment, hold = self.node().payments.get(payment_hash), self.node().invoices.get(payment_hash)
        final = hold is not None and hold.state.is_final
        if row["credited_to"] is None and payment is not None and payment.status in OUT and not final:
            self.breach(f"I13 cancel was called while the payout was {payment.status}")

    def settle(self, payment_hash: PaymentHash) -> None:
        row = self.row(payment_hash)
        credit = row is not None and row["credited_to"] is not None
        rightly = ("settling", "settled") if credit else ("forwarded", "settled")
        if row is None or row["state"] not in rightly:
            self.breach(f"I11 settle was called while the escrow was {row and row['state']}")
        else:
            self.released.add(payment_hash)


class JudgedNode:
    """The port `LightningNode`, with the judge at the calls that move money."""

    def __init__(self, node: SimulatedNode, judge: Judge) -> None:
        self._node = node
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)

    async def add_hold(
        self,
        *,
        payment_hash: PaymentHash,
        value_msat: Msat,
        expiry_seconds: int,
        cltv_blocks: int,
        memo: str,
    ) -> str:
        self._judge.hold(payment_hash, value_msat)
        return await self._node.add_hold(
            payment_hash=payment_hash,
            value_msat=value_msat,
            expiry_seconds=expiry_seconds,
            cltv_blocks=cltv_blocks,
            memo=memo,
        )

    async def settle(self, preimage: Preimage) -> None:
        self._judge.settle(preimage.payment_hash)
        await self._node.settle(preimage)

    async def cancel(self, payment_hash: PaymentHash) -> None:
        self._judge.cancel(payment_hash)
        await self._node.cancel(payment_hash)

    async def pay(
        self,
        *,
        invoice: str,
        payment_hash: PaymentHash,
        fee_limit_msat: Msat,
        cltv_limit: int,
        timeout_seconds: int,
    ) -> Payout:
        self._judge.pay(invoice, payment_hash, fee_limit_msat=fee_limit_msat, cltv_limit=cltv_limit)
        return await self._node.pay(
            invoice=invoice,
            payment_hash=payment_hash,
            fee_limit_msat=fee_limit_msat,
            cltv_limit=cltv_limit,
            timeout_seconds=timeout_seconds,
        )
