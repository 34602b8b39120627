"""The processes of a run: brokers, nodes and the database, each of which can be killed and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx2
from chaos.strikes import BROKERS, NODE_OF, Victim
from e2e_broker import BrokerProcess
from e2e_lnd_nodes import LndNodes
from e2e_waiting import until
from postgres_server import PostgresServer

from lightwork_contracts.signed.keys import SecretKey
from lightwork_regtest import Network, channels
from lightwork_regtest.errors import NodeFailedError, RegtestError
from lightwork_regtest.nodes.bitcoind import Bitcoind
from lightwork_regtest.nodes.lnd import LightningNode
from lightwork_regtest.topology import MARKET

BACK_SECONDS = 120.0
NODE_IS_AWAY = 5
"""The broker's exit code when its node does not answer at its start: an operator's supervisor tries again."""


LND_BROKE_A_CHANNEL = "unable to settle htlc: No HTLC with ID"
"""LND 0.21.3, killed while it holds several HTLCs, can forget that it has settled one of them: it settles it again at
each start, finds no such HTLC, and fails the channel for good. Nothing but closing that channel helps."""


class Void(Exception):
    """The run says nothing: a node has broken a channel of its own, and no job can go over it any more."""


class ChaosBroker(BrokerProcess):
    """A broker that is started again and again, as a service manager would, whenever it has ended."""

    def __init__(self, nodes: LndNodes, *, folder: Path, settings: dict[str, str | int | float]) -> None:
        super().__init__(nodes, folder=folder, settings=settings)
        self.killed = False
        self.ended_by_itself: list[int] = []

    async def watch(self) -> None:
        """Start it whenever it is not there and nobody has just killed it; until cancelled."""
        while True:
            await asyncio.sleep(0.2)
            code = self.process.poll()
            if code is None or self.killed:
                continue
            self.ended_by_itself.append(code)
            self.spawn()

    async def kill(self) -> None:
        self.killed = True
        await super().kill()

    def revive(self) -> None:
        """Start it, and leave it to `watch` from now on."""
        self.spawn()
        self.killed = False

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    async def is_well(self) -> bool:
        """Whether it serves, with database and node."""
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            try:
                return (await client.get(f"{self.url}/v1/health")).status_code == 200
            except httpx2.HTTPError:
                return False


class Ground:
    """Everything that runs. `down` and `up` belong to the monkey, `heal` to the end of a run."""

    def __init__(self, network: Network, brokers: list[ChaosBroker], server: PostgresServer | None) -> None:
        self.network = network
        self.nodes = LndNodes(network)
        self.brokers = brokers
        self.server = server
        self._chain = asyncio.Lock()

    @property
    def victims(self) -> frozenset[Victim]:
        """What there is to kill."""
        found = {*NODE_OF, Victim.BITCOIND, *BROKERS[: len(self.brokers)]}
        return frozenset(found | ({Victim.DATABASE} if self.server is not None else set()))

    @property
    def urls(self) -> list[str]:
        return [broker.url for broker in self.brokers]

    @property
    def place(self) -> str:
        """Where the database is: the path of the file, or the server's URL."""
        return self.brokers[0].database

    def operator(self) -> SecretKey:
        """Return the brokers' own key, which they share."""
        return SecretKey.read(self.brokers[0].data_dir / "broker.key")

    def broker(self, victim: Victim) -> ChaosBroker:
        return self.brokers[BROKERS.index(victim)]

    async def down(self, victim: Victim) -> None:
        """Kill with SIGKILL; gone on return."""
        if victim in BROKERS:
            await self.broker(victim).kill()
        elif victim is Victim.BITCOIND:
            async with self._chain:
                await asyncio.to_thread(self.network.bitcoind.kill)
                # Its blocks are on the disk, see `mine`: it need not read them all again, as after other crashes.
                self.network.bitcoind.description.pid_file.unlink(missing_ok=True)
        elif victim is Victim.DATABASE:
            assert self.server is not None
            await asyncio.to_thread(self.server.kill)
        else:
            await asyncio.to_thread(self.network.kill_node, NODE_OF[victim])

    async def up(self, victim: Victim) -> float:
        """Start what was killed, and return after how many seconds it served again."""
        begun = time.monotonic()
        if victim in BROKERS:
            broker = self.broker(victim)
            broker.revive()
            await until(broker.is_well, what=f"{victim} is well", seconds=BACK_SECONDS, every=0.1)
        elif victim is Victim.BITCOIND:
            await asyncio.to_thread(self._start_bitcoind)
        elif victim is Victim.DATABASE:
            assert self.server is not None
            await asyncio.to_thread(self.server.start)
        else:
            await until(
                lambda: asyncio.to_thread(self._start_node, NODE_OF[victim]),
                what=f"{victim} is back",
                seconds=BACK_SECONDS,
                every=0.2,
            )
        return time.monotonic() - begun

    async def mine(self, blocks: int) -> None:
        """Mine, and have bitcoind write everything to the disk; without a bitcoind nothing happens."""
        async with self._chain:
            with suppress(RegtestError):
                await asyncio.to_thread(self._mine, blocks)

    async def heal(self) -> None:
        """Start what has ended, and return when every broker is well and every channel can be used.

        Raises:
            Void: a node does not use its channel any more.
        """
        if not self.network.bitcoind.runs():
            await self.up(Victim.BITCOIND)
        await asyncio.gather(*(self.up(victim) for victim in NODE_OF))
        self.require_channels()
        try:
            await asyncio.to_thread(self._connect)
        except NodeFailedError:
            # A node may find out only when its peer is there that it does not use the channel any more.
            self.require_channels()
            raise
        for broker in self.brokers:
            await until(broker.is_well, what=f"{broker.url} is well", seconds=BACK_SECONDS, every=0.2)

    def require_channels(self) -> None:
        """Raise `Void` if the present life of a node has broken one of its channels."""
        for name in self.network.nodes:
            if self._has_broken(name):
                raise Void(f"LND of the {name} has failed its own channel: {LND_BROKE_A_CHANNEL} ...")

    def has_broken(self, victim: Victim) -> bool:
        """Tell whether a node has failed a channel of its own in its present life, or in the one that just ended."""
        return victim in NODE_OF and self._has_broken(NODE_OF[victim])

    def _has_broken(self, name: str) -> bool:
        log = self.network.nodes[name].description.log
        return LND_BROKE_A_CHANNEL in log.read_text(errors="replace")

    def _mine(self, blocks: int) -> None:
        with closing(Bitcoind(self.network.bitcoind.description)) as chain:
            if blocks:
                chain.generate(blocks)
            # The only call that has bitcoind write its index at once. Without it, SIGKILL loses its last blocks.
            chain.rpc("gettxoutsetinfo")

    def _start_bitcoind(self) -> None:
        program = self.network.description.programs["bitcoind"].path
        with closing(Bitcoind(self.network.bitcoind.description)) as chain:
            chain.spawn(program, env=self.network.env)
            chain.wait_answering()

    def _start_node(self, name: str) -> bool:
        """Start a node if it does not run; True when it answers and follows the chain."""
        description = self.network.description
        with closing(LightningNode(description.nodes[name])) as node:
            try:
                if not node.runs():
                    # Without its chain it would end at once.
                    if not self.network.bitcoind.runs():
                        return False
                    program = description.programs["lnd"].path
                    node.spawn(program, chain=description.bitcoind, env=self.network.env)
                return node.info(timeout=3).synced_to_chain
            except RegtestError:
                return False

    def _connect(self) -> None:
        fleet = self.network.fleet
        fleet.wait_synced(fleet.nodes.values(), fleet.bitcoind.height())
        channels.connect(fleet, MARKET.channels)
        channels.wait_usable(fleet)


async def start_ground(
    network: Network, folder: Path, *, brokers: int, server: PostgresServer | None
) -> Ground:
    """Start the brokers, one after the other on one database, with one key.

    Raises:
        AssertionError: one of them does not start.
    """
    nodes = LndNodes(network)
    settings: dict[str, str | int | float] = {
        "data_dir": str(folder / "broker" / "data"),
        "sweep_seconds": 2,
        "watchdog_seconds": 5,
        "lease_seconds": 5,
        "pay_seconds": 15,
        "forward_seconds": 60,
        "node_patience_seconds": 10,
        "credit_ceiling_msat": 1_000_000_000,
    }
    if server is not None:
        settings["database"] = server.create("chaos")
    made: list[ChaosBroker] = []
    for number in range(brokers):
        own = folder / ("broker" if number == 0 else f"broker-{number + 1}")
        made.append(ChaosBroker(nodes, folder=own, settings=settings))
    ground = Ground(network, made, server)
    await ground.mine(0)
    try:
        for broker in made:
            await broker.start()
    except BaseException:
        await stop_brokers(made)
        raise
    return ground


async def stop_brokers(brokers: list[ChaosBroker]) -> None:
    """End what still runs."""
    for broker in brokers:
        with suppress(AssertionError, subprocess.TimeoutExpired):
            broker.signal(signal.SIGCONT)
            await broker.stop()
