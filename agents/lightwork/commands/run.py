"""`lightwork run`: sell the tasks of agent files."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lightwork.agent import Agent
from lightwork.broker import Broker
from lightwork.commands.screen import BrokerOption, JsonFlag, ProfileOption, run_async, say, show_json
from lightwork.connection import BrokerConnection
from lightwork.plugins import load_agents
from lightwork.profile import Profile
from lightwork.reports import Report
from lightwork.runner import CONCURRENCY, Runner

QUIET_KINDS = frozenset({"job.started"})
CREDIT_WARNING = (
    "in credit mode the broker could keep what it owes you: withdraw often, with `lightwork withdraw`"
)


def run(
    files: Annotated[list[Path], typer.Argument(help="Python files with an Agent.", metavar="FILE...")],
    *,
    broker: BrokerOption = None,
    profile: ProfileOption = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Jobs at the same time.")] = CONCURRENCY,
    credit: Annotated[
        bool,
        typer.Option(
            "--credit",
            help="Sell without a wallet: the broker owes you what you earn until you withdraw it, and could keep it.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the tasks of agent files at the broker, and work until interrupted.

    Ctrl-C finishes what runs; a second one gives it up, and its buyers are refunded.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    run_async(
        _run(
            files,
            broker_url=broker,
            profile_name=profile,
            concurrency=concurrency,
            credit=credit,
            as_json=as_json,
        ),
        as_json=as_json,
    )


async def _run(
    files: Sequence[Path],
    *,
    broker_url: str | None,
    profile_name: str | None,
    concurrency: int,
    credit: bool,
    as_json: bool,
) -> None:
    profile = Profile.load(name=profile_name)
    agents = [agent for file in files for agent in load_agents(file)]
    key = profile.secret_key()
    wallet = None if credit else profile.wallet(broker=broker_url)
    broker = Broker(BrokerConnection(broker_url or profile.broker, key=key))

    def tell(report: Report) -> None:
        if as_json:
            show_json({"kind": report.kind, "text": report.text, **report.facts})
        elif report.kind not in QUIET_KINDS:
            say(report.text)

    try:
        runner = Runner(agents, broker=broker, key=key, wallet=wallet, concurrency=concurrency, tell=tell)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, runner.stop)
        tell(_greeting(agents, broker.connection.url, key.public))
        if credit:
            tell(Report(kind="runner.credit", text=CREDIT_WARNING))
        await runner.run()
        tell(Report(kind="runner.stopped", text="stopped"))
    finally:
        await broker.close()
        if wallet is not None:
            await wallet.close()


def _greeting(agents: Sequence[Agent], url: str, pubkey: str) -> Report:
    names = ", ".join(agent.name for agent in agents)
    return Report(
        kind="runner.started",
        text=f"selling {names} at {url} as {pubkey[:16]}…; Ctrl-C stops",
        facts={"broker": url, "agent": pubkey},
    )
