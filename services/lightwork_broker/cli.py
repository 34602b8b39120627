"""`lightwork broker ...`: run a broker, look after its books, rule on disputes."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from enum import IntEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Annotated, assert_never, cast

import httpx2
import typer
import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from uvicorn.loops.auto import auto_loop_factory

from lightwork_broker import audit as audits
from lightwork_broker import keys, watchdog
from lightwork_broker.app import create_app
from lightwork_broker.audit_report import print_report
from lightwork_broker.chain_audit import ChainAudit
from lightwork_broker.chain_rules import Finding
from lightwork_broker.clock import SystemClock
from lightwork_broker.db.engine import Database, DatabaseUnavailable
from lightwork_broker.db.place import DriverMissing, migrate, open_database, require_driver
from lightwork_broker.htlc_audit import check_htlcs, merged
from lightwork_broker.jobs.disputes import Dispute, open_disputes
from lightwork_broker.lightning.errors import LightningError, LightningUnavailable
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.logs import configure
from lightwork_broker.network_app import create_network_app, redirect_wallets
from lightwork_broker.settings import BrokerSettings, LightningNetwork
from lightwork_broker.signals import Signals
from lightwork_contracts.money import format_msat
from lightwork_contracts.signed.http_auth import sign_request
from lightwork_contracts.wire.jobs import Rule

app = typer.Typer(no_args_is_help=True, help="Run a broker and look after it.")
NETWORK_FILE = "simulated-network"
"""In the data directory of a broker on a simulated network: which one its jobs were paid on."""

out, err = Console(), Console(stderr=True)


class Exit(IntEnum):
    """Exit codes: 0 well, 1 a breach or a refusal, 2 wrong usage or settings, 5 a node or broker is away."""

    OK = 0
    BREACH = 1
    USAGE = 2
    AWAY = 5


DataDir = Annotated[Path | None, typer.Option(help="where database and key live")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


def _settings(**given: object) -> BrokerSettings:
    try:
        return BrokerSettings(**{name: value for name, value in given.items() if value is not None})  # pyright: ignore[reportArgumentType]  (checked by pydantic)
    except ValidationError as error:
        for item in error.errors():
            name = "LIGHTWORK_BROKER_" + "_".join(str(part) for part in item["loc"]).upper()
            err.print(f"[red]{name}[/]: {item['msg']}")
        raise typer.Exit(Exit.USAGE) from None


@app.command()
def run(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    data_dir: DataDir = None,
    network: Annotated[
        LightningNetwork | None, typer.Option(help="a real LND, or play money in this process, gone with it")
    ] = None,
    simulated_url: Annotated[
        str | None, typer.Option(help="play money in another process: that of `lightwork broker network`")
    ] = None,
    lnd_address: Annotated[str | None, typer.Option("--lnd", help="host:port of LND's gRPC")] = None,
    lnd_tls_cert: Annotated[Path | None, typer.Option(help="LND's tls.cert")] = None,
    lnd_macaroon: Annotated[Path | None, typer.Option(help="a macaroon for the broker's calls only")] = None,
    log_json: Annotated[bool, typer.Option(help="log JSON lines")] = False,
) -> None:
    """Serve the market. Everything can also be set by LIGHTWORK_BROKER_... variables.

    Exit codes: 0 stopped, 2 wrong settings, 5 the Lightning node does not answer.
    """
    settings = _settings(
        host=host,
        port=port,
        data_dir=data_dir,
        network=network,
        simulated_url=simulated_url,
        lnd_address=lnd_address,
        lnd_tls_cert=lnd_tls_cert,
        lnd_macaroon=lnd_macaroon,
    )
    os.umask(0o077)  # database, log and key are nobody else's business
    configure(as_json=log_json)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        code = runner.run(_serve(settings))
    raise typer.Exit(code)


class BrokerServer(uvicorn.Server):
    """uvicorn, which first tells those who wait in long polls and streams that the broker goes down."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        application = self.config.app
        if isinstance(application, FastAPI):
            signals = cast("Signals | None", getattr(application.state, "signals", None))
            if signals is not None:  # None while it is still starting
                signals.close()
        super().handle_exit(sig, frame)


async def _serve(settings: BrokerSettings) -> Exit:
    if settings.database.get_secret_value():
        try:
            require_driver()
        except DriverMissing as error:
            err.print(f"[red]{escape(str(error))}[/]")
            return Exit.USAGE
    match settings.network:
        case LightningNetwork.LND:
            return await _serve_lnd(settings)
        case LightningNetwork.SIMULATED if settings.simulated_url:
            return await _serve_attached(settings)
        case LightningNetwork.SIMULATED:
            return await _serve_simulated(settings)
        case _:
            assert_never(settings.network)


async def _serve_lnd(settings: BrokerSettings) -> Exit:
    try:
        from lightwork_broker.lightning.lnd import LndSettings, open_node
    except ImportError:
        err.print("[red]the LND client is not installed[/]: pip install 'lightwork\\[broker,lnd]'")
        return Exit.USAGE
    if (settings.directory() / NETWORK_FILE).exists():
        err.print(
            "[red]the data directory is in use[/]: its jobs were paid with the play money of a simulated network"
        )
        return Exit.USAGE
    listener, settings = _listen(settings)
    try:
        node = open_node(
            LndSettings(
                address=settings.lnd_address,
                tls_cert=settings.lnd_tls_cert.expanduser(),
                macaroon=settings.lnd_macaroon.expanduser(),
                summary_seconds=1.0,
            )
        )
        application = create_app(settings, node)
    except LightningError as error:
        err.print(f"[red]the Lightning node cannot be used[/]: {error}")
        return Exit.AWAY
    if not await _answer(application, listener, _greeting(settings)):
        err.print(
            "[red]the broker could not start[/]: see the log above; most often its Lightning node "
            f"({settings.lnd_address}) is away, locked, or refuses the macaroon, or its database is away"
        )
        return Exit.AWAY
    return Exit.OK


async def _serve_simulated(settings: BrokerSettings) -> Exit:
    """Serve on a network that ends with this process, so nothing of it is kept where it could be taken for real."""
    from lightwork_broker.lightning.simulated import SimulatedNetwork
    from lightwork_broker.lightning.simulated.api import simulated_router
    from lightwork_broker.lightning.simulated.wallets import SimulatedWallets

    if settings.database.get_secret_value():
        err.print("[red]play money that ends with this process is not for a database that stays[/]")
        return Exit.USAGE
    with TemporaryDirectory(prefix="lightwork-simulated-") as folder:
        if "data_dir" not in settings.model_fields_set:
            settings = settings.model_copy(update={"data_dir": Path(folder)})
        elif (settings.directory() / "broker.sqlite").exists():
            err.print(
                "[red]the data directory is in use[/]: jobs on a simulated network end with their broker"
            )
            return Exit.USAGE
        listener, settings = _listen(settings)
        wallets = SimulatedWallets(SimulatedNetwork())
        application = create_app(settings, wallets.hub)
        application.include_router(simulated_router(wallets))
        err.print(
            "[yellow]simulated network: all money is play money[/] (API: /simulated/v1)", highlight=False
        )
        return Exit.OK if await _answer(application, listener, _greeting(settings)) else Exit.AWAY


async def _serve_attached(settings: BrokerSettings) -> Exit:
    """Serve on the network of another process. Jobs end with it: each of its starts has a data directory of its own."""
    from lightwork_broker.lightning.simulated.remote import RemoteNode

    node = RemoteNode(settings.simulated_url)
    try:
        network_id = (await node.network()).id
    except LightningError as error:
        err.print(f"[red]no simulated network answers[/]: {error}; start one with `lightwork broker network`")
        return Exit.AWAY
    if "data_dir" not in settings.model_fields_set:
        settings = settings.model_copy(
            update={"data_dir": settings.data_dir.parent / f"simulated-{network_id}"}
        )
    told = settings.directory() / NETWORK_FILE
    known = told.read_text().strip() if told.exists() else None
    if known != network_id and (known is not None or (settings.directory() / "broker.sqlite").exists()):
        err.print("[red]the data directory is in use[/]: its jobs were paid on another network than this one")
        return Exit.USAGE
    told.write_text(f"{network_id}\n")
    listener, settings = _listen(settings)
    application = create_app(settings, node)
    redirect_wallets(application, settings.simulated_url)
    err.print(
        f"[yellow]simulated network: all money is play money[/] ({settings.directory()})", highlight=False
    )
    return Exit.OK if await _answer(application, listener, _greeting(settings)) else Exit.AWAY


@app.command()
def network(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one")] = 8403,
    seed: Annotated[str | None, typer.Option(help="the same seed gives the same keys and preimages")] = None,
    log_json: Annotated[bool, typer.Option(help="log JSON lines")] = False,
) -> None:
    """Serve a simulated Lightning network, for brokers with LIGHTWORK_BROKER_SIMULATED_URL and their wallets.

    All money is play money, and it ends with this process.
    """
    configure(as_json=log_json)
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        code = runner.run(_serve_network((host, port), None if seed is None else seed.encode()))
    raise typer.Exit(code)


async def _serve_network(address: tuple[str, int], seed: bytes | None) -> Exit:
    import secrets

    from lightwork_broker.lightning.simulated import PlannedFaults, SimulatedNetwork

    listener = _bind(address)
    faults = PlannedFaults()
    application = create_network_app(
        SimulatedNetwork(seed=seed, faults=faults), faults, network_id=secrets.token_hex(8)
    )
    greeting = f"Simulated network on http://{address[0]}:{listener.getsockname()[1]} (API: /docs)"
    return Exit.OK if await _answer(application, listener, greeting) else Exit.AWAY


def _listen(settings: BrokerSettings) -> tuple[socket.socket, BrokerSettings]:
    listener = _bind((settings.host, settings.port))
    return listener, settings.model_copy(update={"port": listener.getsockname()[1]})


def _bind(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_server(address, backlog=512)
    except OSError as error:
        err.print(f"[red]cannot listen on {address[0]}:{address[1]}[/]: {error.strerror}", highlight=False)
        raise typer.Exit(Exit.USAGE) from None


def _greeting(settings: BrokerSettings) -> str:
    return f"Lightwork broker on http://{settings.host}:{settings.port} (API: /docs)"


async def _answer(application: FastAPI, listener: socket.socket, greeting: str) -> bool:
    """Serve until a signal; False when the application could not start."""
    server = BrokerServer(
        uvicorn.Config(
            application, log_config=None, access_log=False, timeout_graceful_shutdown=5, lifespan="on"
        )
    )
    err.print(greeting, highlight=False)
    # uvicorn raises the signal that stopped it once more, which must not end us before we have cleaned up.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    # Modules and routes live as long as the process: the collector need not walk over them again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        # uvicorn's way to say that the application did not start; our caller says what that means.
        return False
    return server.started


@app.command()
def audit(
    data_dir: DataDir = None,
    node: Annotated[
        bool,
        typer.Option("--node", help="also ask the broker's node about every job and withdrawal that is over"),
    ] = False,
    acknowledge: Annotated[
        bool,
        typer.Option(
            help="payouts go on: what the node says otherwise was looked into, and is not looked at again"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Recompute the ledger, and say what is wrong with it or what the node says otherwise.

    Exit codes: 0 sound, 1 a breach, 2 wrong settings or no books there, 5 the node or database gives no answer.
    """
    with _told_apart():
        report = asyncio.run(_audit(_settings(data_dir=data_dir), with_node=node, acknowledge=acknowledge))
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        print_report(report, out)
    raise typer.Exit(Exit.BREACH if report.breaches or report.withdrawals_stopped else Exit.OK)


async def _audit(settings: BrokerSettings, *, with_node: bool, acknowledge: bool) -> audits.Audit:
    async with _books(settings) as database:
        report = await audits.audit(database)
        findings: tuple[Finding, ...] = ()
        if with_node:
            node = _open_node(settings)
            try:
                seen = await audits.compare_with_node(database, node)
                owner = keys.load_or_create(settings.directory() / "broker.key").public
                chain = await ChainAudit(database, node).look()
                if chain.limbo_msat is not None:
                    findings = merged(await check_htlcs(database, node, now=None), chain.findings)
                money, more = await audits.compare_money(database, node, owner=owner, chain=chain)
            finally:
                await node.close()
            if seen.unanswered:
                raise LightningUnavailable(f"it says nothing of {seen.unanswered} payments")
            breaches = (*report.breaches, *seen.breaches, *more, *(found.text for found in findings))
            report = replace(report, breaches=breaches, node=money, doubts=chain.doubts)
        if acknowledge:
            await watchdog.acknowledge(database, now=SystemClock().now(), findings=findings)
        return report


@contextmanager
def _told_apart() -> Generator[None]:
    """Say in one line which of the two gave no answer, and end with its exit code."""
    try:
        yield
    except LightningError as error:
        err.print(f"[red]the node gives no answer[/]: {error}")
        raise typer.Exit(Exit.AWAY) from None
    except DatabaseUnavailable as error:
        err.print(f"[red]the database gives no answer[/]: {error}")
        raise typer.Exit(Exit.AWAY) from None
    except DriverMissing as error:
        err.print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(Exit.USAGE) from None


@asynccontextmanager
async def _books(settings: BrokerSettings) -> AsyncGenerator[Database]:
    if not settings.has_database():
        # An empty ledger is sound, so a mistyped directory would be, too.
        err.print(f"[red]there are no books[/] in {settings.data_dir}: is it the broker's data directory?")
        raise typer.Exit(Exit.USAGE)
    place = settings.database_place()
    await asyncio.to_thread(migrate, place)
    database = open_database(place)
    try:
        yield database
    finally:
        await database.close()


def _open_node(settings: BrokerSettings) -> LightningNode:
    """Open the node that the broker runs on; a network inside of a broker cannot be asked from outside."""
    match settings.network:
        case LightningNetwork.LND:
            from lightwork_broker.lightning.lnd import LndSettings, open_node

            return open_node(
                LndSettings(
                    address=settings.lnd_address,
                    tls_cert=settings.lnd_tls_cert.expanduser(),
                    macaroon=settings.lnd_macaroon.expanduser(),
                    summary_seconds=1.0,
                )
            )
        case LightningNetwork.SIMULATED if settings.simulated_url:
            from lightwork_broker.lightning.simulated.remote import RemoteNode

            return RemoteNode(settings.simulated_url)
        case LightningNetwork.SIMULATED:
            err.print("[red]a simulated network inside a broker cannot be asked from outside[/]")
            raise typer.Exit(Exit.USAGE)
        case _:
            assert_never(settings.network)


@app.command()
def disputes(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what waits for a ruling: what was asked, delivered and objected to, all of it in strangers' words.

    Exit codes: 0 shown, 2 wrong settings or no books there, 5 the database gives no answer.
    """

    async def read(settings: BrokerSettings) -> list[Dispute]:
        async with _books(settings) as database:
            return await open_disputes(database)

    with _told_apart():
        found = asyncio.run(read(_settings(data_dir=data_dir)))
    if as_json:
        typer.echo(json.dumps([asdict(dispute) for dispute in found]))
        return
    for one in found:
        typer.echo(
            f"{one.job}: {one.task}, {format_msat(one.price_msat)}, back to the buyer at block {one.back_at}"
        )
        # As ASCII: what a stranger writes must not move the cursor or turn text around.
        for name, text in (
            ("objection", json.dumps(one.reason)),
            ("input", one.input),
            ("result", one.result),
        ):
            typer.echo(f"  {name:<10} {json.dumps(json.loads(text))}")
        typer.echo(f"  {'buyer':<10} {one.buyer}\n  {'provider':<10} {one.provider}")
    if not found:
        typer.echo("nothing waits for a ruling")


@app.command()
def rule(
    job_id: str,
    reason: Annotated[str, typer.Option(help="why; kept with the job")],
    release: Annotated[
        bool, typer.Option("--release/--refund", help="pay the provider, or refund the buyer")
    ],
    broker: Annotated[str, typer.Option(envvar="LIGHTWORK_BROKER")] = "http://127.0.0.1:8402",
    data_dir: DataDir = None,
) -> None:
    """Decide a disputed job, signed with this broker's own key.

    Exit codes: 0 ruled, 1 the broker refused, 2 wrong settings or no key there, 5 no broker answers.
    """
    import secrets
    import time

    settings = _settings(data_dir=data_dir)
    if not settings.key_file().exists():
        err.print(f"[red]there is no broker's key[/] in {settings.data_dir}: is it its data directory?")
        raise typer.Exit(Exit.USAGE)
    key = keys.load_or_create(settings.key_file())
    url = f"{broker.rstrip('/')}/v1/jobs/{job_id}/ruling"
    body = Rule(release=release, reason=reason).model_dump_json().encode()
    header = sign_request(
        key=key, url=url, method="POST", body=body, created_at=int(time.time()), nonce=secrets.token_hex(8)
    )
    try:
        answer = httpx2.post(
            url, content=body, headers={"Authorization": header, "Content-Type": "application/json"}
        )
    except httpx2.HTTPError as error:
        err.print(f"[red]no broker answers at {broker}[/]: {error}")
        raise typer.Exit(Exit.AWAY) from None
    if answer.is_error:
        err.print(f"[red]refused[/]: {answer.json().get('detail', answer.text)}")
        raise typer.Exit(Exit.BREACH)
    out.print(f"{job_id}: {'released to the provider' if release else 'refunded to the buyer'}")
