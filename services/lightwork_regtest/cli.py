"""`lightwork-regtest`: a local bitcoind and LND network on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lightwork_regtest.adoption import adopt as adopt_nodes
from lightwork_regtest.description import FILE_NAME
from lightwork_regtest.doctor import examine
from lightwork_regtest.errors import BinaryNotFoundError, NetworkNotFoundError, RegtestError
from lightwork_regtest.launch import take_down, wake_chain
from lightwork_regtest.network import Network
from lightwork_regtest.places import network_folder
from lightwork_regtest.progress import progress_for
from lightwork_regtest.status import network_status, render

EXIT_UNWELL = 8
_EXITS = (
    "Exit codes: 0 done, 1 unexpected fault, 2 wrong usage, 3 no bitcoind or lnd to be had, 4 no such "
    "network or it is down, 5 a node failed to start or get ready, 6 mining refused for held payments, "
    "7 a node refused a call or did not answer, 8 doctor found something. `lncli` ends with lncli's own code."
)

app = typer.Typer(
    help="Run a local Lightning network: bitcoind, and the LND nodes broker, buyer and provider.",
    epilog=_EXITS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Name = Annotated[str, typer.Option("--name", "-n", help="Which network: several can run side by side.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON value on stdout, for programs.")]


@app.command(epilog=_EXITS)
def up(
    name: Name = "default",
    topology: Annotated[
        str | None, typer.Option(help="market: bitcoind and three LND nodes; chain: bitcoind only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the network, find it running, or heal it; returns when a payment can go through."""
    with Network.up(name=name, topology=topology, progress=progress_for(sys.stderr)) as network:
        status = network_status(network.fleet)
        if as_json:
            typer.echo(status.model_dump_json(indent=2))
            return
        console = Console()
        console.print(render(status))
        did = f"started {', '.join(network.started)}" if network.started else "found it running"
        console.print(f"Ready: {did}. Stop it with: lightwork-regtest down --name {name}", highlight=False)


@app.command(epilog=_EXITS)
def adopt(
    plan: Annotated[Path, typer.Argument(help="A TOML file: hosts, ports and folders of the nodes.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Write the configuration of nodes that somebody else runs, as in docker-compose.yml; then use `up`."""
    description = adopt_nodes(plan, name, env=os.environ)
    if as_json:
        typer.echo(json.dumps({"name": name, "file": str(description.folder / FILE_NAME)}))
    else:
        nodes = ", ".join(("bitcoind", *description.nodes))
        typer.echo(f"{name} is made of {nodes}. Start them, then: lightwork-regtest up --name {name}")


@app.command(epilog=_EXITS)
def chain(name: Name = "default", as_json: Json = False) -> None:
    """Wait for an adopted bitcoind and mine what LND needs before it is started."""
    height = wake_chain(name, env=os.environ)
    typer.echo(json.dumps({"height": height}) if as_json else f"Height {height:,}.")


@app.command(epilog=_EXITS)
def down(
    name: Name = "default",
    delete: Annotated[bool, typer.Option("--delete", help="Remove the network's folder as well.")] = False,
    as_json: Json = False,
) -> None:
    """Stop the network's processes by pid, whatever state an `up` left them in."""
    stopped = take_down(name, delete=delete, env=os.environ, progress=progress_for(sys.stderr))
    if as_json:
        typer.echo(json.dumps({"name": name, "stopped": stopped, "deleted": delete}))
    else:
        typer.echo(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command(epilog=_EXITS)
def status(name: Name = "default", as_json: Json = False) -> None:
    """Show nodes, heights, balances, channels and endpoints."""
    with Network.attach(name=name) as network:
        found = network_status(network.fleet)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        Console().print(render(found))
    if not found.running:
        raise typer.Exit(NetworkNotFoundError.exit_code)


@app.command(epilog=_EXITS)
def mine(
    blocks: Annotated[int, typer.Argument(min=1, help="How many blocks.")] = 1,
    name: Name = "default",
    force: Annotated[
        bool, typer.Option("--force", help="Mine even if LND then cancels held payments.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Mine blocks and wait until every node has followed."""
    with Network.attach(name=name) as network:
        height = network.mine(blocks, force=force)
    typer.echo(json.dumps({"height": height}) if as_json else f"Height {height:,}.")


@app.command(epilog=_EXITS)
def faucet(
    node: Annotated[str, typer.Argument(help="broker, buyer or provider.")],
    sats: Annotated[int, typer.Argument(min=1_000, help="Satoshis to give.")],
    name: Name = "default",
    as_json: Json = False,
) -> None:
    """Give a node's on-chain wallet coins, and mine them in."""
    with Network.attach(name=name) as network:
        balance = network.faucet(node, sats)
    typer.echo(
        json.dumps({"node": node, "confirmed_sat": balance})
        if as_json
        else f"{node} has {balance:,} sat on chain."
    )


@app.command(epilog=_EXITS)
def doctor(name: Name = "default", as_json: Json = False) -> None:
    """Check programs, processes, ports, chain, channels and balances, and say what to do next."""
    findings = examine(name, env=os.environ)
    if as_json:
        typer.echo(json.dumps([finding.model_dump() for finding in findings], indent=2))
    else:
        console = Console(highlight=False)
        for finding in findings:
            mark = "[green]✓[/green]" if finding.ok else "[red]✗[/red]"
            console.print(f"{mark} {escape(f'{finding.check}: {finding.found}')}", soft_wrap=True)
            if finding.advice:
                console.print(f"  → {escape(finding.advice)}", soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_UNWELL)


@app.command(epilog=_EXITS, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lncli(
    context: typer.Context,
    node: Annotated[str, typer.Argument(help="broker, buyer or provider.")],
    name: Name = "default",
) -> None:
    """Run lncli against a node: everything after the node's name goes to lncli."""
    with Network.attach(name=name) as network:
        program = network.description.programs["lnd"].tools.get("lncli")
        own = network.node(node)
    if program is None:
        raise BinaryNotFoundError("no lncli beside this lnd, nor on PATH")
    argv = [str(program), "--network=regtest", f"--rpcserver={own.grpc_address}"]
    argv += [f"--tlscertpath={own.tls_cert}", f"--macaroonpath={own.admin_macaroon}", *context.args]
    raise typer.Exit(subprocess.run(argv, check=False).returncode)


@app.command(epilog=_EXITS)
def where(name: Name = "default") -> None:
    """Print the network's folder, in which network.json describes all of it."""
    typer.echo(str(network_folder(name, os.environ)))


def main() -> None:
    """Run the command line; our own errors become one line, or one JSON value, and an exit code."""
    try:
        app()
    except RegtestError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        else:
            typer.echo(f"{error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
