"""The demo itself: nodes, broker, agents, three jobs, and what the nodes say about each."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import BaseModel, JsonValue

from demonstration.books import (
    Audit,
    Check,
    Moves,
    check_ledger,
    check_refunded,
    check_settled,
    read_audit,
    read_wealth,
)
from demonstration.children import AGENTS, Children, DemoFailed, stop_children
from demonstration.folder import DemoFolder
from demonstration.purchase import Purchase, Watcher, buy
from demonstration.screen import Screen
from demonstration.surroundings import (
    BUYER,
    PROVIDER,
    broker_variables,
    inherited,
    party_variables,
    write_shell_file,
)
from lightwork import Market, Profile, SyncMarket
from lightwork_contracts.wire.market import ListingView
from lightwork_regtest import Network
from lightwork_regtest.progress import Progress

TEXT = "hi from regtest"
TASKS = frozenset({"echo", "chain-tip", "stumble"})


@dataclass
class Summary:
    """What the demo found, for programs."""

    name: str
    broker: str = ""
    jobs: list[JsonValue] = field(default_factory=list[JsonValue])
    checks: list[Check] = field(default_factory=list[Check])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    shells: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check.ok for check in self.checks)

    def as_json(self, *, left_running: bool) -> dict[str, JsonValue]:
        return {
            "ok": self.ok,
            "name": self.name,
            "broker": self.broker,
            "left_running": left_running,
            "jobs": self.jobs,
            "checks": [check.as_json() for check in self.checks],
            "seconds": {**self.seconds},
            "shells": {**self.shells},
        }

    @contextmanager
    def timed(self, part: str) -> Generator[None]:
        """Note how long a part takes."""
        started = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - started, 2)


class _Tip(BaseModel):
    height: int
    block_hash: str


class _Judge(Protocol):
    def __call__(self, bought: Purchase, /) -> tuple[Check, ...]: ...


def play(folder: DemoFolder, *, env: Mapping[str, str], screen: Screen, progress: Progress) -> Summary:
    """Run the demo once.

    Raises:
        RegtestError, LightworkError, DemoFailed: it cannot go on; the caller cleans up.
    """
    summary = Summary(folder.name)
    screen.say("Lightwork: jobs sold and paid for over Lightning, on real bitcoind and LND", style="bold")
    screen.scene("Nodes")
    with summary.timed("nodes"):
        network = Network.up(name=folder.name, env=env, progress=progress)
    with network:
        if not network.started:
            screen.found_running(network.description.programs)
        folder.make()
        with summary.timed("broker_and_agents"):
            replaced = stop_children(folder)
            old_books = folder.keep_books_of(network.node("broker").pubkey)
            _open_market(
                folder, network, summary, env=env, screen=screen, progress=progress, replaced=replaced
            )
        with _market(env_of_buyer(folder, network, broker=summary.broker)) as market:
            _Play(network, market, summary, screen).run(folder, env=env, old_books=old_books)
    return summary


def env_of_buyer(folder: DemoFolder, network: Network, *, broker: str) -> dict[str, str]:
    """Return the variables of the buyer: of this demo, and of the shell file that people source."""
    return party_variables(network, folder, broker=broker, node=BUYER, key=BUYER)


def _market(variables: Mapping[str, str]) -> SyncMarket:
    return Market.sync(profile=Profile.load(environ=variables))


def _open_market(
    folder: DemoFolder,
    network: Network,
    summary: Summary,
    *,
    env: Mapping[str, str],
    screen: Screen,
    progress: Progress,
    replaced: tuple[str, ...],
) -> None:
    screen.scene("A broker, and three agents that sell tasks")
    if replaced:
        screen.say(f"   replacing those of an earlier demo: {', '.join(replaced)}", style="dim")
    children = Children(folder, network, env=env)
    with progress.step("Starting the broker"):
        summary.broker = children.start_broker()
    buyer = env_of_buyer(folder, network, broker=summary.broker)
    provider = party_variables(network, folder, broker=summary.broker, node=PROVIDER, key="you")
    for role, variables in (("buyer", buyer), ("provider", provider)):
        write_shell_file(folder.shell_file(role), variables)
        summary.shells[role] = str(folder.shell_file(role))
    with progress.step(f"Starting agents: {', '.join(AGENTS)}"), _market(buyer) as market:
        children.start_agents(broker=summary.broker)

        def all_online() -> bool:
            return {listing.content.name for listing in _for_sale(market)} >= TASKS

        children.wait(all_online, who=("broker", *AGENTS), what="every agent to be listed and online")


def _for_sale(market: SyncMarket) -> tuple[ListingView, ...]:
    return market.search(online=True, limit=50)


class _Play:
    """The three jobs."""

    def __init__(self, network: Network, market: SyncMarket, summary: Summary, screen: Screen) -> None:
        self._network = network
        self._market = market
        self._summary = summary
        self._screen = screen

    def run(self, folder: DemoFolder, *, env: Mapping[str, str], old_books: bool) -> None:
        screen, summary = self._screen, self._summary
        port = int(summary.broker.rpartition(":")[2])
        broker_env = {**inherited(env), **broker_variables(self._network, folder, port=port)}
        screen.say(f"   broker at {summary.broker}; its macaroon allows a broker's calls only", style="dim")
        screen.scene("$ lightwork search")
        screen.listings(_for_sale(self._market))
        audit = read_audit(broker_env) if old_books else Audit()
        wealth = read_wealth(self._network)
        with summary.timed("jobs"):
            self._echo()
            self._chain_tip()
            self._stumble()
        screen.scene("$ lightwork broker audit")
        gained = Moves(wealth, read_wealth(self._network)).of("broker")
        self._judge(check_ledger(audit, read_audit(broker_env), gained_msat=gained))

    def _echo(self) -> None:
        def claims(bought: Purchase) -> tuple[Check, ...]:
            same = Check("the result is what was asked for", bought.job.result == TEXT)
            return (*check_settled(bought.job, bought.moves), same)

        self._screen.scene(f'$ lightwork hire echo --text "{TEXT}" --max 20')
        self._hire("echo", {"text": TEXT}, max_sat=20, claims=claims)

    def _chain_tip(self) -> None:
        def claims(bought: Purchase) -> tuple[Check, ...]:
            tip = _Tip.model_validate(bought.job.result)
            known = self._network.bitcoind.rpc("getblockhash", tip.height)
            real = Check("bitcoind knows this block under this height", known == tip.block_hash)
            return (*check_settled(bought.job, bought.moves), real)

        self._screen.scene("$ lightwork hire chain-tip --max 5")
        self._hire("chain-tip", {}, max_sat=5, claims=claims)

    def _stumble(self) -> None:
        def claims(bought: Purchase) -> tuple[Check, ...]:
            return check_refunded(bought.job, bought.moves, held=bought.held)

        self._screen.scene("$ lightwork hire stumble --max 20        (its provider will fail)")
        self._hire("stumble", {}, max_sat=20, claims=claims)

    def _hire(self, task: str, arguments: dict[str, JsonValue], *, max_sat: int, claims: _Judge) -> None:
        watcher: Watcher = self._screen
        bought = buy(self._network, self._market, task, arguments, max_sat=max_sat, watcher=watcher)
        error = bought.job.error
        if error is not None:
            self._screen.error(error.code, error.message)
        else:
            self._screen.result(bought.job.result)
        self._screen.balances(bought.job, bought.moves)
        checks = claims(bought)
        self._summary.jobs.append(bought.as_json(checks))
        self._judge(checks)

    def _judge(self, checks: tuple[Check, ...]) -> None:
        self._screen.checks(checks)
        self._summary.checks.extend(checks)
        if broken := [check.claim for check in checks if not check.ok]:
            raise DemoFailed("this does not hold: " + "; ".join(broken))
