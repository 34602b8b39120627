"""`make chaos`: a market on real nodes at work while broker, LND and bitcoind are killed at random for minutes.

Exit codes: 0 nothing lost, 1 a sat was lost or anything does not add up, 3 void: LND broke its own channel.
`ARGS="--minutes 3 --seed 7"` repeats a run in kind.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

from chaos.evidence import keep_words
from chaos.ground import Void
from chaos.play import Options, play
from chaos.report import as_json, print_report, say
from e2e_stage import NODES
from regtest_network import fresh_network

VOID = 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long things are killed")
    parser.add_argument(
        "--seed", type=int, default=None, help="repeats a run in kind; at random if not given"
    )
    parser.add_argument("--buyers", type=int, default=6)
    parser.add_argument("--brokers", type=int, default=1, choices=(1, 2), help="2 need --database postgres")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--calm", type=float, default=1.0, help="more than 1: longer pauses between strikes")
    parser.add_argument(
        "--keep", type=Path, default=None, help="keep the brokers' and nodes' logs and last words there"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    given = parser.parse_args(arguments)
    if given.brokers > 1 and given.database != "postgres":
        parser.error("two brokers need a database that they can share: --database postgres")
    # What clients say while a broker is away is no news here.
    logging.basicConfig(level=logging.CRITICAL)
    options = Options(
        seed=random.randrange(1_000_000) if given.seed is None else given.seed,
        minutes=given.minutes,
        buyers=given.buyers,
        brokers=given.brokers,
        database=given.database,
        calm=given.calm,
    )
    say(f"chaos with seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="lightwork-chaos-") as place:
        folder = Path(place)
        with fresh_network(folder / "network") as network:
            try:
                run = asyncio.run(play(network, folder, options))
            except Void as error:
                say(
                    f"void: {error}\nThe books are sound, but where the money is cannot be said. Take another seed."
                )
                return VOID
            finally:
                if given.keep is not None:
                    _keep(network.folder / "logs", folder, given.keep)
                    for name in NODES:
                        keep_words(network.node(name), given.keep / "nodes")
    if given.json:
        print(as_json(run))
    else:
        print_report(run)
    return int(bool(run.breaches))


def _keep(logs: Path, folder: Path, target: Path) -> None:
    shutil.copytree(logs, target / "nodes", dirs_exist_ok=True)
    for broker in folder.glob("broker*"):
        shutil.copytree(broker, target / broker.name, dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main())
