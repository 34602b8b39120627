"""Deciding at the quote whether a job can be guarded, what that costs, and how long it lasts."""

from __future__ import annotations

import asyncio

from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import InvoiceRefused, LightningDown, TooManyJobs
from lightwork_broker.escrow import store
from lightwork_broker.escrow.ceiling import require_below_ceiling
from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.slots import UNPAID_SECONDS, have_room, have_room_for
from lightwork_broker.escrow.wrap import (
    Limits,
    check_invoice,
    invoice_seconds,
    plan_timers,
    price_credit,
    price_job,
)
from lightwork_broker.ledger import store as ledger
from lightwork_broker.lightning.errors import LightningUnavailable, PermissionMissing
from lightwork_broker.lightning.ports import (
    ChannelSlots,
    LightningNode,
    PayoutFailure,
    PayoutStatus,
    RouteEstimate,
)
from lightwork_broker.market.quotes import Underwriting
from lightwork_broker.market.store import Listing
from lightwork_contracts.bolt11 import Invoice, InvoiceError, read_invoice
from lightwork_contracts.ids import PaymentHash
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat
from lightwork_contracts.signed.commitment import Commitment
from lightwork_contracts.wire.problems import ProblemCode

SYNC_SECONDS = 5
SYNC_POLL_SECONDS = 0.2
ESTIMATE_SECONDS = 10
"""How long a route estimate for one destination and amount is used again."""


class EscrowUnderwriter:
    """The market's underwriter: for wrapped hold invoices, and for those of the broker in credit mode."""

    def __init__(
        self,
        *,
        database: Database,
        node: LightningNode,
        escrows: EscrowService,
        clock: Clock,
        limits: Limits,
        preimages: CreditPreimages,
    ) -> None:
        self._preimages = preimages
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

    def least_total(self, price_msat: Msat, *, mode: PaymentMode) -> Msat:
        """Return the least that a buyer would pay for a job of this price, in msat."""
        if mode is PaymentMode.CREDIT:
            return price_credit(price_msat=price_msat, limits=self._limits).total_msat
        return price_job(price_msat=price_msat, route_fee_msat=Msat(0), limits=self._limits).total_msat

    async def require_room(self) -> None:
        """Promise no job for which the channels have no slot left, those that were promised one just now counted.

        Raises:
            PayoutsStopped: the books do not hold.
            TooManyJobs: no channel has room for another held HTLC.
            LightningDown: the node gave no answer.
        """
        self._escrows.gate.require_open()
        channels = await self._channels()
        if channels is None:
            return
        async with self._database.read() as tx:
            promised = await store.promised(tx, since=self._clock.now() - UNPAID_SECONDS)
        if not have_room(channels, most=self._limits.held_htlcs_of_channel, promised=promised):
            raise TooManyJobs(
                "the channels of the broker's node hold as many payments as they can",
                hint="try again when some jobs are over",
            )

    async def _channels(self) -> tuple[ChannelSlots, ...] | None:
        try:
            return await self._node.channel_slots()
        except PermissionMissing:
            return None  # said at the start; without the channels only the number of jobs is bounded
        except LightningUnavailable as error:
            raise LightningDown("the broker's Lightning node gives no answer") from error

    async def _require_room_for(self, price_msat: Msat, *, mode: PaymentMode) -> None:
        """Promise no job whose payment would have to go back, as there is too much at every peer already.

        Raises:
            TooManyJobs: no peer may have so much more waiting.
            LightningDown: the node gave no answer.
        """
        most = self._limits.held_msat_of_peer
        channels = await self._channels() if most else None
        if channels is None:
            return
        needed = self.least_total(price_msat, mode=mode)
        if needed > most:
            raise TooManyJobs(
                f"the job would hold {needed} msat, and this broker lets {most} msat wait at one peer",
                hint="ask for a job that costs less",
                context={"limit": most},
            )
        if not have_room_for(channels, most_msat=most, amount_msat=needed):
            raise TooManyJobs(
                "with this job too much would wait at every peer of the broker's node",
                hint="try again when some jobs are over",
                context={"limit": most},
            )

    async def underwrite(self, commitment: Commitment, listing: Listing) -> Underwriting:
        """Check what the provider committed to, and price the job.

        Raises:
            InvoiceRefused: with the rule that its invoice breaks.
            CreditCeiling: the broker would owe the provider more than its operator allows.
            TooManyJobs: too much waits in the node's channels already.
            LightningDown: no route could be asked for.
        """
        if not self._limits.min_price_msat <= commitment.price_msat <= self._limits.max_price_msat:
            raise InvoiceRefused(
                f"this broker guards jobs of {self._limits.min_price_msat} to "
                f"{self._limits.max_price_msat} msat",
                invoice_code=ProblemCode.INVOICE_AMOUNT,
            )
        await self._require_room_for(commitment.price_msat, mode=listing.content.mode)
        if commitment.invoice is None or commitment.payment_hash is None:
            return await self._underwrite_credit(commitment, listing)
        return await self._underwrite_escrow(
            commitment, listing, text=commitment.invoice, payment_hash=commitment.payment_hash
        )

    async def _underwrite_credit(self, commitment: Commitment, listing: Listing) -> Underwriting:
        async with self._database.read() as tx:
            await require_below_ceiling(
                tx, listing.agent, price_msat=commitment.price_msat, limits=self._limits
            )
        await self._require_synced()
        timers = plan_timers(
            work_seconds=listing.content.work_seconds,
            review_seconds=listing.content.review_seconds,
            final_cltv=0,
            route_blocks=0,
            hold_expiry_delta=self._escrows.hold_expiry_delta,
            limits=self._limits,
        )
        return Underwriting(
            payment_hash=self._preimages.hash_for(commitment.quote_id),
            fee_msat=price_credit(price_msat=commitment.price_msat, limits=self._limits).fee_msat,
            routing_msat=Msat(0),
            pay_seconds=timers.pay_seconds,
            forward_seconds=timers.forward_seconds,
            hold_cltv_blocks=timers.hold_cltv_blocks,
            outgoing_cltv_blocks=0,
        )

    async def _underwrite_escrow(
        self, commitment: Commitment, listing: Listing, *, text: str, payment_hash: PaymentHash
    ) -> Underwriting:
        limits = self._limits
        try:
            invoice = read_invoice(text)
        except InvoiceError as error:
            raise InvoiceRefused(
                f"the invoice cannot be read: {error}", invoice_code=ProblemCode.INVOICE_MALFORMED
            ) from error
        needed, _ = self.invoice_terms(listing)
        check_invoice(
            invoice,
            price_msat=commitment.price_msat,
            payment_hash=payment_hash,
            limits=limits,
            needed_seconds=needed,
            now=int(self._clock.now()),
        )
        async with self._database.read() as tx:
            if await store.hash_is_used(tx, payment_hash) or await ledger.is_claimed(tx, payment_hash):
                raise InvoiceRefused(
                    "this payment hash already guards a job",
                    invoice_code=ProblemCode.INVOICE_HASH_USED,
                    hint="make a fresh invoice",
                )
        await self._require_synced()
        route, _ = await asyncio.gather(
            self._estimate(invoice, commitment.price_msat), self._require_unknown_to_node(payment_hash)
        )
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
            payment_hash=payment_hash,
            fee_msat=price.fee_msat,
            routing_msat=price.routing_msat,
            pay_seconds=timers.pay_seconds,
            forward_seconds=timers.forward_seconds,
            hold_cltv_blocks=timers.hold_cltv_blocks,
            outgoing_cltv_blocks=timers.outgoing_cltv_blocks,
        )

    async def _require_unknown_to_node(self, payment_hash: PaymentHash) -> None:
        """Refuse a hash under which the node has an invoice or a payment that this database does not know of.

        That payment would pass for the payout of this job, although nobody was paid for it.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + SYNC_SECONDS
        while True:
            # An answer that is lost costs nobody a quote: both questions may be asked again.
            try:
                hold, payment = await asyncio.gather(
                    self._node.lookup(payment_hash), self._node.track(payment_hash)
                )
            except LightningUnavailable as error:
                if loop.time() >= give_up:
                    raise LightningDown("the broker's Lightning node gives no answer") from error
            else:
                if payment.status is not PayoutStatus.UNKNOWN:
                    break
                if loop.time() >= give_up:
                    raise LightningDown("the broker's node does not say whether it has paid this hash")
            await asyncio.sleep(SYNC_POLL_SECONDS)
        if hold is not None or payment.failure is not PayoutFailure.NEVER_SENT:
            raise InvoiceRefused(
                "the broker's node has used this payment hash before",
                invoice_code=ProblemCode.INVOICE_HASH_USED,
                hint="make a fresh invoice",
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
