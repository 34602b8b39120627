"""Deciding at the quote whether a provider's invoice can be guarded, what that costs, and how long it lasts."""

from __future__ import annotations

import asyncio

from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import InvoiceRefused, LightningDown
from lightwork_broker.escrow import store
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.wrap import Limits, check_invoice, invoice_seconds, plan_timers, price_job
from lightwork_broker.lightning.errors import LightningUnavailable
from lightwork_broker.lightning.ports import LightningNode, RouteEstimate
from lightwork_broker.market.quotes import Underwriting
from lightwork_broker.market.store import Listing
from lightwork_contracts.bolt11 import Invoice, InvoiceError, read_invoice
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment
from lightwork_contracts.wire.problems import ProblemCode

SYNC_SECONDS = 5
SYNC_POLL_SECONDS = 0.2
ESTIMATE_SECONDS = 10
"""How long a route estimate for one destination and amount is used again."""


class EscrowUnderwriter:
    """The market's underwriter, for jobs that are guarded by a wrapped hold invoice."""

    def __init__(
        self, *, database: Database, node: LightningNode, escrows: EscrowService, clock: Clock, limits: Limits
    ) -> None:
        self._database = database
        self._node = node
        self._escrows = escrows
        self._clock = clock
        self._limits = limits
        self._estimates: dict[tuple[str, int, int], tuple[float, RouteEstimate]] = {}

    def invoice_terms(self, listing: Listing) -> tuple[int, int]:
        """Return for how many seconds the provider's invoice must be payable, and its largest final CLTV."""
        seconds = invoice_seconds(
            self._limits,
            work_seconds=listing.content.work_seconds,
            review_seconds=listing.content.review_seconds,
        )
        return seconds, self._limits.max_final_cltv

    def least_total(self, price_msat: Msat) -> Msat:
        """Return the least that a buyer would pay for a job of this price, in msat."""
        return price_job(price_msat=price_msat, route_fee_msat=Msat(0), limits=self._limits).total_msat

    async def underwrite(self, commitment: Commitment, listing: Listing) -> Underwriting:
        """Check the committed invoice and price the job.

        Raises:
            InvoiceRefused: with the rule that it breaks.
            LightningDown: no route could be asked for.
        """
        limits = self._limits
        try:
            invoice = read_invoice(commitment.invoice)
        except InvoiceError as error:
            raise InvoiceRefused(
                f"the invoice cannot be read: {error}", invoice_code=ProblemCode.INVOICE_MALFORMED
            ) from error
        needed, _ = self.invoice_terms(listing)
        check_invoice(
            invoice,
            price_msat=commitment.price_msat,
            payment_hash=commitment.payment_hash,
            limits=limits,
            needed_seconds=needed,
            now=int(self._clock.now()),
        )
        if not limits.min_price_msat <= commitment.price_msat <= limits.max_price_msat:
            raise InvoiceRefused(
                f"this broker guards jobs of {limits.min_price_msat} to {limits.max_price_msat} msat",
                invoice_code=ProblemCode.INVOICE_AMOUNT,
            )
        async with self._database.read() as tx:
            if await store.hash_is_used(tx, commitment.payment_hash):
                raise InvoiceRefused(
                    "this payment hash already guards a job",
                    invoice_code=ProblemCode.INVOICE_HASH_USED,
                    hint="make a fresh invoice",
                )
        await self._require_synced()
        route = await self._estimate(invoice, commitment.price_msat)
        price = price_job(price_msat=commitment.price_msat, route_fee_msat=route.fee_msat, limits=limits)
        timers = plan_timers(
            work_seconds=listing.content.work_seconds,
            review_seconds=listing.content.review_seconds,
            final_cltv=invoice.min_final_cltv,
            route_blocks=route.time_lock_blocks,
            hold_expiry_delta=self._escrows.hold_expiry_delta,
            limits=limits,
        )
        return Underwriting(
            fee_msat=price.fee_msat,
            routing_msat=price.routing_msat,
            pay_seconds=timers.pay_seconds,
            forward_seconds=timers.forward_seconds,
            hold_cltv_blocks=timers.hold_cltv_blocks,
            outgoing_cltv_blocks=timers.outgoing_cltv_blocks,
        )

    async def _require_synced(self) -> None:
        """Open nothing new on a node that does not know the present height: every deadline counts from it.

        A node is behind for a moment at each block; that moment is waited out.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + SYNC_SECONDS
        while True:
            try:
                summary = await self._node.summary()
            except LightningUnavailable as error:
                raise LightningDown("the broker's Lightning node gives no answer") from error
            if summary.synced_to_chain:
                return
            if loop.time() >= give_up:
                raise LightningDown(
                    "the broker's Lightning node is not synced to its chain", hint="try again later"
                )
            await asyncio.sleep(SYNC_POLL_SECONDS)

    async def _estimate(self, invoice: Invoice, amount: Msat) -> RouteEstimate:
        key = (invoice.payee, amount, invoice.min_final_cltv)
        now = self._clock.now()
        known = self._estimates.get(key)
        if not invoice.route_hints and known is not None and now - known[0] < ESTIMATE_SECONDS:
            return known[1]
        try:
            route = await self._node.estimate_fee(
                invoice_destination=invoice.payee,
                amount_msat=amount,
                final_cltv=invoice.min_final_cltv,
                route_hints=invoice.route_hints,
            )
        except LightningUnavailable as error:
            raise LightningDown("the broker's Lightning node gives no answer") from error
        if route is None:
            raise InvoiceRefused(
                "the broker's node knows no route to the provider's node",
                invoice_code=ProblemCode.NO_ROUTE,
                hint="the provider needs a channel with room to receive, reachable from the broker's node",
            )
        if len(self._estimates) > 1_000:
            self._estimates.clear()
        self._estimates[key] = (now, route)
        return route
