"""Processor time of processes, as Linux counts it in /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Seconds of processor time (user and system) by the name of the process."""

    seconds: Mapping[str, float]

    def since(self, before: CpuReading) -> CpuReading:
        return CpuReading({name: value - before.seconds[name] for name, value in self.seconds.items()})

    def plus(self, other: CpuReading) -> CpuReading:
        return CpuReading({name: value + other.seconds[name] for name, value in self.seconds.items()})


class CpuClock:
    """Reads the processor time of some processes, all threads included. One tick is 10 ms on most machines."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)

    def read(self) -> CpuReading:
        return CpuReading({name: _seconds(pid) for name, pid in self.pids.items()})

    def zero(self) -> CpuReading:
        return CpuReading(dict.fromkeys(self.pids, 0.0))


def _seconds(pid: int) -> float:
    # The name in brackets may hold spaces; utime and stime are fields 14 and 15 of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def other_load() -> str:
    """The load averages of the machine, for a reader to see who else was at work."""
    return ", ".join(f"{value:.1f}" for value in os.getloadavg())
