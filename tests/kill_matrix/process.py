"""A broker process inside this one: the real application, all of which ends at once when it is killed."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from kill_matrix.steps import Steps
from kill_matrix.stores import Store
from kill_matrix.virtual_time import LoopTime
from kill_matrix.watched import Killed, Life, WatchedNode
from kill_matrix.watched_server import watched

from lightwork_broker.app import Rooms, create_app
from lightwork_broker.clock import Clock
from lightwork_broker.db.engine import Database, DatabaseUnavailable
from lightwork_broker.errors import LightningDown
from lightwork_broker.lightning.errors import LightningError
from lightwork_broker.lightning.ports import LightningNode
from lightwork_broker.settings import BrokerSettings
from lightwork_broker.webhooks.outgoing import Outgoing

T = TypeVar("T")

RETRY_SECONDS = 1.0

_owner: contextvars.ContextVar[Process | None] = contextvars.ContextVar("kill_matrix_owner", default=None)


class Gone(Exception):
    """The process died before it answered."""


class Process:
    """One life of the broker. Its tasks are all that began in its context, whoever made them."""

    def __init__(
        self,
        node: LightningNode,
        *,
        settings: BrokerSettings,
        steps: Steps,
        database: Callable[[Life], Database],
        clock: Clock | None = None,
        outgoing: Callable[[Life], Outgoing] | None = None,
    ) -> None:
        self.life = Life(steps)
        self.failure: BaseException | None = None
        """What it died of, if it was not killed from outside."""
        self.ended = asyncio.Event()
        self.booted_in = 0.0
        self.rooms: Rooms | None = None
        self._database = database(self.life)
        self.app = create_app(
            settings,
            WatchedNode(node, life=self.life),
            clock=clock or LoopTime(),
            database=self._database,
            steady=asyncio.get_running_loop().time,
            outgoing=None if outgoing is None else outgoing(self.life),
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context = contextvars.copy_context()
        self._context.run(_owner.set, self)
        self._served: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Boot it, and return once it serves.

        Raises:
            Gone: it died at the start.
        """
        begun = time.perf_counter()
        main = self._spawn(self._live())
        main.add_done_callback(self._ended_by_itself)
        dying = asyncio.ensure_future(self.ended.wait())
        await asyncio.wait({self._served, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        self.booted_in = time.perf_counter() - begun
        if not self._served.done() or self.life.dead:
            raise Gone

    async def _live(self) -> None:
        async with self.app.router.lifespan_context(self.app):
            self.rooms = self.app.state.rooms
            self._served.set_result(None)
            await asyncio.Event().wait()

    def _ended_by_itself(self, main: asyncio.Task[Any]) -> None:
        if not main.cancelled():
            self.failure = main.exception()
        self.die()

    def die(self) -> None:
        """Let nothing of this process reach the world any more. It may be called by the process itself."""
        self.life.dead = True
        self.ended.set()

    async def bury(self) -> None:
        """Take away what a dead process leaves: its tasks and its connections."""
        self.die()
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.difference_update(tasks)
        await self._database.close()
        self._served.cancel()

    async def ask(self, call: Callable[[Rooms], Awaitable[T]]) -> T:
        """Let a client call this process.

        Raises:
            Gone: it died before it answered.
        """
        rooms = self.rooms
        if rooms is None or self.life.dead:
            raise Gone

        async def work() -> T:
            return await call(rooms)

        task = self._spawn(work())
        dying = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({task, dying}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dying.cancel()
            task.cancel()
        if self.life.dead:
            raise Gone
        try:
            return task.result()
        except Killed:
            raise Gone from None

    def own(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: who waits for it raises it, and the death of its process is no news

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        # A copy each, as a server gives each request: what one task notes in its context is not another's.
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())


def owned_task(loop: asyncio.AbstractEventLoop, work: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """Make a task, and tell the process in whose context it begins. This is the loop's task factory."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **kwargs)
    context: contextvars.Context | None = kwargs.get("context")
    owner = _owner.get() if context is None else context.get(_owner)
    if owner is not None:
        owner.own(task)
    return task


class Host:
    """The machine on which one broker process after the other runs. Clients call it, whichever runs."""

    def __init__(
        self, node: Callable[[], LightningNode], *, folder: Path, store: Store, steps: Steps
    ) -> None:
        self._node = node
        self._store = store
        self._settings = BrokerSettings(
            data_dir=folder, sweep_seconds=30, pay_seconds=60, forward_seconds=60, node_patience_seconds=5
        )
        self._steps = steps
        self._up = asyncio.Event()
        self.process: Process | None = None
        self.boots: list[float] = []

    async def start(self) -> None:
        """Start a process; it must come up."""
        self.process = Process(
            self._node(),
            settings=self._settings,
            steps=self._steps,
            database=lambda life: watched(str(self._store.place), life=life),
        )
        await self.process.start()
        self.boots.append(self.process.booted_in)
        self._up.set()

    async def stop(self) -> None:
        """Kill the process, if there is one."""
        self._up.clear()
        if self.process is not None:
            await self.process.bury()
            self.process = None
            self._store.cut()

    def die(self) -> None:
        """Kill the process from within: `Killed` is raised by what it does next."""
        self._up.clear()
        if self.process is not None:
            self.process.die()

    async def ask(self, call: Callable[[Rooms], Awaitable[T]]) -> T:
        """Call the broker again and again until one that lives, and whose node and database answer, has answered.

        Raises:
            BrokerError: what it refuses.
        """
        while True:
            await self._up.wait()
            process = self.process
            try:
                if process is None:
                    raise Gone
                return await process.ask(call)
            except Gone:
                await asyncio.sleep(0.05)
            except (LightningDown, LightningError, DatabaseUnavailable):
                await asyncio.sleep(RETRY_SECONDS)
