"""The sweep: what correctness rests on. Streams and signals only make the same things happen sooner."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import structlog

from lightwork_broker.accounts import store as withdrawals
from lightwork_broker.clock import Clock, Steady
from lightwork_broker.db.engine import Database
from lightwork_broker.errors import BrokerError, LightningDown
from lightwork_broker.escrow import store
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.ledger import store as ledger
from lightwork_broker.ledger.rules import NODE
from lightwork_broker.lightning.errors import InvoiceNotFound, LightningError, PermissionMissing
from lightwork_broker.lightning.permissions import bake_command
from lightwork_broker.lightning.ports import LightningNode, NodeSummary
from lightwork_contracts.ids import JobId, PaymentHash

log = structlog.stdlib.get_logger()

AT_ONCE = 8

BEHIND_SECONDS = 60
"""A node is behind its chain for a moment at each block; after so long it is not that."""

ALARM_SECONDS = 3_600
"""After so long without an outcome, and each so long again, a person is told of it."""


class RecoveryFailed(RuntimeError):
    """The broker must not start: what it owes could not be compared with its node."""


async def require_permissions(node: LightningNode) -> None:
    """Ask the node what it lets the broker do; nothing is done. What it allows beyond need is logged as a warning.

    Raises:
        RecoveryFailed: a call that the broker needs is not allowed.
        LightningError: the node gave no answer.
    """
    allowance = await node.allowance()
    if allowance.missing:
        raise RecoveryFailed(
            f"the node does not let the broker call {', '.join(allowance.missing)}: make a macaroon that does, with "
            f"`{bake_command()}`, and name its file by LIGHTWORK_BROKER_LND_MACAROON"
        )
    if allowance.needless:
        log.warning(
            "node.macaroon_too_powerful",
            allows=list(allowance.needless),
            hint=f"whoever reads its file can do what a broker never does; `{bake_command()}` makes a better one",
        )
    if allowance.forgets_htlcs:
        log.warning(
            "node.forgets_htlcs",
            hint="after a channel was closed by force, the broker can only guess from amounts which job the chain "
            "disagrees with; set store-final-htlc-resolutions=true in lnd.conf",
        )


async def probe_permissions(node: LightningNode) -> None:
    """Make sure that the broker may do all that it may come to owe, before anything depends on it.

    The calls that recovery rests on are made as well, for a hash that nobody has.

    Raises:
        RecoveryFailed: the macaroon lacks a permission.
        LightningError: the node gave no answer.
    """
    await require_permissions(node)
    nobody = PaymentHash(secrets.token_hex(32))
    for what, call in (
        ("look up invoices", node.lookup),
        ("track payments", node.track),
        ("cancel invoices", node.cancel),
    ):
        try:
            await call(nobody)
        except InvoiceNotFound:
            pass
        except PermissionMissing as error:
            raise RecoveryFailed(
                f"the node does not let the broker {what} ({error}); bake a macaroon with its permissions"
            ) from error


class Reconciler:
    """Resolves every unfinished escrow by asking the node: at boot, and again and again."""

    def __init__(
        self,
        *,
        database: Database,
        node: LightningNode,
        escrows: EscrowService,
        clock: Clock,
        sweep_seconds: float,
        steady: Steady | None = None,
    ) -> None:
        self._steady = steady or clock.now
        self._database = database
        self._node = node
        self._escrows = escrows
        self._clock = clock
        self._sweep_seconds = sweep_seconds
        self._behind_since: float | None = None
        self._told_behind = False
        self._told_at: dict[JobId, float] = {}

    async def boot(self, *, patience_seconds: float) -> int:
        """Take up every unfinished escrow before the first request is served; return how many.

        Raises:
            RecoveryFailed: the node gave no answer for `patience_seconds`.
        """
        deadline = self._steady() + patience_seconds
        while True:
            try:
                summary = await self._node.summary()
                await self._require_node(summary.pubkey)
                self._escrows.hold_expiry_delta = summary.hold_expiry_delta or self._escrows.hold_expiry_delta
                async with self._database.read() as tx:
                    ids = await store.unfinished(tx)
                # A payout that is still on its way must not keep the broker from starting: only what the
                # node holds for us is read here, and the rest is driven on in the background.
                for escrow_id in ids:
                    self._escrows.schedule(escrow_id)
                await self._sweep(ids, watching_only=True)
                await self._escrows.guard(summary.block_height)
            except (LightningError, LightningDown) as error:
                if self._steady() >= deadline:
                    raise RecoveryFailed(
                        f"the Lightning node gave no answer for {patience_seconds:.0f} s, so {type(error).__name__} "
                        "is all that is known of the escrows; start the node and try again"
                    ) from error
                await asyncio.sleep(0.5)
            else:
                return len(ids)

    async def _require_node(self, pubkey: str) -> None:
        """Take the database to this node, unless another one holds or pays something for it."""
        async with self._database.read() as tx:
            if await ledger.node_of(tx) == pubkey:
                return
        owned = await self._owned_msat()
        # One transaction: two brokers that start together on two nodes must not both find it free.
        async with self._database.write() as tx:
            known = await ledger.node_of(tx)
            if known == pubkey:
                return
            escrows, paying = len(await store.unfinished(tx)), len(await withdrawals.under_way(tx))
            if known is not None and (escrows or paying):
                raise RecoveryFailed(
                    f"this database has {escrows} open escrows and {paying} withdrawals under way at the node "
                    f"{known}, but the node that answers is {pubkey}; start the broker with the first one"
                )
            opening = None if owned is None else owned - await ledger.balance(tx, NODE)
            await ledger.set_node(tx, pubkey, opening_msat=opening)
            if known is not None:
                # What ended at the other node is unknown to this one, and no reason to stop payouts.
                await ledger.set_watch_mark(tx, ledger.WatchMark(self._clock.now()))

    async def _owned_msat(self) -> int | None:
        """Return what the node's channels hold, or None where that cannot be read: only the audit asks for it."""
        try:
            return await self._node.local_balance_msat()
        except LightningError as error:
            log.warning("node.balance_not_read", cause=type(error).__name__, detail=str(error))
            return None

    async def run(self) -> None:
        """Sweep until cancelled. A clock that is put back must not make the sweep wait for as long."""
        next_sweep = self._steady() + self._sweep_seconds
        while True:
            await asyncio.sleep(min(1.0, self._sweep_seconds))
            try:
                await self.retry_due()
                if self._steady() >= next_sweep:
                    next_sweep = self._steady() + self._sweep_seconds
                    await self.sweep()
            except (LightningError, BrokerError) as error:
                log.warning("escrow.sweep_failed", cause=type(error).__name__)

    async def retry_due(self) -> None:
        """Drive every escrow whose next try was put off until now."""
        async with self._database.read() as tx:
            due = await store.due(tx, now=self._clock.now())
        for escrow_id in due:
            self._escrows.schedule(escrow_id)

    async def sweep(self) -> None:
        """Ask the node about every unfinished escrow, drive each, and let the guardian look.

        Raises:
            LightningUnavailable, LightningDown: the node gave no answer.
        """
        async with self._database.read() as tx:
            ids = await store.unfinished(tx)
        self._escrows.watch.keep(frozenset(ids))
        try:
            await self._sweep(ids, watching_only=False)
            summary = await self._node.summary()
        except (LightningError, LightningDown):
            self._escrows.watch.was_silent()
            raise
        await self._escrows.guard(summary.block_height)
        await self._alarm(summary)

    async def _alarm(self, summary: NodeSummary) -> None:
        """Say what only a person can mend: a node that is behind its chain, a payment without an outcome."""
        now = self._clock.now()
        if summary.synced_to_chain:
            if self._told_behind:
                log.warning("node.caught_up", height=summary.block_height)
            self._behind_since, self._told_behind = None, False
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= BEHIND_SECONDS and not self._told_behind:
            self._told_behind = True
            log.critical("node.behind", height=summary.block_height)
        async with self._database.read() as tx:
            long = await store.unknown_before(tx, before=int(now - ALARM_SECONDS))
        self._told_at = {job: at for job, at in self._told_at.items() if job in long}
        for job, since in long.items():
            if abs(now - self._told_at.get(job, 0)) >= ALARM_SECONDS:
                self._told_at[job] = now
                log.critical("escrow.unknown_for_long", job=job, minutes=int(now - since) // 60)

    async def follow_blocks(self) -> None:
        """Let the guardian look at each new block until cancelled."""
        while True:
            try:
                async for height in self._node.blocks():
                    await self._escrows.guard(height)
            except (LightningError, BrokerError) as error:
                log.info("escrow.blocks_ended", cause=type(error).__name__)
            await asyncio.sleep(1.0)

    async def _sweep(self, ids: Sequence[JobId], *, watching_only: bool) -> None:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(escrow_id: JobId) -> None:
            async with gate:
                try:
                    await self._escrows.look(escrow_id)
                    if not watching_only:
                        self._escrows.schedule(escrow_id)
                except LightningDown:
                    raise
                except BrokerError as error:
                    log.error("escrow.sweep_item_failed", job=escrow_id, detail=error.detail)
                except Exception as error:
                    log.error("escrow.sweep_item_failed", job=escrow_id, exc_info=error)

        await asyncio.gather(*(one(escrow_id) for escrow_id in ids))
