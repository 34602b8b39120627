"""The quote desk: price an input, make an invoice unless paid by credit, and sign one commitment per quote."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from lightwork.agent import Task
from lightwork.broker import Broker
from lightwork.errors import InputInvalid, LightworkError, TaskRefused
from lightwork.reports import Report, Tell, logger
from lightwork.wallet import CreatedInvoice, Wallet
from lightwork_contracts.ids import ListingId, PaymentHash, QuoteId
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.money import Msat, format_msat
from lightwork_contracts.signed.canonical import input_hash
from lightwork_contracts.signed.commitment import Commitment, sign_commitment
from lightwork_contracts.signed.event import SignedEvent
from lightwork_contracts.signed.keys import SecretKey
from lightwork_contracts.wire.jobs import JobWork
from lightwork_contracts.wire.market import QuoteWork

FINAL_CLTV = 80
"""LND's own default, in blocks: time for the node to claim on chain, if it ever must."""
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Offered:
    """A task as it is listed at the broker."""

    task: Task
    listing_id: ListingId
    version: int


@dataclass(frozen=True, slots=True)
class Signed:
    """What was promised for one quote."""

    input_hash: str
    price: Msat
    payment_hash: PaymentHash | None
    """Of the provider's own invoice; None in credit mode."""
    event: SignedEvent


class QuoteDesk:
    """Answers requests for a price. A request that comes twice gets the same commitment again."""

    def __init__(
        self,
        *,
        broker: Broker,
        key: SecretKey,
        wallet: Wallet | None,
        offered: Mapping[ListingId, Offered],
        tell: Tell,
    ) -> None:
        self._broker = broker
        self._key = key
        self._wallet = wallet
        self._offered = offered
        self._tell = tell
        self._promises: OrderedDict[QuoteId, asyncio.Future[Signed]] = OrderedDict()

    async def answer(self, work: QuoteWork) -> None:
        """Answer one request for a price; never raises for what the buyer, the wallet or the broker did."""
        try:
            async with asyncio.timeout(max(1.0, work.answer_by - self._broker.connection.clock() + 1)):
                await self._answer(work)
        except TimeoutError:
            self._report("quote.late", work, "no price in time")
        except LightworkError as error:
            self._report("quote.unanswered", work, error.message)

    def agrees(self, work: JobWork) -> bool:
        """Say whether a leased job is what was promised. A promise of an earlier run is not remembered."""
        promise = self._promises.get(work.quote_id)
        if promise is None or not promise.done() or promise.cancelled() or promise.exception() is not None:
            return True
        signed = promise.result()
        return (
            signed.price == work.price_msat
            and signed.payment_hash in (None, work.payment_hash)
            and signed.input_hash == input_hash(work.input)
        )

    async def _answer(self, work: QuoteWork) -> None:
        try:
            signed = await self._promise(work)
        except (InputInvalid, TaskRefused) as error:
            await self._refuse(work, error.message)
        except LightworkError as error:
            logger.error("quote %s: %s", work.quote_id, error.message)
            await self._refuse(work, "the provider cannot make an invoice now")
        except Exception:  # noqa: BLE001 - the edge of the author's price function
            logger.exception("quote %s: the price function of %s raised", work.quote_id, work.task)
            await self._refuse(work, "the provider cannot price this input")
        else:
            await self._broker.answer_quote(work.quote_id, signed.event)
            self._report("quote.answered", work, format_msat(signed.price), price=signed.price)

    async def _promise(self, work: QuoteWork) -> Signed:
        known = self._promises.get(work.quote_id)
        if known is None:
            known = asyncio.get_running_loop().create_future()
            self._promises[work.quote_id] = known
            while len(self._promises) > REMEMBERED:
                self._promises.popitem(last=False)
            try:
                known.set_result(await self._sign(work))
            except BaseException as error:
                # Nothing was signed, so the broker may ask again.
                self._promises.pop(work.quote_id, None)
                if isinstance(error, Exception):
                    known.set_exception(error)
                    known.exception()  # looked at: the caller below raises it
                else:
                    known.cancel()
                raise
        signed = await asyncio.shield(known)
        if signed.input_hash != input_hash(work.input):
            raise TaskRefused("this quote was answered for another input")
        return signed

    async def _sign(self, work: QuoteWork) -> Signed:
        offered = self._offered.get(work.listing_id)
        if offered is None:
            raise TaskRefused("this provider does not sell that any more")
        if offered.version != work.listing_version:
            raise TaskRefused(f"the listing is at version {offered.version} now; ask for a new quote")
        hashed = input_hash(work.input)
        if hashed != work.input_hash:
            raise TaskRefused("the input is not the one that was hashed")
        mode = PaymentMode.CREDIT if self._wallet is None else PaymentMode.ESCROW
        if work.mode is not mode:
            # Asked of a listing that an earlier run signed: the invoice, or its absence, is not the broker's choice.
            raise TaskRefused(f"this provider is paid in {mode} mode now; ask for a new quote")
        price = await offered.task.quote(work.input)
        created = None if self._wallet is None else await self._invoice(self._wallet, work, price)
        now = int(self._broker.connection.clock())
        commitment = Commitment(
            quote_id=work.quote_id,
            listing_id=work.listing_id,
            listing_version=work.listing_version,
            input_hash=hashed,
            price_msat=price,
            mode=mode,
            payment_hash=None if created is None else created.payment_hash,
            invoice=None if created is None else created.invoice,
            expires_at=now + work.invoice_expiry_seconds,
        )
        event = sign_commitment(commitment, key=self._key, created_at=now)
        return Signed(input_hash=hashed, price=price, payment_hash=commitment.payment_hash, event=event)

    async def _invoice(self, wallet: Wallet, work: QuoteWork, price: Msat) -> CreatedInvoice:
        return await wallet.create_invoice(
            amount_msat=price,
            expiry_seconds=work.invoice_expiry_seconds,
            memo=f"lightwork {work.task}",
            final_cltv=min(FINAL_CLTV, work.max_final_cltv),
        )

    async def _refuse(self, work: QuoteWork, reason: str) -> None:
        await self._broker.refuse_quote(work.quote_id, reason or "refused")
        self._report("quote.refused", work, reason)

    def _report(self, kind: str, work: QuoteWork, text: str, *, price: int | None = None) -> None:
        facts: dict[str, str | int] = {"quote": work.quote_id, "task": work.task}
        if price is not None:
            facts["price_msat"] = price
        self._tell(Report(kind=kind, text=f"{work.task} {work.quote_id}: {text}", facts=facts))
