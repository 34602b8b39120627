"""`lightwork dev`: a whole market on this machine, until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from pydantic import JsonValue

from lightwork.commands.screen import JsonFlag, report, say, show_json, show_table
from lightwork.development import DevFailed, DevMarket, sample_agents, state_folder
from lightwork.errors import AgentNotLoaded, LightworkError, ProfileInvalid

LOOK_SECONDS = 0.5


def dev(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Your agent files, reloaded when they change; samples if none.", metavar="[FILE...]"
        ),
    ] = None,
    *,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Play money in the broker's process: no nodes, up in seconds.")
    ] = False,
    name: Annotated[str, typer.Option("--name", "-n", help="Several can run side by side.")] = "default",
    port: Annotated[int | None, typer.Option(help="The broker's port: 8402, or a free one.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start nodes, a broker and agents, show where everything is, and stop it all at Ctrl-C.

    The chain, the channels and the broker's books are there again at the next start.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise typer.Exit(
            report(ProfileInvalid(f"'{name}' is no name: lower-case letters, digits, -"), as_json=as_json)
        )
    folder = state_folder(name, environ=os.environ)
    stop = threading.Event()

    def interrupted(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)

    def tell(text: str) -> None:
        if not as_json:
            say(f"  {text}", style="dim")

    market = DevMarket(folder=folder, name=name, simulated=simulated, tell=tell)
    try:
        agents = _existing(files) or sample_agents(folder)
        market.start(agents, port=port)
        _show(market, agents, as_json=as_json)
        _watch(market, agents, stop=stop, tell_json=as_json)
    except LightworkError as error:
        code = report(error, as_json=as_json)
        market.stop()
        raise typer.Exit(code) from None
    stopped = market.stop()
    tell(f"stopped: {', '.join(stopped)}")


def _existing(files: Sequence[Path] | None) -> tuple[Path, ...]:
    for file in files or ():
        if not file.is_file():
            raise AgentNotLoaded(
                f"{file}: there is no such file", hint="give the path of a Python file with an Agent"
            )
    return tuple(file.resolve() for file in files or ())


def _watch(market: DevMarket, agents: Sequence[Path], *, stop: threading.Event, tell_json: bool) -> None:
    """Wait for Ctrl-C; meanwhile notice parts that end and files that change."""
    times = _times(agents)
    while not stop.wait(LOOK_SECONDS):
        ended = market.ended()
        if ended is not None and not stop.is_set():
            raise DevFailed(
                f"the {ended.name} ended by itself; its last words:\n{ended.last_words()}",
                hint=f"see {ended.log}",
            )
        now = _times(agents)
        if now != times:
            times = now
            if not tell_json:
                say("  agents changed: starting them again", style="dim")
            try:
                market.restart_agents(agents)
            except DevFailed as error:
                _wait_for_change(market, agents, error, stop=stop, as_json=tell_json)
                times = _times(agents)


def _wait_for_change(
    market: DevMarket, agents: Sequence[Path], error: DevFailed, *, stop: threading.Event, as_json: bool
) -> None:
    """A file that does not load is an author at work: say what is wrong, and try again when it changes."""
    while not stop.is_set():
        report(error, as_json=as_json)
        market.children = [child for child in market.children if child.process.poll() is None]
        times = _times(agents)
        while times == _times(agents):
            if stop.wait(LOOK_SECONDS):
                return
        try:
            market.start_agents(agents)
        except DevFailed as again:
            error = again
        else:
            return


def _times(agents: Sequence[Path]) -> tuple[float, ...]:
    return tuple(file.stat().st_mtime if file.exists() else 0.0 for file in agents)


def _show(market: DevMarket, agents: Sequence[Path], *, as_json: bool) -> None:
    if as_json:
        show_json(_facts(market, agents))
        return
    rows = [("broker", market.url), ("its API", f"{market.url}/docs")]
    if market.nodes is not None:
        rows.append(("bitcoind", f"{market.nodes.bitcoind.rpc}, height {market.nodes.bitcoind.height}"))
        rows += [(f"LND {node.name}", f"REST {node.rest}, gRPC {node.grpc}") for node in market.nodes.nodes]
        rows.append(("blocks", f"lightwork-regtest mine 1 --name {market.name}"))
    else:
        rows.append(("money", "play money on a simulated network, gone with the broker"))
    rows += [
        ("agents", ", ".join(file.name for file in agents)),
        ("a buyer's shell", f". {market.shell('buyer')}"),
        ("a provider's shell", f". {market.shell('provider')}"),
        ("faucet", "in the buyer's shell: lightwork pay INVOICE"),
        ("logs", f"{market.folder}/*.log"),
    ]
    show_table(("", "where"), rows)
    say("")
    say("In another terminal:", style="bold")
    say(f"  . {market.shell('buyer')}")
    say("  lightwork search")
    say("  lightwork hire echo --text hi --max 20")
    say("Ctrl-C stops all of it.", style="dim")


def _facts(market: DevMarket, agents: Sequence[Path]) -> dict[str, JsonValue]:
    return {
        "ready": True,
        "broker": market.url,
        "simulated": market.simulated,
        "agents": [str(file) for file in agents],
        "shells": {who: str(market.shell(who)) for who in ("buyer", "provider")},
        "folder": str(market.folder),
        "nodes": None if market.nodes is None else market.nodes.model_dump(mode="json"),
    }
