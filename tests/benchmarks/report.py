"""What a run found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from cpu_clock import CpuReading
from hires import HireMarks
from job_steps import JobTimes, median_steps
from pydantic import JsonValue, TypeAdapter
from raw_escrow import RawMarks, RawTerms
from rich.console import Console
from rich.table import Table
from rounds import Spread

LATENCY_GOAL = 1.3
LOAD_GOAL = 0.8
RAW_STEPS = (
    "provider's invoice",
    "hold invoice",
    "buyer pays, HTLC held",
    "provider paid",
    "hold invoice settled",
    "buyer's payment SUCCEEDED",
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """On what the run took place."""

    cores: int
    machine: str
    python: str
    lightwork: str
    commit: str
    lnd: str
    bitcoind: str
    channels: str
    lnd_settings: str
    broker_database: str


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Medians of each repeat, in seconds, and their ratios to the raw median of the same repeat."""

    jobs: int
    raw: Spread
    wallets: Spread
    hire: Spread
    result_visible: Spread
    books_closed: Spread
    ratio: Spread
    ratio_to_wallets: Spread
    ratio_result_visible: Spread
    raw_steps: tuple[float, ...]
    hire_steps: tuple[tuple[str, float], ...]

    @classmethod
    def of(
        cls,
        *,
        raw: Sequence[Sequence[RawMarks]],
        wallets: Sequence[Sequence[RawMarks]],
        hires: Sequence[Sequence[HireMarks]],
        times: Sequence[Sequence[JobTimes]],
    ) -> Self:
        raw_medians = _medians([[marks.ended - marks.begun for marks in group] for group in raw])
        wallet_medians = _medians([[marks.ended - marks.begun for marks in group] for group in wallets])
        hire_medians = _medians([[hire.ended - hire.begun for hire in group] for group in hires])
        visible = _medians(
            [
                [time.delivered - hire.called_at for hire, time in zip(*both, strict=True)]
                for both in zip(hires, times, strict=True)
            ]
        )
        closed = _medians(
            [
                [time.settled - hire.called_at for hire, time in zip(*both, strict=True)]
                for both in zip(hires, times, strict=True)
            ]
        )
        return cls(
            jobs=sum(len(group) for group in hires),
            raw=raw_medians,
            wallets=wallet_medians,
            hire=hire_medians,
            result_visible=visible,
            books_closed=closed,
            ratio=_ratio(hire_medians, raw_medians),
            ratio_to_wallets=_ratio(hire_medians, wallet_medians),
            ratio_result_visible=_ratio(visible, raw_medians),
            raw_steps=_raw_steps([marks for group in raw for marks in group]),
            hire_steps=tuple(median_steps([time for group in times for time in group])),
        )


@dataclass(frozen=True, slots=True)
class CpuPerJob:
    """Milliseconds of processor time per job, by process."""

    milliseconds: dict[str, float]

    @classmethod
    def of(cls, reading: CpuReading, *, jobs: int) -> Self:
        return cls({name: 1_000 * seconds / jobs for name, seconds in reading.seconds.items()})

    @property
    def total(self) -> float:
        return sum(self.milliseconds.values())


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Jobs per second at one concurrency."""

    buyers: int
    jobs: int
    raw: Spread
    hire: Spread
    ratio: Spread
    hire_seconds: float
    cpu_raw: CpuPerJob
    cpu_hire: CpuPerJob
    steps: tuple[JobTimes, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that one run found."""

    surroundings: Surroundings
    terms: RawTerms
    latency: LatencyResult
    loads: tuple[LoadResult, ...]
    cpu_total: float
    load_average: str


def show(results: Results) -> None:
    """Print the run for people."""
    screen = Console(width=118, highlight=False)
    here = results.surroundings
    screen.rule("Lightwork: one hire against the same wrapped escrow done raw")
    screen.print(
        f"[bold]{here.cores} cores shared by ALL of it[/]: bitcoind, three LND nodes, broker, runner, and the "
        "client that plays every buyer and the raw peer. Compare ratios, not absolute numbers."
    )
    for name, value in (
        ("machine", f"{here.machine}, Python {here.python}, load average at the end {results.load_average}"),
        ("lightwork", f"{here.lightwork} ({here.commit})"),
        ("nodes", f"LND {here.lnd}; {here.bitcoind}; {here.lnd_settings}"),
        ("channels", here.channels + "; one block mined before each pair of rounds"),
        ("broker", here.broker_database),
        (
            "a job",
            f"price {results.terms.price_msat:,} msat, buyer pays {results.terms.total_msat:,} msat, "
            f"hold CLTV {results.terms.hold_cltv} blocks; the raw peer moves and locks the same",
        ),
        (
            "raw",
            "gRPC on all three nodes: AddInvoice, AddHoldInvoice, SendPaymentV2, subscribe, SendPaymentV2, settle",
        ),
        (
            "raw, wallets",
            "the same, provider's invoice and buyer's payment through the SDK's wallet (LND REST)",
        ),
        (
            "hire",
            "SDK to a broker process and a runner process: signed HTTP, SQLite, every check, result delivered",
        ),
    ):
        screen.print(f"  {name:<13} {value}")
    _show_latency(screen, results.latency)
    _show_loads(screen, results.loads)
    _show_cpu(screen, results.loads)
    _show_verdict(screen, results)


def _show_latency(screen: Console, found: LatencyResult) -> None:
    table = Table(
        "one job at a time",
        "median",
        "least..most",
        "to raw",
        "least..most",
        title=f"Latency: {len(found.raw.values)} repeats, {found.jobs} hires; medians of the repeats' medians",
        title_justify="left",
    )
    for name, spread, ratio in (
        ("raw escrow, gRPC", found.raw, None),
        ("raw escrow, SDK wallets", found.wallets, None),
        ("hire: result and proof of payment in hand", found.hire, found.ratio),
        ("hire: the same, to raw with SDK wallets", found.hire, found.ratio_to_wallets),
        ("hire: result visible to the buyer", found.result_visible, found.ratio_result_visible),
        ("hire: settled in the broker's books", found.books_closed, None),
    ):
        table.add_row(
            name,
            f"{1_000 * spread.median:.0f} ms",
            f"{1_000 * spread.least:.0f}..{1_000 * spread.most:.0f}",
            f"[bold]{ratio.median:.2f}[/]" if ratio else "",
            f"{ratio.least:.2f}..{ratio.most:.2f}" if ratio else "",
        )
    screen.print(table)
    steps = Table("step of a hire", "ms", "step of a raw escrow", "ms", title="Medians", title_justify="left")
    raw = [*zip(RAW_STEPS, found.raw_steps, strict=True)]
    for number, (name, seconds) in enumerate(found.hire_steps):
        other = raw[number] if number < len(raw) else ("", None)
        steps.add_row(
            name,
            f"{1_000 * seconds:.1f}",
            other[0],
            "" if other[1] is None else f"{1_000 * other[1]:.1f}",
        )
    screen.print(steps)


def _show_loads(screen: Console, loads: Sequence[LoadResult]) -> None:
    table = Table(
        "buyers",
        "jobs a round",
        "raw jobs/s",
        "least..most",
        "hired jobs/s",
        "least..most",
        "ratio",
        "least..most",
        "one hire",
        title="Throughput: closed loop, to result and proof in hand",
        title_justify="left",
    )
    for load in loads:
        table.add_row(
            str(load.buyers),
            f"{load.jobs} x {len(load.raw.values)}",
            f"{load.raw.median:.1f}",
            f"{load.raw.least:.1f}..{load.raw.most:.1f}",
            f"{load.hire.median:.1f}",
            f"{load.hire.least:.1f}..{load.hire.most:.1f}",
            f"[bold]{load.ratio.median:.2f}[/]",
            f"{load.ratio.least:.2f}..{load.ratio.most:.2f}",
            f"{1_000 * load.hire_seconds:.0f} ms",
        )
    screen.print(table)


def _show_cpu(screen: Console, loads: Sequence[LoadResult]) -> None:
    if not loads:
        return
    names = list(loads[0].cpu_raw.milliseconds)
    table = Table(
        "buyers",
        "",
        *names,
        "all",
        title="Processor time per job, ms (user and system)",
        title_justify="left",
    )
    for load in loads:
        for kind, cpu in (("raw", load.cpu_raw), ("hire", load.cpu_hire)):
            table.add_row(
                str(load.buyers),
                kind,
                *(f"{cpu.milliseconds[name]:.1f}" for name in names),
                f"[bold]{cpu.total:.1f}[/]",
            )
    screen.print(table)


def _show_verdict(screen: Console, results: Results) -> None:
    latency = results.latency.ratio.median
    screen.print(
        f"one hire / raw escrow: {latency:.2f} (goal <= {LATENCY_GOAL}): {_met(latency <= LATENCY_GOAL)}"
    )
    for load in results.loads:
        ratio = load.ratio.median
        screen.print(
            f"jobs/s, {load.buyers} buyers / raw at {load.buyers}: {ratio:.2f} (goal > {LOAD_GOAL}): "
            f"{_met(ratio > LOAD_GOAL)}"
        )


def as_document(results: Results) -> JsonValue:
    """Return every number of the run as JSON."""
    document = TypeAdapter(Results).dump_python(results, mode="json")
    for load in document["loads"]:
        del load["steps"]
    return document


def _met(reached: bool) -> str:
    return "[green]met[/]" if reached else "[red]MISSED[/]"


def _medians(groups: Sequence[Sequence[float]]) -> Spread:
    return Spread(tuple(median(group) for group in groups))


def _ratio(ours: Spread, theirs: Spread) -> Spread:
    return Spread(tuple(a / b for a, b in zip(ours.values, theirs.values, strict=True)))


def _raw_steps(marks: Sequence[RawMarks]) -> tuple[float, ...]:
    return (
        median(m.invoiced - m.begun for m in marks),
        median(m.held - m.invoiced for m in marks),
        median(m.accepted - m.held for m in marks),
        median(m.paid_on - m.accepted for m in marks),
        median(m.settled - m.paid_on for m in marks),
        median(m.ended - m.settled for m in marks),
    )
