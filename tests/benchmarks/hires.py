"""Buyers that hire `echo` through the SDK, and when each step of a hire was done."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from raw_escrow import RawTerms

from lightwork.lnd_wallet import LndWallet
from lightwork.market import Market
from lightwork.profile import Profile
from lightwork_contracts.ids import JobId
from lightwork_contracts.money import Msat, sats
from lightwork_contracts.signed.keys import SecretKey
from lightwork_regtest.nodes.lnd import LightningNode

TEXT = "hi"


@dataclass(frozen=True, slots=True)
class HireMarks:
    """One hire as its buyer saw it: `begun` and `ended` on the monotonic clock, the others Unix seconds.

    `paying` is when the invoice had passed every check; `ended` is when the result and the proof of payment
    were in hand: the buyer's payment has SUCCEEDED.
    """

    job_id: JobId
    begun: float
    ended: float
    called_at: float
    paying_at: float
    ended_at: float


class HireFailed(RuntimeError):
    """A hire gave another result than the input: nothing may be measured."""


class Buyer:
    """One buyer with a key, a connection to the broker and a wallet of its own, on the buyer's node."""

    def __init__(self, url: str, node: LightningNode) -> None:
        self._wallet = LndWallet.from_files(
            url=node.rest_url, tls_cert=node.tls_cert, macaroon=node.role_macaroon
        )
        self._market = Market(
            url,
            key=SecretKey.generate(secrets.token_bytes(32)),
            wallet=self._wallet,
            profile=Profile.load(environ={"LIGHTWORK_BROKER": url, "HOME": "/nonexistent"}),
        )

    async def close(self) -> None:
        await self._market.close()
        await self._wallet.close()

    async def hire(self) -> HireMarks:
        """Do what `Market.hire("echo", ...)` does, in its own two halves, to see the time between them.

        Raises:
            HireFailed: the result is not the input.
        """
        called_at, begun = time.time(), time.monotonic()
        job = await self._market.start("echo", text=TEXT, max_price=sats(20))
        paying_at = time.time()
        try:
            result = await job.wait()
        finally:
            await job.close()
        if result != TEXT:
            raise HireFailed(f"job {job.id} gave {result!r}")
        return HireMarks(job.id, begun, time.monotonic(), called_at, paying_at, time.time())

    async def terms(self) -> RawTerms:
        """Return what a job of this market moves and locks, for the raw peer to do the same."""
        quote = await self._market.quote("echo", text=TEXT)
        return RawTerms(
            price_msat=Msat(quote.price_msat),
            total_msat=Msat(quote.total_msat),
            routing_msat=Msat(quote.routing_msat),
            hold_cltv=quote.hold_cltv_blocks,
        )
