"""On what a run took place: machine, versions, nodes, channels, databases."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version
from pathlib import Path

from report import Surroundings

from lightwork_regtest import Network


def look_around(network: Network, database: Path) -> Surroundings:
    """Describe the run. What cannot be read from a running program is marked as its default or as set."""
    node = network.node("broker")
    channels = node.channels()
    capacities = sorted({channel.capacity for channel in channels})
    by_peer = sorted(
        sum(channel.remote_pubkey == network.node(name).pubkey for channel in channels)
        for name in ("buyer", "provider")
    )
    return Surroundings(
        cores=len(os.sched_getaffinity(0)),
        machine=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        lightwork=version("lightwork"),
        commit=_commit(),
        lnd=node.info().version,
        bitcoind=_bitcoind(network),
        channels=f"{'/'.join(map(str, by_peer))} on the two hops, "
        f"{'/'.join(f'{capacity:,}' for capacity in capacities)} sat each",
        lnd_settings=_lnd_settings(node.description.folder / "lnd.conf"),
        broker_database=_pragmas(database),
    )


def _commit() -> str:
    asked = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def _bitcoind(network: Network) -> str:
    answer = network.bitcoind.rpc("getnetworkinfo")
    return str(answer["subversion"]).strip("/") if isinstance(answer, dict) else "unknown"


def _lnd_settings(config: Path) -> str:
    wanted = ("db.backend", "db.batch-commit-interval", "trickledelay")
    lines = dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)
    return ", ".join(f"{name}={lines[name]}" for name in wanted if name in lines) + (
        "; not set, so LND's defaults: commit timers (50 ms, 10 updates), sqlite synchronous"
    )


def _pragmas(database: Path) -> str:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    return (
        f"SQLite {sqlite3.sqlite_version}, journal {journal}; synchronous=FULL and BEGIN IMMEDIATE "
        "as db/engine.py sets them"
    )
