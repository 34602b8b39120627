"""The broker on real nodes, as a program that stops at one step so that somebody can be killed there.

The file KILL_PLAN holds the plan as JSON while there is one; without it, this is an honest broker. At the planned
step the program writes the file `struck` beside it and does nothing more until that file is gone: whoever reads it
kills this process (SIGKILL), or LND, and in that case takes the file away.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn
from kill_matrix.steps import STATE, Kind, Moment, Step, Steps, state_of
from kill_matrix.watched import AnswerLost, Life, WatchedDatabase, WatchedNode

from lightwork_broker.app import create_app
from lightwork_broker.cli import BrokerServer
from lightwork_broker.db.place import migrate
from lightwork_broker.lightning.lnd import LndSettings, open_node
from lightwork_broker.logs import configure
from lightwork_broker.settings import BrokerSettings

PLAN = "KILL_PLAN"
STRUCK = "struck"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to stop: at the first step of this name and moment in this state of the job.

    Steps of real nodes have no numbers that last: a poll more or less shifts them. Without a name, each step is
    written to `trace`. `after_job` is the last job of the runs before; each commit is kept when `keeps` is set.
    """

    id: str
    after_job: str = ""
    name: str = ""
    moment: str = ""
    state: str = ""
    kills_lnd: bool = False
    keeps: bool = False

    def write(self, path: Path) -> None:
        """Put the plan into force at once, whole."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(path)


class PlannedSteps(Steps):
    """Steps that are counted while there is a plan."""

    def __init__(self, plan: Path, *, database: Path) -> None:
        super().__init__(now=time.time)
        self._file = plan
        self._database = database
        self._plan = Plan(id="")

    def reach(self, kind: Kind, name: str, moment: Moment) -> None:
        try:
            text = self._file.read_text()
        except FileNotFoundError:
            return
        plan = Plan(**json.loads(text))
        if plan != self._plan:
            self._plan, self.commits = plan, 0
            self.taken.clear()
            self._keep()
        if kind is Kind.COMMIT and moment is Moment.AFTER:
            self.commits += 1
            self._keep()
        step = Step(
            len(self.taken) + 1, kind, name, moment, self.commits, time.time(), self._state(plan.after_job)
        )
        self.taken.append(step)
        if not plan.name:
            with self._file.with_name("trace").open("a") as trace:
                trace.write(json.dumps(asdict(step)) + "\n")
        elif (name, moment.value, step.state) == (plan.name, plan.moment, plan.state):
            self._stop(step, plan)

    def _stop(self, step: Step, plan: Plan) -> None:
        self._file.unlink()
        struck = self._file.with_name(STRUCK)
        struck.with_suffix(".draft").write_text(str(step.commits))
        struck.with_suffix(".draft").rename(struck)
        deadline = time.monotonic() + PATIENCE_SECONDS
        # The whole process stands still, as it would have ended here.
        while struck.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        if plan.kills_lnd and step.kind is Kind.CALL and step.moment is Moment.AFTER:
            raise AnswerLost

    def _keep(self) -> None:
        if not self._plan.keeps:
            return
        copy = self._file.with_name(f"commit-{self.commits}.sqlite")
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(self._database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)

    def _state(self, after_job: str) -> str:
        with closing(sqlite3.connect(self._database)) as look:
            return state_of(look.execute(STATE, (after_job,)).fetchone())


async def serve() -> None:
    """Serve until ended, as `lightwork broker run` does."""
    configure(as_json=False)
    settings = BrokerSettings()
    real = open_node(
        LndSettings(
            address=settings.lnd_address, tls_cert=settings.lnd_tls_cert, macaroon=settings.lnd_macaroon
        )
    )
    path = settings.directory() / "broker.sqlite"
    await asyncio.to_thread(migrate, str(path))
    life = Life(PlannedSteps(Path(os.environ[PLAN]), database=path))
    config = uvicorn.Config(
        create_app(settings, WatchedNode(real, life=life), database=WatchedDatabase(str(path), life=life)),
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        lifespan="on",
    )
    await BrokerServer(config).serve()


if __name__ == "__main__":
    sys.exit(asyncio.run(serve()))
