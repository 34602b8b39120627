"""`make bench`: one hire through the broker against the same wrapped escrow done raw, in the same run.

Both run on the same nodes and channels, taking turns, so that whatever else the machine does meets both. The
raw peer is `raw_escrow.RawEscrow`: bare gRPC, no HTTP API, no database, no signatures. Results are ratios;
the absolute numbers belong to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cpu_clock import CpuClock, CpuReading, other_load
from hires import Buyer, HireMarks
from job_steps import JobLog, JobTimes
from market_children import MarketChildren
from raw_escrow import RawEscrow, RawMarks, WalletEscrow
from report import CpuPerJob, LatencyResult, LoadResult, Results, Surroundings, as_document, show
from rounds import Round, Spread, closed_loop
from surroundings import look_around

from lightwork_regtest import Network
from lightwork_regtest.errors import NetworkNotFoundError
from lightwork_regtest.launch import take_down
from lightwork_regtest.progress import SilentProgress


@dataclass(frozen=True, slots=True)
class Load:
    """How many buyers at once, and how many jobs one round has."""

    buyers: int
    jobs: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, how often."""

    repeats: int
    pairs: int
    loads: tuple[Load, ...]


FULL = Plan(repeats=5, pairs=10, loads=(Load(1, 15), Load(10, 80), Load(50, 200)))
QUICK = Plan(repeats=3, pairs=5, loads=(Load(1, 8), Load(10, 40), Load(50, 100)))

NETWORK = "bench"

PAUSE_SECONDS = 0.05
"""Between two single jobs, so that the channel updates that follow a job do not fall into the next one."""


@dataclass(frozen=True, slots=True)
class Field:
    """Everything that takes part in a run."""

    network: Network
    children: MarketChildren
    raw: RawEscrow
    wallets: WalletEscrow
    buyers: Sequence[Buyer]
    log: JobLog
    cpu: CpuClock


async def measure_latency(field: Field, plan: Plan) -> LatencyResult:
    """One job at a time; raw, raw through the SDK's wallets, and hire take turns, in changing order."""
    raw: list[list[RawMarks]] = []
    wallets: list[list[RawMarks]] = []
    hires: list[list[HireMarks]] = []
    for repeat in range(plan.repeats):
        for marks in (raw, wallets):
            marks.append([])
        hires.append([])
        for pair in range(plan.pairs):
            for turn in range(3):
                match (turn + pair) % 3:
                    case 0:
                        raw[repeat].append(await field.raw.run())
                    case 1:
                        hires[repeat].append(await field.buyers[0].hire())
                    case _:
                        wallets[repeat].append(await field.wallets.run())
                await asyncio.sleep(PAUSE_SECONDS)
    times = [field.log.settled(group) for group in hires]
    return LatencyResult.of(raw=raw, wallets=wallets, hires=hires, times=times)


async def measure_load(field: Field, load: Load, plan: Plan) -> LoadResult:
    """Rounds of raw escrows and of hires at one concurrency, taking turns in who goes first."""
    rounds: dict[str, list[Round]] = {"raw": [], "hire": []}
    cpu = {"raw": field.cpu.zero(), "hire": field.cpu.zero()}
    times: list[JobTimes] = []
    took: list[float] = []

    async def raw_round() -> Round:
        return (await closed_loop([field.raw.run] * load.buyers, jobs=load.jobs))[0]

    async def hire_round() -> Round:
        workers = [buyer.hire for buyer in field.buyers[: load.buyers]]
        done, hires = await closed_loop(workers, jobs=load.jobs)
        times.extend(field.log.settled(hires))
        took.extend(hire.ended - hire.begun for hire in hires)
        return done

    for repeat in range(plan.repeats):
        # Far from the deadline of any HTLC: none is held between two rounds.
        await asyncio.to_thread(field.network.mine, 1)
        for kind in ("raw", "hire") if repeat % 2 == 0 else ("hire", "raw"):
            before = field.cpu.read()
            rounds[kind].append(await (raw_round() if kind == "raw" else hire_round()))
            cpu[kind] = cpu[kind].plus(field.cpu.read().since(before))
            await asyncio.sleep(PAUSE_SECONDS * 4)
    jobs = load.jobs * plan.repeats
    return LoadResult(
        buyers=load.buyers,
        jobs=load.jobs,
        raw=Spread(tuple(done.per_second for done in rounds["raw"])),
        hire=Spread(tuple(done.per_second for done in rounds["hire"])),
        ratio=Spread(
            tuple(
                ours.per_second / theirs.per_second
                for ours, theirs in zip(rounds["hire"], rounds["raw"], strict=True)
            )
        ),
        hire_seconds=median(took),
        cpu_raw=CpuPerJob.of(cpu["raw"], jobs=jobs),
        cpu_hire=CpuPerJob.of(cpu["hire"], jobs=jobs),
        steps=tuple(times),
    )


async def run(network: Network, plan: Plan, *, folder: Path, profile: Path | None) -> Results:
    """Start broker and runner, warm everything up, measure."""
    most = max(load.buyers for load in plan.loads)
    async with AsyncExitStack() as stack:
        children = MarketChildren(network, folder, concurrency=64, profile=profile)
        stack.push(children.leave)
        buyers = [Buyer(children.url, network.node("buyer")) for _ in range(most)]
        for buyer in buyers:
            stack.push_async_callback(buyer.close)
        terms = await buyers[0].terms()
        raw, wallets = RawEscrow(network, terms), WalletEscrow(network, terms)
        stack.push_async_callback(raw.close)
        stack.push_async_callback(wallets.close)
        cpu = CpuClock(_pids(network, children))
        field = Field(network, children, raw, wallets, buyers, JobLog(children.database), cpu)
        surroundings: Surroundings = await asyncio.to_thread(look_around, network, children.database)
        await _warm_up(field)
        begun = cpu.read()
        latency = await measure_latency(field, plan)
        loads = [await measure_load(field, load, plan) for load in plan.loads]
        return Results(
            surroundings=surroundings,
            terms=terms,
            latency=latency,
            loads=tuple(loads),
            cpu_total=_total(cpu.read().since(begun)),
            load_average=other_load(),
        )


async def _warm_up(field: Field) -> None:
    for _ in range(3):
        await field.raw.run()
        await field.wallets.run()
    await closed_loop([buyer.hire for buyer in field.buyers], jobs=len(field.buyers))
    await closed_loop([field.raw.run] * 10, jobs=20)


def _pids(network: Network, children: MarketChildren) -> dict[str, int]:
    pids = {"broker": children.broker.pid, "runner": children.runner.pid, "client": os.getpid()}
    for name, node in network.nodes.items():
        if (process := node.process()) is not None:
            pids[f"lnd {name}"] = process.pid
    if (chain := network.bitcoind.process()) is not None:
        pids["bitcoind"] = chain.pid
    return pids


def _total(reading: CpuReading) -> float:
    return sum(reading.seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there, too")
    parser.add_argument("--channels", type=int, default=1, help="parallel channels on each hop")
    parser.add_argument("--repeats", type=int, help="repeats of each measurement")
    parser.add_argument("--buyers", type=int, action="append", help="only these concurrencies")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="run broker and runner under cProfile")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    plan = Plan(
        repeats=options.repeats or plan.repeats,
        pairs=plan.pairs,
        loads=tuple(load for load in plan.loads if not options.buyers or load.buyers in options.buyers),
    )
    with tempfile.TemporaryDirectory(prefix="lightwork-bench-") as state:
        folder = Path(state)
        env = {**os.environ, "LIGHTWORK_STATE": state}
        try:
            with Network.up(name=NETWORK, env=env, progress=SilentProgress()) as network:
                for funder, peer in (("buyer", "broker"), ("broker", "provider")):
                    if options.channels > 1:
                        network.open_channel(funder, peer, count=options.channels - 1)
                results = asyncio.run(run(network, plan, folder=folder, profile=options.profile))
        finally:
            # Also after a start that failed half-way, which may have left some nodes running.
            with suppress(NetworkNotFoundError):
                take_down(NETWORK, delete=True, env=env, progress=SilentProgress())
    show(results)
    if options.json is not None:
        options.json.write_text(json.dumps(as_document(results), indent=2) + "\n")


if __name__ == "__main__":
    main()
