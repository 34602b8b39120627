"""The composition root: builds every room of the broker, and the HTTP application around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from lightwork_broker import keys
from lightwork_broker.accounts import api as accounts_api
from lightwork_broker.accounts.forgotten import stop_if_forgotten
from lightwork_broker.accounts.service import AccountLimits, Accounts
from lightwork_broker.body_limit import BodyLimit
from lightwork_broker.clock import Clock, Ids, Steady, SystemClock
from lightwork_broker.db.engine import Database
from lightwork_broker.db.place import migrate, open_database
from lightwork_broker.escrow import store as escrow_store
from lightwork_broker.escrow.credit import CreditPreimages
from lightwork_broker.escrow.orphans import Orphans, mark_of
from lightwork_broker.escrow.reconcile import (
    Reconciler,
    RecoveryFailed,
    probe_permissions,
    require_permissions,
)
from lightwork_broker.escrow.service import EscrowService
from lightwork_broker.escrow.underwriting import EscrowUnderwriter
from lightwork_broker.escrow.wrap import Limits
from lightwork_broker.health import health_of
from lightwork_broker.identity.at_once import AtOnce
from lightwork_broker.identity.service import Identity
from lightwork_broker.identity.shared import SharedGuard, require_key
from lightwork_broker.jobs import api as jobs_api
from lightwork_broker.jobs.caps import Caps
from lightwork_broker.jobs.events import JobReader
from lightwork_broker.jobs.queue import WorkQueue
from lightwork_broker.jobs.service import Jobs
from lightwork_broker.lightning.errors import LightningError, PermissionMissing
from lightwork_broker.lightning.ports import LightningNode, NodeSummary
from lightwork_broker.lightning.version import SAFE, is_safe
from lightwork_broker.market import api as market_api
from lightwork_broker.market.forgetting import Forgetting
from lightwork_broker.market.quotes import Quotes
from lightwork_broker.market.service import AdvertCaps, Market
from lightwork_broker.payout_gate import PayoutGate
from lightwork_broker.rate_limit import AddressLimit, RateLimit
from lightwork_broker.refusals import add_refusals
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.signals import Signals
from lightwork_broker.watchdog import Watchdog
from lightwork_broker.webhooks import api as webhooks_api
from lightwork_broker.webhooks.outgoing import Outgoing
from lightwork_broker.webhooks.service import Webhooks
from lightwork_contracts.ids import Pubkey
from lightwork_contracts.modes import PaymentMode
from lightwork_contracts.signed.replay import ReplayGuard
from lightwork_contracts.wire.info import BrokerInfo, Health

if TYPE_CHECKING:
    pass

log = structlog.stdlib.get_logger()

TICK_SECONDS = 0.5

DESCRIPTION = """\
A market where agents sell tasks and are paid in Bitcoin over Lightning, and a broker that never holds the money:
the buyer's payment waits in an HTLC under the provider's own payment hash until the job is released or refunded.

Amounts are **msat**, times Unix seconds. Refusals are RFC 9457 problems whose `code` is stable. Signed routes take
`Authorization: Nostr ...` (NIP-98: kind 27235 with `u`, `method`, `payload` and a `nonce` tag), good for one use.
"""


def limits_of(settings: BrokerSettings, summary: NodeSummary, *, owner: Pubkey) -> Limits:
    """Return what the operator allows, for the node that the broker runs on."""
    return Limits(
        network=summary.network,
        own_node=summary.pubkey,
        fee_base_msat=settings.fee_base_msat,
        fee_ppm=settings.fee_ppm,
        min_price_msat=settings.min_price_msat,
        max_price_msat=settings.max_price_msat,
        routing_floor_msat=settings.routing_floor_msat,
        routing_cap_ppm=settings.routing_cap_ppm,
        max_final_cltv=settings.max_final_cltv,
        max_hold_cltv=settings.max_hold_cltv,
        guardian_margin_blocks=settings.guardian_margin_blocks,
        pay_seconds=settings.pay_seconds,
        forward_seconds=settings.forward_seconds,
        seconds_per_block=settings.seconds_per_block,
        credit_ceiling_msat=settings.credit_ceiling_msat,
        held_htlcs_of_channel=settings.held_htlcs_of_channel,
        held_msat_of_peer=settings.held_msat_of_peer,
        mark=mark_of(owner),
        credit_ceiling_msat_of_all=settings.credit_ceiling_msat_of_all,
    )


@dataclass(frozen=True, slots=True)
class Rooms:
    """Every part of a running broker."""

    info: BrokerInfo
    clock: Clock
    signals: Signals
    database: Database
    node: LightningNode
    identity: Identity
    shared: SharedGuard
    market: Market
    quotes: Quotes
    forgetting: Forgetting
    escrows: EscrowService
    reconciler: Reconciler
    orphans: Orphans
    jobs: Jobs
    queue: WorkQueue
    reader: JobReader
    accounts: Accounts
    webhooks: Webhooks
    gate: PayoutGate
    watchdog: Watchdog
    operators: frozenset[Pubkey]


async def build(
    settings: BrokerSettings,
    node: LightningNode,
    *,
    clock: Clock,
    database: Database | None = None,
    steady: Steady | None = None,
    outgoing: Outgoing | None = None,
) -> Rooms:
    """Build the rooms in the order in which they may know each other, on a migrated database.

    Without a `database`, which is migrated already, the one of the settings is opened; without `outgoing`, webhooks
    are sent as the settings say.

    Raises:
        LightningUnavailable: the node gives no answer.
        RecoveryFailed: the node is too old to hold money with, or does not let the broker ask who it is.
    """
    directory = settings.directory()
    if database is None:
        place = settings.database_place()
        await asyncio.to_thread(migrate, place)
        database = open_database(place)
    key = keys.load_or_create(directory / "broker.key")
    await require_key(database, key.public, adopt=settings.adopt, idle=escrow_store.nothing_open)
    summary = await _summary(node, patience_seconds=settings.node_patience_seconds)
    if not is_safe(summary.version):
        raise RecoveryFailed(
            f"the node says that it is {summary.version!r}: LND before {'.'.join(map(str, SAFE))} can be robbed by "
            "its peers; upgrade it, and start the broker again"
        )
    limits = limits_of(settings, summary, owner=key.public)
    ids, signals = Ids(clock), Signals(tell=database.relay.tell if database.relay else None)
    modes = tuple(PaymentMode) if settings.credit_ceiling_msat else (PaymentMode.ESCROW,)
    market = Market(
        database=database,
        clock=clock,
        ids=ids,
        max_price_msat=settings.max_price_msat,
        modes=modes,
        caps=AdvertCaps(listings=settings.listings_of_agent, versions_a_day=settings.versions_a_day),
    )
    preimages = CreditPreimages(key)
    gate = PayoutGate()
    escrows = EscrowService(
        database=database,
        node=node,
        clock=clock,
        limits=limits,
        preimages=preimages,
        gate=gate,
        steady=steady,
    )
    quotes = Quotes(
        database=database,
        clock=clock,
        ids=ids,
        signals=signals,
        market=market,
        underwriter=EscrowUnderwriter(
            database=database,
            node=node,
            escrows=escrows,
            clock=clock,
            limits=limits,
            preimages=preimages,
        ),
        key=key,
        node=summary.pubkey,
        steady=steady,
    )
    jobs = Jobs(
        database=database,
        clock=clock,
        ids=ids,
        signals=signals,
        escrows=escrows,
        limits=limits,
        caps=Caps(of_buyer=settings.open_jobs_of_buyer, of_all=settings.open_jobs),
    )
    escrows.attach(jobs)
    shared = SharedGuard(database=database, clock=clock)
    return Rooms(
        shared=shared,
        info=BrokerInfo(
            name=settings.name,
            version=version("lightwork"),
            pubkey=key.public,
            network=summary.network,
            node=summary.pubkey,
            fee_base_msat=settings.fee_base_msat,
            fee_ppm=settings.fee_ppm,
            min_price_msat=settings.min_price_msat,
            max_price_msat=settings.max_price_msat,
            max_body_bytes=settings.max_body_bytes,
            max_final_cltv=settings.max_final_cltv,
            modes=modes,
            credit_ceiling_msat=settings.credit_ceiling_msat,
            now=int(clock.now()),
        ),
        clock=clock,
        signals=signals,
        database=database,
        node=node,
        identity=Identity(
            clock=clock,
            origins=settings.served_origins(),
            guard=ReplayGuard(started_at=int(clock.now())),
            shared=shared,
            rates=RateLimit(clock=clock, per_second=settings.requests_per_second_of_key),
            at_once=AtOnce(settings.requests_at_once_of_key),
        ),
        market=market,
        quotes=quotes,
        forgetting=Forgetting(database=database, clock=clock, quotes_seconds=settings.quotes_seconds),
        escrows=escrows,
        reconciler=Reconciler(
            database=database,
            node=node,
            escrows=escrows,
            clock=clock,
            sweep_seconds=settings.sweep_seconds,
            steady=steady,
        ),
        orphans=Orphans(
            database=database,
            node=node,
            steady=steady or clock.now,
            owner=key.public,
            seconds=settings.orphans_seconds,
        ),
        jobs=jobs,
        queue=WorkQueue(
            database=database,
            clock=clock,
            signals=signals,
            market=market,
            quotes=quotes,
            jobs=jobs,
            lease_seconds=settings.lease_seconds,
            steady=steady,
        ),
        reader=JobReader(
            database=database, steady=steady or clock.now, signals=signals, jobs=jobs, quotes=quotes
        ),
        accounts=Accounts(
            database=database,
            node=node,
            clock=clock,
            ids=ids,
            signals=signals,
            limits=AccountLimits(
                network=summary.network,
                own_node=summary.pubkey,
                ceiling_msat=settings.credit_ceiling_msat,
                day_msat=settings.withdraw_day_msat,
                day_msat_of_all=settings.withdraw_day_msat_of_all,
                open_at_once=settings.withdrawals_at_once,
                open_at_once_of_all=settings.withdrawals_at_once_of_all,
                of_agent_a_day=settings.withdrawals_a_day,
            ),
            pending=escrow_store.credit_under_way,
            gate=gate,
            steady=steady,
        ),
        webhooks=Webhooks(
            database=database,
            clock=clock,
            ids=ids,
            outgoing=outgoing or Outgoing(private=settings.webhooks_private),
            private=settings.webhooks_private,
        ),
        gate=gate,
        watchdog=Watchdog(
            database=database, node=node, clock=clock, gate=gate, seconds=settings.watchdog_seconds
        ),
        operators=frozenset({key.public, *(Pubkey(operator) for operator in settings.operators)}),
    )


def create_app(
    settings: BrokerSettings,
    node: LightningNode,
    *,
    clock: Clock | None = None,
    database: Database | None = None,
    steady: Steady | None = None,
    outgoing: Outgoing | None = None,
) -> FastAPI:
    """Return the broker as an ASGI application. It recovers what was unfinished before it serves.

    How long things take is measured by `steady`: the machine's, or, for a clock that was given, that clock.
    """
    time = clock or SystemClock()
    steady = steady or (monotonic if clock is None else clock.now)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        rooms = await build(settings, node, clock=time, database=database, steady=steady, outgoing=outgoing)
        for name in (
            "info",
            "signals",
            "identity",
            "market",
            "quotes",
            "jobs",
            "queue",
            "reader",
            "accounts",
            "webhooks",
            "operators",
        ):
            setattr(app.state, name, getattr(rooms, name))
        app.state.rooms = rooms
        background: list[asyncio.Task[None]] = []
        try:
            await probe_permissions(node)
            # Before the books are compared: how far they were is what tells an older copy of the database.
            await stop_if_forgotten(rooms.database, node, clock=time, pending=escrow_store.credit_under_way)
            await rooms.watchdog.look()
            taken_up = await rooms.reconciler.boot(patience_seconds=settings.node_patience_seconds)
            taken_up += await rooms.accounts.sweep()
            # Last of all: until here nobody could reach this broker.
            await rooms.jobs.give_time(lease_seconds=settings.lease_seconds)
            log.info("broker.started", unfinished=taken_up, network=rooms.info.network, node=rooms.info.node)
            background += [
                asyncio.create_task(_supervised(work), name=name)
                for name, work in (
                    ("sweep", rooms.reconciler.run),
                    ("blocks", rooms.reconciler.follow_blocks),
                    ("clock", lambda: _tick(rooms.jobs)),
                    ("watchdog", rooms.watchdog.run),
                    ("orphans", rooms.orphans.run),
                    ("withdrawals", lambda: _sweep_withdrawals(rooms.accounts, settings.sweep_seconds)),
                    ("webhooks", rooms.webhooks.run),
                    ("forgetting", rooms.forgetting.run),
                    ("forget requests", rooms.shared.run),
                    *_among_brokers(rooms),
                )
            ]
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await rooms.escrows.close()
            await rooms.accounts.close()
            await rooms.webhooks.close()
            await rooms.database.close()
            await node.close()

    app = FastAPI(
        title="Lightwork broker",
        version=version("lightwork"),
        summary="Hire agents, and be paid in Bitcoin over Lightning without custody.",
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        openapi_tags=[
            {"name": "broker", "description": "what the broker says of itself"},
            {"name": "listings", "description": "adverts, signed by the agents that publish them"},
            {"name": "quotes", "description": "signed prices for one input"},
            {"name": "jobs", "description": "hiring, and following what was hired"},
            {"name": "work", "description": "the provider's side"},
            {
                "name": "balance",
                "description": "what the broker owes agents in credit mode, and its withdrawal",
            },
            {"name": "webhooks", "description": "being told of one's jobs at a URL"},
            {"name": "operator", "description": "for the operator's keys"},
        ],
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(
        AddressLimit, limit=RateLimit(clock=time, per_second=settings.requests_per_second_of_address)
    )
    app.include_router(market_api.router)
    app.include_router(jobs_api.router)
    app.include_router(accounts_api.router)
    app.include_router(webhooks_api.router)
    _add_own_routes(app)
    add_refusals(app)
    return app


def _add_own_routes(app: FastAPI) -> None:
    async def info(request: Request) -> BrokerInfo:
        """Pin `pubkey` and `node`: they sign your quotes and receive your payments. Needs no signature."""
        rooms: Rooms = request.app.state.rooms
        return rooms.info.model_copy(update={"now": int(rooms.clock.now())})

    async def health(request: Request) -> JSONResponse:
        """200 when the database and a synced node answer, else 503 with what is wrong. Needs no signature."""
        rooms: Rooms = request.app.state.rooms
        answer = await health_of(rooms.database, rooms.node, rooms.gate)
        return JSONResponse(answer.model_dump(mode="json"), 200 if answer.ok else 503)

    app.get("/v1/info", tags=["broker"], summary="Keys, network, prices, limits")(info)
    app.get("/v1/health", tags=["broker"], summary="Is everything well?", response_model=Health)(health)


async def _summary(node: LightningNode, *, patience_seconds: float) -> NodeSummary:
    deadline = asyncio.get_running_loop().time() + patience_seconds
    while True:
        try:
            return await node.summary()
        except PermissionMissing:
            await require_permissions(node)  # which says what is missing, and what helps
            raise
        except LightningError:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(0.5)


def _among_brokers(rooms: Rooms) -> list[tuple[str, Callable[[], Coroutine[None, None, None]]]]:
    """Return what runs where other brokers may be at work on the same database."""
    relay = rooms.database.relay
    if relay is None:
        return []
    return [("relay", lambda: relay.run(hear=rooms.signals.hear, stir=rooms.signals.stir))]


async def _tick(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        await jobs.tick()


async def _sweep_withdrawals(accounts: Accounts, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await accounts.sweep()


async def _supervised(work: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a background loop for as long as the broker lives; an unforeseen end is logged and mended."""
    while True:
        try:
            await work()
        except Exception as error:
            log.critical("broker.background_failed", exc_info=error)
        # Also after one that ended by itself: begun again at once, it would leave no time for anything else.
        await asyncio.sleep(1.0)
