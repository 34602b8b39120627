"""Market: where a buyer searches, asks for prices and hires."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import httpx2
from pydantic import JsonValue, ValidationError

from lightwork.broker import Broker
from lightwork.budget import Budget
from lightwork.connection import BrokerConnection
from lightwork.errors import CheckCode, CheckFailed, InputInvalid, LightworkError
from lightwork.job import Job
from lightwork.profile import Profile
from lightwork.verification import (
    Asked,
    TrustedBroker,
    check_distance,
    check_invoice,
    check_listing,
    check_quote,
)
from lightwork.wallet import Wallet
from lightwork_contracts.errors import CanonicalError
from lightwork_contracts.ids import JobId, ListingId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.signed.quote import QuoteTerms
from lightwork_contracts.status import Acceptance
from lightwork_contracts.wire.info import BrokerInfo
from lightwork_contracts.wire.jobs import Hire, JobForBuyer
from lightwork_contracts.wire.market import ListingView, QuoteView, RequestQuote

if TYPE_CHECKING:
    from lightwork.market_sync import SyncMarket

MAX_HOLD_CLTV = 576
"""The longest that a buyer lets an HTLC be locked, in blocks: four days."""
ROUTE_CLTV = 288
"""What the hops between may add to it, in blocks."""
ROUTING_FLOOR = sats(5)
PEERS_SECONDS = 600.0
"""How long what the wallet says of its neighbours is believed."""

HireWhat = str | ListingView | QuoteView
"""A task's name (the broker picks the best listing), a listing's id, a listing, or a quote of this market."""


@runtime_checkable
class KnowsPeers(Protocol):
    """What a wallet may offer beyond `Wallet`, if it can tell without asking far."""

    async def peers(self) -> frozenset[str]:
        """Return the keys of its own node and of those that it has channels with: 33 bytes each, in hex."""
        ...


class Market:
    """One broker, as one buyer sees it. Use it as `async with Market() as market:`.

    What is not given comes from the profile and the LIGHTWORK_* variables. Nothing is paid before every
    check of `lightwork.verification` has passed.
    """

    def __init__(
        self,
        broker: str | None = None,
        *,
        key: SecretKey | None = None,
        wallet: Wallet | None = None,
        profile: Profile | None = None,
        budget: Msat | None = None,
        max_routing_fee: Msat | None = None,
        max_hold_cltv: int = MAX_HOLD_CLTV,
        allow_credit: bool = False,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Open a market; nothing is sent yet.

        Args:
            budget: the most that all jobs of this market together may cost, in msat. What a job took comes
                back when the wallet says that its payment failed, never on the broker's word.
            max_routing_fee: what the buyer's own node may pay for the way to the broker, in msat;
                5 sat or 1 % of the total, whichever is more, if not given.
            max_hold_cltv: the longest that a job may lock the money, in blocks.
            allow_credit: also hire tasks that are paid in credit mode, where the broker could take the payment
                without a result. Off, such a task is refused before anything is paid.
        """
        chosen = profile or Profile.load()
        self._key = key or chosen.secret_key()
        self._profile = chosen
        self._wallet = wallet
        self._owns_wallet = wallet is None
        self._budget = Budget(budget) if budget is not None else None
        self._max_routing_fee = max_routing_fee
        self._max_hold_cltv = max_hold_cltv
        self._modes = tuple(PaymentMode) if allow_credit else (PaymentMode.ESCROW,)
        self._clock = clock
        self._entropy = entropy
        self.broker = Broker(
            BrokerConnection(
                broker or chosen.broker,
                key=self._key,
                transport=transport,
                clock=clock,
                entropy=entropy,
                sleep=sleep,
            )
        )
        self._trusted: TrustedBroker | None = None
        self._peers: frozenset[str] = frozenset()
        self._peers_until = 0.0
        self._asked: dict[str, Asked] = {}
        self._jobs: set[Job] = set()

    @staticmethod
    def sync(
        broker: str | None = None,
        *,
        key: SecretKey | None = None,
        wallet: Wallet | None = None,
        profile: Profile | None = None,
        budget: Msat | None = None,
        allow_credit: bool = False,
    ) -> SyncMarket:
        """Open a market for programs without asyncio: the same methods, blocking."""
        from lightwork.market_sync import SyncMarket

        return SyncMarket(
            lambda: Market(
                broker, key=key, wallet=wallet, profile=profile, budget=budget, allow_credit=allow_credit
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop watching and give back the connections. Payments under way go on at the node."""
        for job in list(self._jobs):
            await job.close()
        await self.broker.close()
        if self._owns_wallet and self._wallet is not None:
            await self._wallet.close()

    @property
    def modes(self) -> tuple[PaymentMode, ...]:
        """How this buyer is willing to pay."""
        return self._modes

    @property
    def budget_left(self) -> Msat | None:
        """What may still be committed in this market, in msat; None without a budget."""
        return self._budget.left if self._budget is not None else None

    async def info(self) -> BrokerInfo:
        """Ask the broker for its keys, network, prices and limits."""
        return await self.broker.info()

    async def search(
        self, q: str | None = None, *, online: bool | None = None, limit: int = 20
    ) -> tuple[ListingView, ...]:
        """Find listings by words in them. A listing that its agent did not sign as shown is left out."""
        page = await self.broker.listings(q=q, online=online, limit=limit)
        return tuple(listing for listing in page.listings if _is_signed(listing))

    async def listing(self, listing_id: str) -> ListingView:
        """Read one listing.

        Raises:
            NotFound: there is none.
            CheckFailed: its agent did not sign it as shown.
        """
        view = await self.broker.listing(ListingId(listing_id))
        check_listing(view)
        return view

    async def quote(
        self,
        what: str | ListingView,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat | None = None,
        **inputs: JsonValue,
    ) -> QuoteView:
        """Ask what one input would cost, and check the answer. Hand the quote to `start` or `hire` to go on.

        Raises:
            PriceAboveMax, ProviderUnavailable, RequestRefused, CheckFailed: there is no such price.
        """
        request, asked = await self._ask(what, arguments, inputs, max_price=max_price)
        trusted = await self._trust()
        view = await self.broker.quote(request, idempotency_key=self._fresh_key())
        check_quote(view, asked=asked, broker=trusted, now=int(self._clock()))
        self._asked[view.id] = asked
        return view

    async def start(
        self,
        what: HireWhat,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat,
        **inputs: JsonValue,
    ) -> Job:
        """Hire, check what comes back, and begin to pay; return the running job.

        Args:
            what: a task's name, a listing's id, a listing, or a quote of this market. With a name the broker
                chooses the provider; only a listing, or its id, ties the job to the agent that signed it.
            arguments: the input as a mapping, for a task whose parameters are named like ours.
            max_price: the most that price, fee and routing budget may be together, in msat. What the buyer's
                own node pays for the way to the broker comes on top: see `max_routing_fee`.

        Raises:
            PriceAboveMax, ProviderUnavailable, RequestRefused, CheckFailed, BudgetExceeded: nothing was paid.
        """
        wallet = self._open_wallet()
        if isinstance(what, QuoteView):
            hire, asked = self._by_quote(what, max_price=max_price)
        else:
            request, asked = await self._ask(what, arguments, inputs, max_price=max_price)
            hire = Hire(request=request)
        trusted = await self._trust()
        peers = await self._near(wallet)
        view = await self.broker.hire(hire, idempotency_key=self._fresh_key())
        try:
            now = int(self._clock())
            terms = check_quote(view.quote, asked=asked, broker=trusted, now=now)
            if peers:
                check_distance(view.quote, peers=peers)
            if input_hash(view.input) != asked.input_hash:
                raise CheckFailed(CheckCode.INPUT_HASH, "the job is for another input than was sent")
            invoice = check_invoice(
                view.invoice, terms=terms, broker=trusted, now=now, max_final_cltv=self._max_hold_cltv
            )
            max_fee = self._routing_fee(terms)
            if self._budget is not None:
                self._budget.take(Msat(terms.total_msat + max_fee))
        except LightworkError:
            await self._decline(view)
            raise
        job = Job(
            view,
            invoice=invoice.text,
            broker=self.broker,
            wallet=wallet,
            budget=self._budget,
            max_fee=max_fee,
            max_cltv=invoice.min_final_cltv + ROUTE_CLTV,
        )
        self._jobs.add(job)
        job.when_paid(lambda: self._jobs.discard(job))
        return job

    async def hire(
        self,
        what: HireWhat,
        arguments: Mapping[str, JsonValue] | None = None,
        /,
        *,
        max_price: Msat,
        **inputs: JsonValue,
    ) -> JsonValue:
        """Hire, pay, wait, return the result. A result under review is accepted: use `start` to look first.

        `max_price` leaves out what the buyer's own node pays for routing, as in `start`.

        Raises:
            PriceAboveMax, ProviderUnavailable, RequestRefused, CheckFailed, BudgetExceeded: nothing was paid.
            PaymentFailed, WalletUnreachable: it could not be paid; no money moved.
            JobFailed: the job was refunded, and the wallet says that the payment failed; no money moved.
            PaymentUnknown: the wallet does not say so; the money may be held, so do not hire again.
            PaidWithoutResult: the money is gone, and there is no result; `evidence` holds what was signed.
        """
        job = await self.start(what, arguments, max_price=max_price, **inputs)
        try:
            if job.view.quote.acceptance is Acceptance.REVIEW:
                await job.result()
                await job.accept()
            return await job.wait()
        finally:
            await job.close()

    async def job(self, job_id: str) -> JobForBuyer:
        """Read a job that this key has hired."""
        return await self.broker.my_job(JobId(job_id))

    async def _ask(
        self,
        what: str | ListingView,
        arguments: Mapping[str, JsonValue] | None,
        inputs: Mapping[str, JsonValue],
        *,
        max_price: Msat | None,
    ) -> tuple[RequestQuote, Asked]:
        if max_price is not None and (type(max_price) is not int or max_price < 1):
            raise InputInvalid(
                "max_price is a positive whole number of msat", hint="write max_price=sats(20)"
            )
        value = {**(arguments or {}), **inputs}
        try:
            hashed = input_hash(value)
        except CanonicalError as error:
            raise InputInvalid(f"this input cannot be sent: {error}") from None
        listing, task = None, None
        if isinstance(what, ListingView):
            listing = what
            check_listing(listing)
        elif "_" in what:
            # An id has an underscore, which no task's name may have.
            listing = await self.listing(what)
            if listing.id != what:
                raise CheckFailed(CheckCode.LISTING, "the broker shows another listing than was asked for")
        else:
            task = what
        try:
            request = RequestQuote(
                listing_id=listing.id if listing else None,
                task=task,
                version=listing.version if listing else None,
                input=value,
                modes=self._modes,
                max_price_msat=max_price,
            )
        except ValidationError as error:
            raise InputInvalid(f"this input cannot be sent: {error}") from None
        asked = Asked(
            buyer=self._key.public,
            input_hash=hashed,
            max_price=max_price if max_price is not None else Msat(2**62),
            task=task if listing is None else listing.content.name,
            listing_id=listing.id if listing else None,
            listing=listing,
            modes=self._modes,
        )
        return request, asked

    def _by_quote(self, quote: QuoteView, *, max_price: Msat) -> tuple[Hire, Asked]:
        asked = self._asked.get(quote.id)
        if asked is None:
            raise InputInvalid("this quote was not asked for by this market", hint="call market.quote first")
        limited = Asked(
            buyer=asked.buyer,
            input_hash=asked.input_hash,
            max_price=max_price,
            task=asked.task,
            listing_id=asked.listing_id,
            listing=asked.listing,
            modes=asked.modes,
        )
        return Hire(quote_id=quote.id), limited

    async def _trust(self) -> TrustedBroker:
        """What the profile pins, and for the rest what the broker says at the start of this market."""
        if self._trusted is None:
            info = await self.broker.info()
            pinned_key, pinned_node = self._profile.broker_pubkey, self._profile.broker_node
            if pinned_key is not None and pinned_key != info.pubkey:
                raise CheckFailed(
                    CheckCode.BROKER_KEY, "the broker has another key than the one in the profile"
                )
            if pinned_node is not None and pinned_node != info.node:
                raise CheckFailed(
                    CheckCode.BROKER_KEY, "the broker has another node than the one in the profile"
                )
            self._trusted = TrustedBroker(pubkey=info.pubkey, node=info.node, network=info.network)
        return self._trusted

    async def _near(self, wallet: Wallet) -> frozenset[str]:
        """The buyer's own node and its neighbours; nobody if this wallet cannot tell."""
        if isinstance(wallet, KnowsPeers) and self._clock() >= self._peers_until:
            try:
                self._peers = await wallet.peers()
            except LightworkError:
                return self._peers  # a permission that it lacks, perhaps: no reason not to hire
            self._peers_until = self._clock() + PEERS_SECONDS
        return self._peers

    def _open_wallet(self) -> Wallet:
        if self._wallet is None:
            self._wallet = self._profile.wallet(broker=self.broker.connection.url)
        return self._wallet

    def _routing_fee(self, terms: QuoteTerms) -> Msat:
        if self._max_routing_fee is not None:
            return self._max_routing_fee
        return Msat(max(ROUTING_FLOOR, terms.total_msat // 100))

    async def _decline(self, view: JobForBuyer) -> None:
        """Call off a job that will not be paid, so that its provider need not wait; else it expires."""
        try:
            await self.broker.cancel(view.id)
        except LightworkError:
            return

    def _fresh_key(self) -> str:
        return self._entropy(16).hex()


def _is_signed(listing: ListingView) -> bool:
    try:
        check_listing(listing)
    except CheckFailed:
        return False
    return True
